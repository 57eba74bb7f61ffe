package chain

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// sampleEvery is how many calls of filters one whose time is taken stands for. Reading the clock twice costs as much as a short call, so
// not every call is measured. It is a prime number: with 64, an exchange that makes four calls a query would measure the same filter
// each time.
const sampleEvery = 61

// Metrics are those of all chains. They are made once and live through reloads.
type Metrics struct {
	queries  *prometheus.CounterVec
	verdicts *prometheus.CounterVec
	calls    *prometheus.HistogramVec
}

// NewMetrics makes the metrics and registers them. A nil reg leaves them unregistered.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	auto := promauto.With(reg)
	return &Metrics{
		queries: auto.NewCounterVec(prometheus.CounterOpts{Namespace: "weir", Subsystem: "chain", Name: "queries_total",
			Help: "Queries that entered the chain."}, []string{"chain"}),
		verdicts: auto.NewCounterVec(prometheus.CounterOpts{Namespace: "weir", Subsystem: "filter", Name: "verdicts_total",
			Help: "Verdicts other than next; fault is a call without one."}, []string{"chain", "filter", "phase", "verdict"}),
		calls: auto.NewHistogramVec(prometheus.HistogramOpts{Namespace: "weir", Subsystem: "filter", Name: "call_seconds",
			Help: "Time of calls, of one call in 61.", Buckets: []float64{50e-9, 100e-9, 250e-9, 500e-9, 1e-6, 2.5e-6, 5e-6, 10e-6, 25e-6, 100e-6, 1e-3, 10e-3}},
			[]string{"chain", "filter", "phase"}),
	}
}

// Phases of a filter, in the order of [phaseNames].
const (
	phaseQuery = iota
	phaseResponse
)

var phaseNames = [...]string{"query", "response"}

// fault is the place of faults among the verdicts.
const fault = int(Kept) + 1

// memberMetrics are the metrics of a filter in a chain, with their labels filled in.
type memberMetrics struct {
	verdicts [2][fault + 1]prometheus.Counter
	calls    [2]prometheus.Observer
}

// Measure has c count. It is called before the first query.
func (c *Chain) Measure(m *Metrics) {
	c.queries = m.queries.WithLabelValues(c.name)
	for i := range c.filters {
		f := &c.filters[i]
		f.metrics = new(memberMetrics)
		for phase, name := range phaseNames {
			if phase == phaseQuery && !f.interest.Query {
				continue
			}
			f.metrics.calls[phase] = m.calls.WithLabelValues(c.name, f.Name(), name)
			for v := range f.metrics.verdicts[phase] {
				verdict := "fault"
				if v < fault {
					verdict = Action(v).String()
				}
				if possible(phase, v) {
					f.metrics.verdicts[phase][v] = m.verdicts.WithLabelValues(c.name, f.Name(), name, verdict)
				}
			}
		}
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

// invoke calls f with the call of w, and takes the time of some calls.
func (w *walk) invoke(f *member, phase int) (Verdict, error) {
	m := f.metrics
	if m == nil {
		return f.Call(&w.call)
	}
	if w.sample > 0 {
		w.sample--
		v, err := f.Call(&w.call)
		if v.Action != Next || err != nil {
			m.count(phase, v, err)
		}
		return v, err
	}
	w.sample = sampleEvery - 1
	begin := time.Now()
	v, err := f.Call(&w.call)
	m.calls[phase].Observe(time.Since(begin).Seconds())
	if v.Action != Next || err != nil {
		m.count(phase, v, err)
	}
	return v, err
}

// count counts a verdict, or its absence.
func (m *memberMetrics) count(phase int, v Verdict, err error) {
	n := int(v.Action)
	if err != nil || n >= fault || m.verdicts[phase][n] == nil {
		n = fault
	}
	m.verdicts[phase][n].Inc()
}
