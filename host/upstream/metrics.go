package upstream

import (
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics are the metrics of all groups, told apart by the label upstream, and by server where that makes sense. They are made once
// and live through reloads.
type Metrics struct {
	mu      sync.Mutex // guards following
	tallies map[labels]*tally
	waiting map[string]*atomic.Int64 // by group

	overLimit  *prometheus.CounterVec
	overShare  *prometheus.CounterVec
	panics     *prometheus.CounterVec
	failures   *prometheus.CounterVec
	mismatches *prometheus.CounterVec
	retries    *prometheus.CounterVec
	fallbacks  *prometheus.CounterVec
	healthy    *prometheus.GaugeVec
}

// NewMetrics makes the metrics and registers them. A nil reg leaves them unregistered.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	auto := promauto.With(reg)
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return auto.NewCounterVec(prometheus.CounterOpts{Namespace: "weir", Subsystem: "upstream", Name: name, Help: help}, labels)
	}
	m := &Metrics{
		tallies: make(map[labels]*tally), waiting: make(map[string]*atomic.Int64),
		overLimit:  counter("over_limit_total", "Queries above max_concurrent.", "upstream"),
		overShare:  counter("over_share_total", "Queries refused since their clients had taken their share of max_concurrent.", "upstream"),
		panics:     counter("panics_total", "Panics; each cost the query or the connection that met it.", "upstream"),
		failures:   counter("failures_total", "Tries without a response, by cause; with loop, those that were not made, too, since it was known.", "upstream", "server", "cause"),
		mismatches: counter("mismatches_total", "Messages received that do not match a query.", "upstream", "server"),
		retries:    counter("retries_total", "Tries after the first of a query.", "upstream", "server"),
		fallbacks:  counter("tcp_fallbacks_total", "Queries that went from UDP to TCP, by reason.", "upstream", "server", "reason"),
		healthy: auto.NewGaugeVec(prometheus.GaugeOpts{Namespace: "weir", Subsystem: "upstream", Name: "healthy",
			Help: "1 when a server is up, 0 when it is down."}, []string{"upstream", "server"}),
	}
	if reg != nil {
		reg.MustRegister(m)
	}
	return m
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
	*tally
	failures            [causes]prometheus.Counter
	fallbacks           [reasons]prometheus.Counter
	mismatches, retries prometheus.Counter
	healthy             prometheus.Gauge
}

// server returns the metrics of a server. What it can't do with its transport is not among them.
func (m *Metrics) server(group, server string, transport Transport) *serverMetrics {
	s := &serverMetrics{
		tally:      m.tally(labels{group, server}, transport),
		mismatches: m.mismatches.WithLabelValues(group, server),
		retries:    m.retries.WithLabelValues(group, server),
		healthy:    m.healthy.WithLabelValues(group, server),
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
	match := prometheus.Labels{"upstream": group, "server": server}
	for _, vec := range []interface {
		DeletePartialMatch(prometheus.Labels) int
	}{m.failures, m.mismatches, m.retries, m.fallbacks, m.healthy} {
		vec.DeletePartialMatch(match)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.tallies, labels{group, server})
}

// forgetGroup drops the metrics of a group that is gone, but for those of its servers.
func (m *Metrics) forgetGroup(group string) {
	m.overLimit.DeleteLabelValues(group)
	m.overShare.DeleteLabelValues(group)
	m.panics.DeleteLabelValues(group)
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.waiting, group)
}
