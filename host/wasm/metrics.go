package wasm

import (
	"math"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weirdns/weir/abi"
)

// Metrics are those of all filters. What guests count is in two families whose names they can't choose: their names are values
// of the label metric, so no guest can break the exposition or make its metrics look like weir's.
type Metrics struct {
	faults     *prometheus.CounterVec
	counter    *prometheus.CounterVec
	histogram  *prometheus.HistogramVec
	calls      *prometheus.Desc
	fuel       *prometheus.Desc
	instances  *prometheus.Desc
	memory     *prometheus.Desc
	quarantine *prometheus.Desc

	mu      sync.Mutex // guards what follows
	filters map[string]*totals
}

// totals of a filter's name outlive a reload, in which the filter of that name is opened anew before the old one is closed: counters must not
// go backwards.
type totals struct {
	open   []*Filter
	closed callCounts
}

type callCounts struct{ query, response, fuel uint64 }

// NewMetrics makes Metrics and registers them with reg, which may be nil. It panics when reg has metrics of these names.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	desc := func(name, help string, more ...string) *prometheus.Desc {
		return prometheus.NewDesc("weir_filter_"+name, help, append([]string{"filter"}, more...), nil)
	}
	m := &Metrics{
		faults: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "weir_filter_faults_total",
			Help: "Calls of a filter that gave no verdict, by cause."}, []string{"filter", "cause"}),
		counter: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "weir_filter_metric_total",
			Help: "Counters of the filters' own."}, []string{"filter", "metric"}),
		histogram: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "weir_filter_metric",
			Help: "Histograms of the filters' own.", Buckets: prometheus.ExponentialBuckets(0.001, 4, 12)}, []string{"filter", "metric"}),
		calls:      desc("calls_total", "Calls of a filter, by phase.", "phase"),
		fuel:       desc("fuel_total", "Fuel that calls of a filter used, about one unit per instruction."),
		instances:  desc("instances", "Instances of a filter that are ready or at work."),
		memory:     desc("memory_bytes", "Memory of all instances of a filter."),
		quarantine: desc("quarantine", "1 while a filter is not called because it kept failing."),
		filters:    make(map[string]*totals),
	}
	if reg != nil {
		reg.MustRegister(m.faults, m.counter, m.histogram, m)
	}
	return m
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.calls, m.fuel, m.instances, m.memory, m.quarantine} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(out chan<- prometheus.Metric) {
	m.mu.Lock()
	defer m.mu.Unlock()
	counter, gauge := prometheus.CounterValue, prometheus.GaugeValue
	for name, t := range m.filters {
		sum, instances, octets, bad := t.closed, 0, int64(0), 0.0
		for _, f := range t.open {
			c := f.counts()
			sum.query, sum.response, sum.fuel = sum.query+c.query, sum.response+c.response, sum.fuel+c.fuel
			instances += int(f.pool.live.Load())
			octets += f.memory.Load()
			if f.quarantine.active() {
				bad = 1
			}
		}
		out <- prometheus.MustNewConstMetric(m.calls, counter, float64(sum.query), name, "query")
		out <- prometheus.MustNewConstMetric(m.calls, counter, float64(sum.response), name, "response")
		out <- prometheus.MustNewConstMetric(m.fuel, counter, float64(sum.fuel), name)
		out <- prometheus.MustNewConstMetric(m.instances, gauge, float64(instances), name)
		out <- prometheus.MustNewConstMetric(m.memory, gauge, float64(octets), name)
		out <- prometheus.MustNewConstMetric(m.quarantine, gauge, bad, name)
	}
}

// open makes the metrics of a filter visible.
func (m *Metrics) open(f *Filter) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.filters[f.name]
	if t == nil {
		t = &totals{}
		m.filters[f.name] = t
	}
	t.open = append(t.open, f)
}

// close takes them away, when no other filter has the name.
func (m *Metrics) close(f *Filter) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.filters[f.name]
	if t == nil {
		return
	}
	c := f.counts()
	t.closed.query, t.closed.response, t.closed.fuel = t.closed.query+c.query, t.closed.response+c.response, t.closed.fuel+c.fuel
	t.open = slices.DeleteFunc(t.open, func(o *Filter) bool { return o == f })
	if len(t.open) > 0 {
		return
	}
	delete(m.filters, f.name)
	label := prometheus.Labels{"filter": f.name}
	m.faults.DeletePartialMatch(label)
	m.counter.DeletePartialMatch(label)
	m.histogram.DeletePartialMatch(label)
}

// guestMetrics are what a filter registered. Instances register the same ones, at their configuration; queries only read.
type guestMetrics struct {
	all    *Metrics
	filter string

	mu      sync.Mutex // for writing
	entries atomic.Pointer[[]guestMetric]
}

type guestMetric struct {
	kind      uint32
	name      string
	counter   prometheus.Counter
	histogram prometheus.Observer
}

var metricName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)

// number gives the number of a metric, which is new if nobody asked for it before.
func (g *guestMetrics) number(kind uint32, name string) (int, bool) {
	if !metricName.MatchString(name) {
		return 0, false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	var entries []guestMetric
	if p := g.entries.Load(); p != nil {
		entries = *p
	}
	for n, e := range entries {
		if e.name == name {
			return n, e.kind == kind
		}
	}
	if len(entries) == abi.MaxMetrics {
		return 0, false
	}
	e := guestMetric{kind: kind, name: name}
	if kind == abi.MetricCounter {
		e.counter = g.all.counter.WithLabelValues(g.filter, name)
	} else {
		e.histogram = g.all.histogram.WithLabelValues(g.filter, name)
	}
	entries = append(slices.Clip(entries), e)
	g.entries.Store(&entries)
	return len(entries) - 1, true
}

// add adds to a counter or observes in a histogram.
func (g *guestMetrics) add(number uint32, v float64) bool {
	p := g.entries.Load()
	if p == nil || uint64(number) >= uint64(len(*p)) || math.IsNaN(v) || math.IsInf(v, 0) {
		return false
	}
	switch e := &(*p)[number]; {
	case e.kind == abi.MetricHistogram:
		e.histogram.Observe(v)
	case v < 0:
		return false
	default:
		e.counter.Add(v)
	}
	return true
}
