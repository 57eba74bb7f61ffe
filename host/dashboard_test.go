package host

import (
	"encoding/json"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// TestDashboard holds the dashboard to what a weir that runs exports: each metric and each label in it has to be there. Labels that Prometheus itself
// adds are let pass.
func TestDashboard(t *testing.T) {
	labels := exported(t)
	text, err := os.ReadFile("../examples/grafana/weir.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			ID      int
			Title   string
			Targets []struct{ Expr, LegendFormat string }
		}
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	var (
		metric   = regexp.MustCompile(`\b(?:weir|process|go)_[a-z0-9_]+`)
		grouping = regexp.MustCompile(`\bby \(([a-z_, ]+)\)`)
		legend   = regexp.MustCompile(`\{\{([a-z_]+)\}\}`)
	)
	used := make(map[string]bool)
	exprs := 0
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			exprs++
			names := metric.FindAllString(target.Expr, -1)
			if len(names) == 0 {
				t.Errorf("panel %q: no metric of weir in %s", p.Title, target.Expr)
			}
			for _, name := range names {
				has, ok := labels[name]
				if !ok {
					t.Errorf("panel %q: there is no metric %s", p.Title, name)
					continue
				}
				used[name] = true
				var want []string
				for _, m := range grouping.FindAllStringSubmatch(target.Expr, -1) {
					want = append(want, strings.Split(m[1], ", ")...)
				}
				for _, m := range legend.FindAllStringSubmatch(target.LegendFormat, -1) {
					want = append(want, m[1])
				}
				for _, l := range want {
					if l != "instance" && !has[l] {
						t.Errorf("panel %q: %s has no label %s", p.Title, name, l)
					}
				}
			}
		}
	}
	if exprs < 30 {
		t.Errorf("only %d expressions were found", exprs)
	}
	// And the other way round: what weir counts of the way of a query is to be seen.
	for name := range labels {
		family := strings.TrimSuffix(strings.TrimSuffix(name, "_sum"), "_count")
		if !strings.HasPrefix(name, "weir_") || used[name] || used[family+"_bucket"] || unseen[name] || used[family] {
			continue
		}
		t.Errorf("%s is in no panel, and not in the list of those that need none", name)
	}
}

// unseen are metrics for whoever looks closer: they have no panel.
var unseen = map[string]bool{
	"weir_build_info": true, "weir_generation": true, "weir_config_loaded_timestamp_seconds": true, "weir_reloads_total": true, "weir_cache_flights": true, "weir_cache_octets": true, "weir_cache_unshared_total": true, "weir_cache_snapshots_total": true, "weir_cache_restored_total": true, "weir_cache_untold_total": true, "weir_cache_displaced_total": true, "weir_filter_metric_total": true,
	"weir_filter_metric": true, "weir_table_failures_total": true, "weir_table_loaded_timestamp_seconds": true, "weir_table_octets": true,
	"weir_listener_cookies_total": true, "weir_listener_rate_limited_total": true, "weir_table_reloads_total": true, "weir_upstream_mismatches_total": true, "weir_upstream_retries_total": true, "weir_upstream_tcp_fallbacks_total": true,
}

// exported returns the metrics of a weir after some queries, and the labels that each has. Of a histogram there are _bucket, _sum and _count.
func exported(t *testing.T) map[string]map[string]bool {
	t.Helper()
	s := hot(t, 10, 10)
	for _, name := range []string{"www.example.", "www.example.", "none.example.", "host1.rack1.held.test.", "www.dept7.corp7.test."} {
		m := new(dns.Msg).SetQuestion(name, dns.TypeA)
		m.SetEdns0(1232, false)
		for _, network := range []string{"udp", "tcp"} {
			c := dns.Client{Net: network}
			if _, _, err := c.ExchangeContext(t.Context(), m, s.Addrs()[0].String()); err != nil {
				t.Fatal(err)
			}
		}
	}
	// RD clear is refused with an Extended DNS Error.
	m := new(dns.Msg).SetQuestion("www.example.", dns.TypeA)
	m.RecursionDesired = false
	m.SetEdns0(1232, false)
	if _, err := dns.ExchangeContext(t.Context(), m, s.Addrs()[0].String()); err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get("http://" + s.AdminAddr() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	labels := make(map[string]map[string]bool)
	for name, family := range families {
		has := make(map[string]bool)
		for _, m := range family.GetMetric() {
			for _, l := range m.GetLabel() {
				has[l.GetName()] = true
			}
		}
		labels[name] = has
		if family.GetMetric()[0].GetHistogram() != nil {
			delete(labels, name)
			labels[name+"_sum"], labels[name+"_count"] = has, has
			labels[name+"_bucket"] = map[string]bool{"le": true}
			for l := range has {
				labels[name+"_bucket"][l] = true
			}
		}
	}
	return labels
}
