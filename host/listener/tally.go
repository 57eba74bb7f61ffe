package listener

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weirdns/weir/host/chain"
	"github.com/weirdns/weir/host/cookie"
	"github.com/weirdns/weir/host/message"
)

// What is counted for each query is counted here and not in metrics of the Prometheus library: those are shared by all who count, and a cache
// line that goes to and fro between two processors costs as much as the query's way through a filter. So there are several sets of numbers, each
// exchange has its place in one of them, and who asks for the metrics gets the sums.

// shownRCODEs have a series of their own; all others share one.
var shownRCODEs = [...]uint16{message.NOERROR, message.FORMERR, message.SERVFAIL, message.NXDOMAIN, message.NOTIMP, message.REFUSED, message.BADVERS}

// Upper bounds of the buckets.
var (
	durationBounds = [...]time.Duration{
		10 * time.Microsecond, 25 * time.Microsecond, 50 * time.Microsecond, 100 * time.Microsecond, 250 * time.Microsecond, time.Millisecond,
		2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond,
		250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second,
	}
	octetsBounds = [...]int{64, 128, 256, 512, 1232, 4096, 16384}
)

// tally is one set of numbers. A response is counted in one place for its RCODE, its time and its size: an atomic addition takes 10 ns.
type tally struct {
	responses [len(shownRCODEs) + 1][len(durationBounds) + 1][len(octetsBounds) + 1]atomic.Uint64
	duration  atomic.Uint64 // sum, in nanoseconds
	octets    atomic.Uint64
	dropped   atomic.Uint64 // by a filter
	ignored   atomic.Uint64
	cookies   [cookie.States]atomic.Uint64
	limited   [limitedKinds]atomic.Uint64
	_         [64]byte // no cache line is shared with the next one
}

// tallies are the sets of one transport of one listener.
type tallies [chain.Shards]tally

// response counts a response, with batch if that is not nil.
func (t *tally) response(batch *message.Batch, rcode uint16, octets int, took time.Duration) {
	r, d, o := 0, 0, 0
	for r < len(shownRCODEs) && rcode != shownRCODEs[r] {
		r++
	}
	for d < len(durationBounds) && took > durationBounds[d] {
		d++
	}
	for o < len(octetsBounds) && octets > octetsBounds[o] {
		o++
	}
	batch.Count(&t.responses[r][d][o], 1)
	batch.Count(&t.duration, uint64(max(took, 0)))
	batch.Count(&t.octets, uint64(octets))
}

// label tells tallies apart.
type label struct{ listener, transport string }

// tallies returns the sets for a label, the same ones for a listener that takes over from another.
func (m *Metrics) tallies(l label) *tallies {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.tally[l] == nil {
		m.tally[l] = new(tallies)
	}
	return m.tally[l]
}

// serves has what waits in a quota counted for a label, until it does not any more: there may be several, while one listener takes over from another.
func (m *Metrics) serves(l label, q *quota, yes bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.off:
	case yes:
		m.inFlight[l] = append(m.inFlight[l], q)
	default:
		m.inFlight[l] = slices.DeleteFunc(m.inFlight[l], func(other *quota) bool { return other == q })
	}
}

var (
	descInFlight  = desc("in_flight", "Queries being waited for.")
	descQueries   = desc("queries_total", "Messages received, when they have been dealt with.")
	descDropped   = desc("dropped_total", "Queries that a filter left without a response.")
	descIgnored   = desc("ignored_total", "Messages without a response because they are no query: shorter than a header, or responses.")
	descCookies   = desc("cookies_total", "Queries with a DNS cookie (RFC 7873), by what it says.", "state")
	descLimited   = desc("rate_limited_total", "Queries of networks that had had what rate_limit gives them, by what became of them.", "action")
	descResponses = desc("responses_total", "Responses by RCODE.", "rcode")
	descDuration  = desc("duration_seconds", "From the query to its response.")
	descOctets    = desc("response_octets", "Size of responses.")
)

func desc(name, help string, more ...string) *prometheus.Desc {
	return prometheus.NewDesc("weir_listener_"+name, help, append([]string{"listener", "transport"}, more...), nil)
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descInFlight, descQueries, descDropped, descIgnored, descCookies, descLimited, descResponses, descDuration, descOctets} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(out chan<- prometheus.Metric) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for l, quotas := range m.inFlight {
		var sum int64
		for _, q := range quotas {
			sum += q.n.Load()
		}
		out <- prometheus.MustNewConstMetric(descInFlight, prometheus.GaugeValue, float64(sum), l.listener, l.transport)
	}
	for l, t := range m.tally {
		t.collect(l, out)
	}
}

func (t *tallies) collect(l label, out chan<- prometheus.Metric) {
	var octets, dropped, ignored, total uint64
	var duration time.Duration
	var cookies [cookie.States]uint64
	var limits [limitedKinds]uint64
	var rcodes [len(shownRCODEs) + 1]uint64
	durations, sizes := make([]uint64, len(durationBounds)+1), make([]uint64, len(octetsBounds)+1)
	for i := range t {
		s := &t[i]
		octets += s.octets.Load()
		dropped += s.dropped.Load()
		ignored += s.ignored.Load()
		duration += time.Duration(s.duration.Load())
		for state := range s.cookies {
			cookies[state] += s.cookies[state].Load()
		}
		for kind := range s.limited {
			limits[kind] += s.limited[kind].Load()
		}
		for r := range s.responses {
			for d := range s.responses[r] {
				for o := range s.responses[r][d] {
					n := s.responses[r][d][o].Load()
					rcodes[r] += n
					durations[d] += n
					sizes[o] += n
					total += n
				}
			}
		}
	}
	count := func(d *prometheus.Desc, v uint64, more ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), append([]string{l.listener, l.transport}, more...)...)
	}
	count(descQueries, total+dropped+ignored+limits[limitedDropped])
	count(descDropped, dropped)
	count(descIgnored, ignored)
	for state, n := range cookies {
		count(descCookies, n, cookie.State(state).String())
	}
	for kind, n := range limits {
		count(descLimited, n, limited(kind).String())
	}
	for r, rcode := range shownRCODEs {
		count(descResponses, rcodes[r], message.RCODEString(rcode))
	}
	count(descResponses, rcodes[len(shownRCODEs)], "other")
	histogram := func(d *prometheus.Desc, sum float64, counts []uint64, bound func(n int) float64) {
		buckets, total := make(map[float64]uint64), uint64(0)
		for n, c := range counts {
			if total += c; n < len(counts)-1 {
				buckets[bound(n)] = total
			}
		}
		out <- prometheus.MustNewConstHistogram(d, total, sum, buckets, l.listener, l.transport)
	}
	histogram(descDuration, duration.Seconds(), durations, func(n int) float64 { return durationBounds[n].Seconds() })
	histogram(descOctets, float64(octets), sizes, func(n int) float64 { return float64(octetsBounds[n]) })
}

// of returns where j counts, nil when nothing is counted.
func (c *counters) of(j *job) *tally {
	if c.tallies == nil {
		return nil
	}
	return &c.tallies[j.exchange.Shard%chain.Shards]
}

// cookie counts a query with a cookie.
func (c *counters) cookie(j *job, s cookie.State) {
	if t := c.of(j); t != nil {
		t.cookies[s].Add(1)
	}
}
