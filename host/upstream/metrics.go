package upstream

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/weirdns/weir/host/message"
)

// Metrics are the metrics of all groups, told apart by the label upstream, and by server where that makes sense. They are made once
// and live through reloads.
type Metrics struct {
	inFlight   *prometheus.GaugeVec
	overLimit  *prometheus.CounterVec
	panics     *prometheus.CounterVec
	queries    *prometheus.CounterVec
	responses  *prometheus.CounterVec
	failures   *prometheus.CounterVec
	mismatches *prometheus.CounterVec
	retries    *prometheus.CounterVec
	fallbacks  *prometheus.CounterVec
	healthy    *prometheus.GaugeVec
	rtt        *prometheus.HistogramVec
}

// NewMetrics makes the metrics and registers them. A nil reg leaves them unregistered.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	auto := promauto.With(reg)
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return auto.NewCounterVec(prometheus.CounterOpts{Namespace: "weir", Subsystem: "upstream", Name: name, Help: help}, labels)
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return auto.NewGaugeVec(prometheus.GaugeOpts{Namespace: "weir", Subsystem: "upstream", Name: name, Help: help}, labels)
	}
	return &Metrics{
		inFlight:   gauge("in_flight", "Queries that wait for the group.", "upstream"),
		overLimit:  counter("over_limit_total", "Queries above max_concurrent.", "upstream"),
		panics:     counter("panics_total", "Panics; each cost the query or the connection that met it.", "upstream"),
		queries:    counter("queries_total", "Messages sent to a server, retries and probes included.", "upstream", "server", "transport"),
		responses:  counter("responses_total", "Responses that match, by RCODE.", "upstream", "server", "rcode"),
		failures:   counter("failures_total", "Tries without a response, by cause.", "upstream", "server", "cause"),
		mismatches: counter("mismatches_total", "Messages received that do not match a query.", "upstream", "server"),
		retries:    counter("retries_total", "Tries after the first of a query.", "upstream", "server"),
		fallbacks:  counter("tcp_fallbacks_total", "Queries that went from UDP to TCP, by reason.", "upstream", "server", "reason"),
		healthy:    gauge("healthy", "1 when a server is up, 0 when it is down.", "upstream", "server"),
		rtt: auto.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "weir", Subsystem: "upstream", Name: "rtt_seconds", Help: "Time from a query sent to its response.",
			Buckets: prometheus.ExponentialBuckets(0.00025, 2, 14),
		}, []string{"upstream", "server"}),
	}
}

// The causes of failures, and the reasons to go from UDP to TCP.
const (
	causeTimeout     = iota // no response in time
	causeUnreachable        // ICMP error, connection refused, no route, no socket
	causeHandshake          // TLS: no version in common, or a certificate that won't do
	causeStatus             // an HTTP response without a DNS response in it
	causeBroken             // a connection that ended before the response
	causeRCODE              // a response with an RCODE that healthy_rcodes does not list
	causeLoop               // what it is asked comes back to weir
	causes
)

const (
	reasonTruncated = iota
	reasonMismatches
	reasonCase
	reasonCookie
	reasons
)

var (
	causeNames  = [causes]string{"timeout", "unreachable", "handshake", "status", "broken", "rcode", "loop"}
	reasonNames = [reasons]string{"truncated", "mismatches", "case", "cookie"}
)

// serverMetrics are the metrics of one server with their labels filled in, which on the query path would cost a hash each.
type serverMetrics struct {
	queries             [len(transportNames)]prometheus.Counter // by transport, Auto has none
	responses           [message.REFUSED + 2]prometheus.Counter // the last one is for all other RCODEs
	failures            [causes]prometheus.Counter
	fallbacks           [reasons]prometheus.Counter
	mismatches, retries prometheus.Counter
	healthy             prometheus.Gauge
	rtt                 prometheus.Observer
}

// server returns the metrics of a server. What it can't do with its transport is not among them.
func (m *Metrics) server(group, server string, transport Transport) *serverMetrics {
	s := &serverMetrics{
		mismatches: m.mismatches.WithLabelValues(group, server),
		retries:    m.retries.WithLabelValues(group, server),
		healthy:    m.healthy.WithLabelValues(group, server),
		rtt:        m.rtt.WithLabelValues(group, server),
	}
	for over := UDP; int(over) < len(s.queries); over++ {
		if over == transport || transport == Auto && !over.encrypted() {
			s.queries[over] = m.queries.WithLabelValues(group, server, over.String())
		}
	}
	for i := range s.responses {
		name := "other"
		if i <= message.REFUSED {
			name = message.RCODEString(uint16(i))
		}
		s.responses[i] = m.responses.WithLabelValues(group, server, name)
	}
	for i, name := range causeNames {
		s.failures[i] = m.failures.WithLabelValues(group, server, name)
	}
	for i, name := range reasonNames {
		s.fallbacks[i] = m.fallbacks.WithLabelValues(group, server, name)
	}
	return s
}

// forget drops the metrics of a server that is gone, so that addresses which come and go in a resolv.conf don't pile up.
func (m *Metrics) forget(group, server string) {
	labels := prometheus.Labels{"upstream": group, "server": server}
	for _, vec := range []interface {
		DeletePartialMatch(prometheus.Labels) int
	}{m.queries, m.responses, m.failures, m.mismatches, m.retries, m.fallbacks, m.healthy, m.rtt} {
		vec.DeletePartialMatch(labels)
	}
}
