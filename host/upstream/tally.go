package upstream

import (
	"math/bits"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weirdns/weir/host/message"
)

// What every query counts is counted here, and not in metrics of the Prometheus library: there the time of a response alone is five atomic
// operations and a search, and a gauge is a loop around one. Who asks for the metrics gets the sums.

// rttBuckets are the buckets of round trip times, each twice as long as the one before, but for a last one without a bound.
const (
	rttBuckets = 15
	rttFirst   = 250 * time.Microsecond
)

// A response of which nobody knows how long it took, since a connection was opened for it, took unknown, and is counted in place untimed.
const (
	unknown = time.Duration(-1)
	untimed = rttBuckets
)

// otherRCODE is the place of the RCODEs that have no series of their own.
const otherRCODE = message.REFUSED + 1

// tally is what is counted for one server.
type tally struct {
	transports uint16 // bits: those that it may be asked over. Metrics.mu guards it

	queries   [len(transportNames)]atomic.Uint64 // by transport
	responses [otherRCODE + 1][rttBuckets + 1]atomic.Uint64
	rtt       atomic.Uint64 // the sum, in nanoseconds
}

// response counts a response, with batch if that is not nil.
func (y *tally) response(batch *message.Batch, rcode uint16, took time.Duration) {
	place := untimed
	if took != unknown {
		place = rttBucket(took)
		batch.Count(&y.rtt, uint64(max(took, 0)))
	}
	batch.Count(&y.responses[min(rcode, otherRCODE)][place], 1)
}

// rttBucket is the bucket for a time, which is at most its bound.
func rttBucket(took time.Duration) int {
	return min(bits.Len64(uint64(max(0, took-1)/rttFirst)), rttBuckets-1)
}

// labels tell tallies apart.
type labels struct{ upstream, server string }

var (
	descInFlight  = desc("in_flight", "Queries that wait for the group, or for the one of its name before a reload; max_concurrent limits it.", "upstream")
	descQueries   = desc("queries_total", "Messages sent to a server, retries and probes included.", "upstream", "server", "transport")
	descResponses = desc("responses_total", "Responses that match, by RCODE.", "upstream", "server", "rcode")
	descRTT       = desc("rtt_seconds", "Time from a query sent to its response.", "upstream", "server")
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("weir_upstream_"+name, help, labels, nil)
}

// tally returns that of a server which is asked over transport, the same one for all who ask.
func (m *Metrics) tally(l labels, transport Transport) *tally {
	m.mu.Lock()
	defer m.mu.Unlock()
	y := m.tallies[l]
	if y == nil {
		y = new(tally)
		m.tallies[l] = y
	}
	for over := range y.queries {
		if over := Transport(over); over != Auto && (over == transport || transport == Auto && !over.encrypted()) {
			y.transports |= 1 << over
		}
	}
	return y
}

// inFlight is where a group counts the queries that wait for it, the same place as that of an older group of the name.
func (m *Metrics) inFlight(group string) *atomic.Int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.waiting[group]
	if n == nil {
		n = new(atomic.Int64)
		m.waiting[group] = n
	}
	return n
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descInFlight, descQueries, descResponses, descRTT} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(out chan<- prometheus.Metric) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for group, n := range m.waiting {
		out <- prometheus.MustNewConstMetric(descInFlight, prometheus.GaugeValue, float64(n.Load()), group)
	}
	for l, y := range m.tallies {
		y.collect(l, out)
	}
}

func (y *tally) collect(l labels, out chan<- prometheus.Metric) {
	count := func(d *prometheus.Desc, n uint64, label string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), l.upstream, l.server, label)
	}
	for over := range y.queries {
		if y.transports>>over&1 != 0 {
			count(descQueries, y.queries[over].Load(), Transport(over).String())
		}
	}
	var timed [rttBuckets]uint64
	for rcode := range y.responses {
		total := y.responses[rcode][untimed].Load()
		for i := range timed {
			n := y.responses[rcode][i].Load()
			timed[i] += n
			total += n
		}
		name := "other"
		if rcode != otherRCODE {
			name = message.RCODEString(uint16(rcode))
		}
		count(descResponses, total, name)
	}
	buckets, below := make(map[float64]uint64, rttBuckets), uint64(0)
	for i, n := range timed {
		if below += n; i < rttBuckets-1 {
			buckets[(rttFirst << i).Seconds()] = below
		}
	}
	out <- prometheus.MustNewConstHistogram(descRTT, below, time.Duration(y.rtt.Load()).Seconds(), buckets, l.upstream, l.server)
}
