package cache

import (
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics shows the counters of all caches, by the name of their upstream. Counting costs queries nothing: the numbers are read when somebody asks
// for them. A nil Metrics shows nothing.
type Metrics struct {
	mu     sync.Mutex // guards following
	caches []*Cache
	past   map[string]Stats // counters of caches that have ended, so that a reload does not set them back
}

// NewMetrics makes Metrics and registers them with reg, which may be nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{past: make(map[string]Stats)}
	if reg != nil {
		reg.MustRegister(m)
	}
	return m
}

// Stats are the numbers of a cache.
type Stats struct {
	Hits      [3]uint64 // on answers with data, without data, and failures
	Stale     uint64    // stale answers given
	Misses    uint64    // queries that had to wait for the upstream, those that joined another included
	Joined    uint64    // queries that waited for one already under way
	Alone     uint64    // queries that were not shared, since there were too many
	Prefetch  uint64    // answers fetched anew before their end
	Evictions [2]uint64 // for want of room: answers with data, others
	Entries   [2]int
	Octets    [2]int    // bookkeeping included
	Flights   int       // queries that are with the upstream
	Snapshots [2]uint64 // written, and not
	Restored  uint64    // entries that came from a snapshot
	Panics    uint64
	Untold    uint64 // queries whose networks the upstream was not told, since it was being told of too many others
	Displaced uint64 // answers for networks that left since there were too many to their question
}

// Stats returns the numbers of c.
func (c *Cache) Stats() Stats {
	s := Stats{
		Misses: c.misses.Load(), Joined: c.joins.Load(), Stale: c.stales.Load(), Prefetch: c.prefetches.Load(), Alone: c.alone.Load(),
		Flights: c.flights.number(), Snapshots: [2]uint64{c.saved.Load(), c.unsaved.Load()}, Restored: c.restored.Load(),
		Untold: c.untold.Load(), Panics: c.panics.Load(),
	}
	for i := range c.store.shards {
		sh := &c.store.shards[i]
		sh.mu.Lock()
		s.Stale += sh.stale
		s.Displaced += sh.displaced
		for k, n := range sh.hits {
			s.Hits[k] += n
		}
		for k := range sh.queues {
			q := &sh.queues[k]
			s.Evictions[k] += q.evictions
			s.Entries[k] += sh.logs[q.small].entries + sh.logs[q.main].entries
			s.Octets[k] += sh.memory(q)
		}
		sh.mu.Unlock()
	}
	return s
}

func (s Stats) add(t Stats) Stats {
	for i, n := range t.Hits {
		s.Hits[i] += n
	}
	for i := range t.Entries {
		s.Evictions[i] += t.Evictions[i]
		s.Entries[i] += t.Entries[i]
		s.Octets[i] += t.Octets[i]
	}
	s.Stale += t.Stale
	s.Misses += t.Misses
	s.Joined += t.Joined
	s.Alone += t.Alone
	s.Prefetch += t.Prefetch
	s.Flights += t.Flights
	s.Snapshots[0] += t.Snapshots[0]
	s.Snapshots[1] += t.Snapshots[1]
	s.Restored += t.Restored
	s.Panics += t.Panics
	s.Untold += t.Untold
	s.Displaced += t.Displaced
	return s
}

func (m *Metrics) add(c *Cache) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.caches = append(m.caches, c)
}

func (m *Metrics) remove(c *Cache) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if i := slices.Index(m.caches, c); i >= 0 {
		s := c.Stats()
		s.Entries, s.Octets, s.Flights = [2]int{}, [2]int{}, 0
		m.past[c.name] = m.past[c.name].add(s)
		m.caches = slices.Delete(m.caches, i, i+1)
	}
}

var (
	descHits      = desc("hits_total", "Answers given from the cache.", "kind")
	descStale     = desc("stale_total", "Stale answers given, because the upstream failed or took too long.")
	descMisses    = desc("misses_total", "Queries that had to wait for the upstream.")
	descJoined    = desc("joined_total", "Queries that waited for an equal one already with the upstream.")
	descAlone     = desc("unshared_total", "Queries that went to the upstream by themselves, since too many were under way.")
	descPrefetch  = desc("prefetches_total", "Answers fetched anew before their end.")
	descEvictions = desc("evictions_total", "Entries evicted for want of room.", "kind")
	descEntries   = desc("entries", "Entries in the cache.", "kind")
	descOctets    = desc("octets", "Memory of the entries in octets.", "kind")
	descFlights   = desc("flights", "Queries that are with the upstream.")
	descSnapshots = desc("snapshots_total", "Snapshots of the cache by result: ok, or failed, when the file could not be written.", "result")
	descPanics    = desc("panics_total", "Panics; each cost the query that met it.")
	descRestored  = desc("restored_total", "Entries that came from a snapshot at the start.")
	descUntold    = desc("untold_total", "Queries whose client subnet the upstream was not told, since it was being told of too many others for the same question.")
	descDisplaced = desc("displaced_total", "Answers for client subnets that left since there were too many to the same question.")
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("weir_cache_"+name, help, append([]string{"upstream"}, labels...), nil)
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descHits, descStale, descMisses, descJoined, descAlone, descPrefetch, descEvictions, descEntries, descOctets, descFlights, descSnapshots, descRestored,
		descUntold, descDisplaced, descPanics,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector. Caches of one name, as there are during a reload, are added up.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	m.mu.Lock()
	sums := make(map[string]Stats, len(m.past)+len(m.caches))
	for name, s := range m.past {
		sums[name] = s
	}
	for _, c := range m.caches {
		sums[c.name] = sums[c.name].add(c.Stats())
	}
	m.mu.Unlock()
	for name, s := range sums {
		metric := func(d *prometheus.Desc, t prometheus.ValueType, v float64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(d, t, v, append([]string{name}, labels...)...)
		}
		for k, n := range s.Hits {
			metric(descHits, prometheus.CounterValue, float64(n), kindNames[k])
		}
		for k := range s.Entries {
			metric(descEvictions, prometheus.CounterValue, float64(s.Evictions[k]), kindNames[k])
			metric(descEntries, prometheus.GaugeValue, float64(s.Entries[k]), kindNames[k])
			metric(descOctets, prometheus.GaugeValue, float64(s.Octets[k]), kindNames[k])
		}
		metric(descStale, prometheus.CounterValue, float64(s.Stale))
		metric(descMisses, prometheus.CounterValue, float64(s.Misses))
		metric(descJoined, prometheus.CounterValue, float64(s.Joined))
		metric(descAlone, prometheus.CounterValue, float64(s.Alone))
		metric(descPrefetch, prometheus.CounterValue, float64(s.Prefetch))
		metric(descFlights, prometheus.GaugeValue, float64(s.Flights))
		metric(descSnapshots, prometheus.CounterValue, float64(s.Snapshots[0]), "ok")
		metric(descSnapshots, prometheus.CounterValue, float64(s.Snapshots[1]), "failed")
		metric(descPanics, prometheus.CounterValue, float64(s.Panics))
		metric(descRestored, prometheus.CounterValue, float64(s.Restored))
		metric(descUntold, prometheus.CounterValue, float64(s.Untold))
		metric(descDisplaced, prometheus.CounterValue, float64(s.Displaced))
	}
}
