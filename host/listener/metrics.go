package listener

import (
	"strconv"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/weirdns/weir/host/message"
)

// Metrics are what listeners count, for all listeners of a process. Labels are the configured address and the transport, never anything that
// a client sent.
type Metrics struct {
	queries, dropped, ignored, malformed, truncated, shed, panics *prometheus.CounterVec

	responses   *prometheus.CounterVec
	ede         *prometheus.CounterVec
	duration    *prometheus.HistogramVec
	octets      *prometheus.HistogramVec
	inFlight    *prometheus.GaugeVec
	connections *prometheus.GaugeVec
	refused     *prometheus.CounterVec
}

// NewMetrics registers the metrics with reg; with nil they are counted and shown to nobody.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	f := promauto.With(reg)
	counter := func(name, help string, more ...string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Namespace: "weir", Subsystem: "listener", Name: name, Help: help},
			append([]string{"listener", "transport"}, more...))
	}
	return &Metrics{
		queries:   counter("queries_total", "Messages received."),
		dropped:   counter("dropped_total", "Queries that a filter left without a response."),
		ignored:   counter("ignored_total", "Messages without a response because they are no query: shorter than a header, or responses."),
		malformed: counter("malformed_total", "Queries refused by the parser: FORMERR, NOTIMP, BADVERS, and REFUSED for transactions a proxy can't do."),
		truncated: counter("truncated_total", "Responses with TC set because they were too large."),
		shed:      counter("shed_total", "UDP queries that were not waited for because too many were."),
		panics:    counter("panics_total", "Panics while a query was handled; each cost that query."),
		responses: counter("responses_total", "Responses by RCODE.", "rcode"),
		ede:       counter("ede_total", "Responses with an Extended DNS Error (RFC 8914), by the INFO-CODE of the first.", "code"),
		refused:   counter("connections_refused_total", "Connections closed because there were too many: new ones, or the one idle longest.", "reason"),
		duration: f.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "weir", Subsystem: "listener", Name: "duration_seconds", Help: "From the query to its response.",
			Buckets: []float64{10e-6, 25e-6, 50e-6, 100e-6, 250e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3, 1, 2},
		}, []string{"listener", "transport"}),
		octets: f.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "weir", Subsystem: "listener", Name: "response_octets", Help: "Size of responses.",
			Buckets: []float64{64, 128, 256, 512, 1232, 4096, 16384},
		}, []string{"listener", "transport"}),
		inFlight: f.NewGaugeVec(prometheus.GaugeOpts{Namespace: "weir", Subsystem: "listener", Name: "in_flight",
			Help: "Queries being waited for."}, []string{"listener", "transport"}),
		connections: f.NewGaugeVec(prometheus.GaugeOpts{Namespace: "weir", Subsystem: "listener", Name: "connections",
			Help: "Open connections."}, []string{"listener", "transport"}),
	}
}

// shownRCODEs have a series of their own; all others share one.
var shownRCODEs = [...]uint16{message.NOERROR, message.FORMERR, message.SERVFAIL, message.NXDOMAIN, message.NOTIMP, message.REFUSED, message.BADVERS}

// shownEDEs is how many INFO-CODEs, from 0 on, have a series of their own: all that IANA has registered.
const shownEDEs = 31

// counters are the metrics of one transport of one listener. They are looked up once: a lookup by labels costs more than all else that
// happens to a query here.
type counters struct {
	queries, dropped, ignored, malformed, truncated, shed, panics prometheus.Counter

	responses             [17]prometheus.Counter
	otherRCODE            prometheus.Counter
	ede                   [shownEDEs + 1]atomic.Pointer[prometheus.Counter] // by code, the last one for all others; made when there is one
	newEDE                func(code string) prometheus.Counter
	duration, octets      prometheus.Observer
	inFlight, connections prometheus.Gauge
	evicted, refused      prometheus.Counter
}

func (m *Metrics) of(listener string, transport message.Transport) *counters {
	t := transport.String()
	c := &counters{
		queries: m.queries.WithLabelValues(listener, t), dropped: m.dropped.WithLabelValues(listener, t),
		ignored: m.ignored.WithLabelValues(listener, t), malformed: m.malformed.WithLabelValues(listener, t),
		truncated: m.truncated.WithLabelValues(listener, t), shed: m.shed.WithLabelValues(listener, t),
		panics:   m.panics.WithLabelValues(listener, t),
		duration: m.duration.WithLabelValues(listener, t), inFlight: m.inFlight.WithLabelValues(listener, t),
		otherRCODE: m.responses.WithLabelValues(listener, t, "other"), octets: m.octets.WithLabelValues(listener, t),
		newEDE: func(code string) prometheus.Counter { return m.ede.WithLabelValues(listener, t, code) },
	}
	for _, rcode := range shownRCODEs {
		c.responses[rcode] = m.responses.WithLabelValues(listener, t, message.RCODEString(rcode))
	}
	for i := range c.responses {
		if c.responses[i] == nil {
			c.responses[i] = c.otherRCODE
		}
	}
	if transport != message.UDP {
		c.connections = m.connections.WithLabelValues(listener, t)
		c.evicted, c.refused = m.refused.WithLabelValues(listener, t, "idle"), m.refused.WithLabelValues(listener, t, "limit")
	}
	return c
}

func (c *counters) response(rcode uint16) {
	if int(rcode) < len(c.responses) {
		c.responses[rcode].Inc()
	} else {
		c.otherRCODE.Inc()
	}
}

// explained counts a response with an Extended DNS Error.
func (c *counters) explained(code uint16) {
	n := min(int(code), shownEDEs)
	p := c.ede[n].Load()
	if p == nil {
		name := "other"
		if n < shownEDEs {
			name = strconv.Itoa(n)
		}
		counter := c.newEDE(name) // the same for all who ask at a time
		p = &counter
		c.ede[n].Store(p)
	}
	(*p).Inc()
}
