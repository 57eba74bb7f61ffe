package host

import "github.com/prometheus/client_golang/prometheus"

// tableMetrics shows the figures of the tables that are in force, when somebody asks for them.
type tableMetrics struct{ server *Server }

var (
	descTableKeys     = descTable("keys", "Keys in the table.")
	descTableOctets   = descTable("octets", "Memory that the table takes.")
	descTableLoaded   = descTable("loaded_timestamp_seconds", "When what is in force was read.")
	descTableStale    = descTable("stale", "1 when the source was refused the last time it was read, so that what was read before is in force.")
	descTableReloads  = descTable("reloads_total", "How often the source was read anew and taken.")
	descTableFailures = descTable("failures_total", "How often the source was read anew and refused.")
)

func descTable(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("weir_table_"+name, help, []string{"table"}, nil)
}

// Describe implements prometheus.Collector.
func (m tableMetrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descTableKeys, descTableOctets, descTableLoaded, descTableStale, descTableReloads, descTableFailures} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (m tableMetrics) Collect(out chan<- prometheus.Metric) {
	for _, p := range m.server.present.Load().tables {
		t := p.table
		show := func(d *prometheus.Desc, kind prometheus.ValueType, v float64) {
			out <- prometheus.MustNewConstMetric(d, kind, v, t.Name())
		}
		s := t.Stats()
		show(descTableKeys, prometheus.GaugeValue, float64(s.Keys))
		show(descTableOctets, prometheus.GaugeValue, float64(s.Octets))
		show(descTableLoaded, prometheus.GaugeValue, float64(s.Loaded.UnixNano())/1e9)
		stale := 0.0
		if t.Stale() {
			stale = 1
		}
		show(descTableStale, prometheus.GaugeValue, stale)
		show(descTableReloads, prometheus.CounterValue, float64(s.Reloads))
		show(descTableFailures, prometheus.CounterValue, float64(s.Failures))
	}
}
