package listener

import (
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/weirdns/weir/host/message"
)

// Metrics are what listeners count, for all listeners of a process. Labels are the configured address and the transport, never anything that
// a client sent.
type Metrics struct {
	off bool

	mu       sync.Mutex // guards following
	tally    map[label]*tallies
	inFlight map[label][]*quota // of those that serve

	malformed, truncated, shed, panics *prometheus.CounterVec

	ede         *prometheus.CounterVec
	connections *prometheus.GaugeVec
	refused     *prometheus.CounterVec
	handshakes  *prometheus.CounterVec
	expires     *prometheus.GaugeVec
}

// NewMetrics registers the metrics with reg; with nil they are counted and shown to nobody.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	f := promauto.With(reg)
	counter := func(name, help string, more ...string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Namespace: "weir", Subsystem: "listener", Name: name, Help: help},
			append([]string{"listener", "transport"}, more...))
	}
	m := &Metrics{
		tally: make(map[label]*tallies), inFlight: make(map[label][]*quota),
		malformed: counter("malformed_total", "Queries refused by the parser: FORMERR, NOTIMP, BADVERS, and REFUSED for transactions a proxy can't do."),
		truncated: counter("truncated_total", "Responses with TC set because they were too large."),
		shed:      counter("shed_total", "UDP queries that were not waited for because too many were."),
		panics:    counter("panics_total", "Panics while a query was handled; each cost that query."),
		ede:       counter("ede_total", "Responses with an Extended DNS Error (RFC 8914), by the INFO-CODE of the first.", "code"),
		refused:   counter("connections_refused_total", "Connections closed because there were too many: new ones, or the one idle longest.", "reason"),
		connections: f.NewGaugeVec(prometheus.GaugeOpts{Namespace: "weir", Subsystem: "listener", Name: "connections",
			Help: "Open connections."}, []string{"listener", "transport"}),
	}
	m.handshakes = counter("handshakes_total", "Handshakes of TLS: whole, resumed, or failed.", "result")
	m.expires = f.NewGaugeVec(prometheus.GaugeOpts{Namespace: "weir", Subsystem: "listener", Name: "certificate_expiry_timestamp_seconds",
		Help: "When the certificate in use expires."}, []string{"listener"})
	if reg != nil {
		reg.MustRegister(m)
	}
	return m
}

// Unmeasured returns metrics that count nothing. They are for measuring what counting costs.
func Unmeasured() *Metrics { return &Metrics{off: true} }

// nothing is a metric of Unmeasured.
type nothing struct{}

func (nothing) Inc() {}
func (nothing) Dec() {}

func (nothing) Set(float64) {}

// counter and gauge have only the methods that are called here.
type (
	counter interface{ Inc() }
	gauge   interface {
		Inc()
		Dec()
	}
	settable interface{ Set(float64) }
)

// shownEDEs is how many INFO-CODEs, from 0 on, have a series of their own: all that IANA has registered.
const shownEDEs = 31

// counters are the metrics of one transport of one listener. They are looked up once: a lookup by labels costs more than all else that
// happens to a query here.
type counters struct {
	*tallies // nil: nothing is counted

	malformed, truncated, shed, panics counter

	ede                    [shownEDEs + 1]atomic.Pointer[counter] // by code, the last one for all others; made when there is one
	newEDE                 func(code string) counter
	connections            gauge
	evicted, refused       counter
	whole, resumed, failed counter // handshakes
}

// expiry is when the certificate of a listener expires.
func (m *Metrics) expiry(listener string) settable {
	if m.off {
		return nothing{}
	}
	return m.expires.WithLabelValues(listener)
}

func (m *Metrics) of(listener string, transport message.Transport) *counters {
	if m.off {
		return uncounted()
	}
	t := transport.String()
	c := &counters{
		tallies:   m.tallies(label{listener, t}),
		malformed: m.malformed.WithLabelValues(listener, t), truncated: m.truncated.WithLabelValues(listener, t),
		shed: m.shed.WithLabelValues(listener, t), panics: m.panics.WithLabelValues(listener, t),
		newEDE: func(code string) counter { return m.ede.WithLabelValues(listener, t, code) },
	}
	if transport != message.UDP {
		c.connections = m.connections.WithLabelValues(listener, t)
		c.evicted, c.refused = m.refused.WithLabelValues(listener, t, "idle"), m.refused.WithLabelValues(listener, t, "limit")
	}
	if transport > message.TCP {
		handshakes := func(result string) counter { return m.handshakes.WithLabelValues(listener, t, result) }
		c.whole, c.resumed, c.failed = handshakes("whole"), handshakes("resumed"), handshakes("failed")
	}
	return c
}

// uncounted are counters that count nothing.
func uncounted() *counters {
	var n nothing
	return &counters{
		malformed: n, truncated: n, shed: n, panics: n, connections: n, evicted: n, refused: n,
		whole: n, resumed: n, failed: n,
		newEDE: func(string) counter { return n },
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
		made := c.newEDE(name) // the same for all who ask at a time
		p = &made
		c.ede[n].Store(p)
	}
	(*p).Inc()
}
