package chain

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// sampleEvery is how many calls of filters one whose time is taken stands for. Reading the clock twice costs as much as a short call, so
// not every call is measured. It is a prime number: with 64, an exchange that makes four calls a query would measure the same filter
// each time.
const sampleEvery = 61

// Metrics are those of all chains. They are made once and live through reloads.
type Metrics struct {
	calls *prometheus.HistogramVec

	mu      sync.Mutex // guards following
	chains  map[string]*tallies
	members map[label]*memberMetrics
}

// label tells members apart.
type label struct{ chain, filter string }

var (
	descQueries  = prometheus.NewDesc("weir_chain_queries_total", "Queries that entered the chain.", []string{"chain"}, nil)
	descVerdicts = prometheus.NewDesc("weir_filter_verdicts_total", "Verdicts other than next; fault is a call without one.",
		[]string{"chain", "filter", "phase", "verdict"}, nil)
)

// NewMetrics makes the metrics and registers them. A nil reg leaves them unregistered.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		chains: make(map[string]*tallies), members: make(map[label]*memberMetrics),
		calls: prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "weir", Subsystem: "filter", Name: "call_seconds",
			Help: "Time of calls, of one call in 61.", Buckets: []float64{50e-9, 100e-9, 250e-9, 500e-9, 1e-6, 2.5e-6, 5e-6, 10e-6, 25e-6, 100e-6, 1e-3, 10e-3}},
			[]string{"chain", "filter", "phase"}),
	}
	if reg != nil {
		reg.MustRegister(m.calls, m)
	}
	return m
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(out chan<- *prometheus.Desc) {
	out <- descQueries
	out <- descVerdicts
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(out chan<- prometheus.Metric) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, t := range m.chains {
		var sum uint64
		for i := range t {
			sum += t[i].n.Load()
		}
		out <- prometheus.MustNewConstMetric(descQueries, prometheus.CounterValue, float64(sum), name)
	}
	for l, f := range m.members {
		for phase, name := range phaseNames {
			for v := range fault + 1 {
				if !possible(phase, v) {
					continue
				}
				var sum uint64
				for i := range f.tallies {
					sum += f.tallies[i].verdicts[phase][v].Load()
				}
				verdict := "fault"
				if v < fault {
					verdict = Action(v).String()
				}
				out <- prometheus.MustNewConstMetric(descVerdicts, prometheus.CounterValue, float64(sum), l.chain, l.filter, name, verdict)
			}
		}
	}
}

// tallies are the numbers of queries of a chain, by the shard of their exchange.
type tallies [Shards]struct {
	n atomic.Uint64
	_ [56]byte // no cache line is shared
}

// Phases of a filter, in the order of [phaseNames].
const (
	phaseQuery = iota
	phaseResponse
)

var phaseNames = [...]string{"query", "response"}

// fault is the place of faults among the verdicts.
const fault = int(Kept) + 1

// memberMetrics are the metrics of a filter in a chain.
type memberMetrics struct {
	tallies [Shards]struct {
		verdicts [2][fault + 1]atomic.Uint64 // two cache lines
	}
	calls [2]prometheus.Observer
}

// Measure has c count. It is called before the first query.
func (c *Chain) Measure(m *Metrics) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.chains[c.name] == nil {
		m.chains[c.name] = new(tallies)
	}
	c.queries = m.chains[c.name]
	for i := range c.filters {
		f := &c.filters[i]
		l := label{c.name, f.Name()}
		t := m.members[l]
		if t == nil {
			t = new(memberMetrics)
			for phase, name := range phaseNames {
				t.calls[phase] = m.calls.WithLabelValues(c.name, f.Name(), name)
			}
			m.members[l] = t
		}
		f.metrics = t
	}
}

// possible reports whether a verdict counts in a phase. What a filter may not say becomes a fault.
func possible(phase, verdict int) bool {
	switch verdict {
	case int(Next):
		return false
	case int(Rewrite):
		return phase == phaseQuery
	case int(Kept):
		return phase == phaseResponse
	}
	return true
}

// invoke calls f with the call of w, counts its verdict, and takes the time of some calls.
func (w *walk) invoke(f *member, phase int) (Verdict, error) {
	m := f.metrics
	if m == nil {
		return f.Call(&w.call)
	}
	if w.sample == 0 {
		return w.timed(f, phase)
	}
	w.sample--
	v, err := f.Call(&w.call)
	if v.Action != Next || err != nil {
		m.count(w.shard, phase, v, err)
	}
	return v, err
}

// timed is invoke for a call whose time is taken.
func (w *walk) timed(f *member, phase int) (Verdict, error) {
	w.sample = sampleEvery - 1
	begin := time.Now()
	v, err := f.Call(&w.call)
	f.metrics.calls[phase].Observe(time.Since(begin).Seconds())
	if v.Action != Next || err != nil {
		f.metrics.count(w.shard, phase, v, err)
	}
	return v, err
}

// count counts a verdict, or its absence.
func (m *memberMetrics) count(shard uint8, phase int, v Verdict, err error) {
	n := int(v.Action)
	if err != nil || n >= fault || !possible(phase, n) {
		n = fault
	}
	m.tallies[shard%Shards].verdicts[phase][n].Add(1)
}
