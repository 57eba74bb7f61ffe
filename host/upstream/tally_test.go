package upstream

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/weirdns/weir/host/message"
)

// firstTries is how many queries were sent to a server of the group "test", without those that were sent again because a machine with much else to do made
// the first one overdue.
func firstTries(m *Metrics, addr netip.AddrPort, over Transport) int {
	sent := m.tally(labels{"test", addr.String()}, over).queries[over].Load()
	return int(sent) - int(testutil.ToFloat64(m.retries.WithLabelValues("test", addr.String())))
}

func TestRTTBucket(t *testing.T) {
	for _, tt := range []struct {
		took time.Duration
		want int
	}{
		{0, 0}, {1, 0}, {rttFirst, 0}, {rttFirst + 1, 1}, {2 * rttFirst, 1}, {2*rttFirst + 1, 2}, {4 * rttFirst, 2},
		{rttFirst << 13, 13}, {rttFirst<<13 + 1, 14}, {rttFirst << 14, 14}, {time.Hour, 14},
	} {
		if got := rttBucket(tt.took); got != tt.want {
			t.Errorf("%v: bucket %d, want %d", tt.took, got, tt.want)
		}
	}
}

// TestTally: what is counted comes out, by label, and goes when the server or the group has gone.
func TestTally(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	m := NewMetrics(registry)
	m.inFlight("g").Add(1)
	m.inFlight("g").Add(2) // by the group that takes over after a reload
	y := m.tally(labels{"g", "192.0.2.1:53"}, Auto)
	if again := m.tally(labels{"g", "192.0.2.1:53"}, Auto); again != y {
		t.Error("two tallies for one server")
	}
	y.queries[UDP].Add(5)
	y.queries[TCP].Add(1)
	y.response(nil, message.NOERROR, rttFirst)
	y.response(nil, message.NXDOMAIN, 3*rttFirst)
	y.response(nil, message.NXDOMAIN, unknown)
	y.response(nil, message.BADVERS, time.Minute)
	want := `
# HELP weir_upstream_in_flight Queries that wait for the group, or for the one of its name before a reload; max_concurrent limits it.
# TYPE weir_upstream_in_flight gauge
weir_upstream_in_flight{upstream="g"} 3
# HELP weir_upstream_queries_total Messages sent to a server, retries and probes included.
# TYPE weir_upstream_queries_total counter
weir_upstream_queries_total{server="192.0.2.1:53",transport="tcp",upstream="g"} 1
weir_upstream_queries_total{server="192.0.2.1:53",transport="udp",upstream="g"} 5
# HELP weir_upstream_responses_total Responses that match, by RCODE.
# TYPE weir_upstream_responses_total counter
weir_upstream_responses_total{rcode="FORMERR",server="192.0.2.1:53",upstream="g"} 0
weir_upstream_responses_total{rcode="NOERROR",server="192.0.2.1:53",upstream="g"} 1
weir_upstream_responses_total{rcode="NOTIMP",server="192.0.2.1:53",upstream="g"} 0
weir_upstream_responses_total{rcode="NXDOMAIN",server="192.0.2.1:53",upstream="g"} 2
weir_upstream_responses_total{rcode="REFUSED",server="192.0.2.1:53",upstream="g"} 0
weir_upstream_responses_total{rcode="SERVFAIL",server="192.0.2.1:53",upstream="g"} 0
weir_upstream_responses_total{rcode="other",server="192.0.2.1:53",upstream="g"} 1
# HELP weir_upstream_rtt_seconds Time from a query sent to its response.
# TYPE weir_upstream_rtt_seconds histogram
weir_upstream_rtt_seconds_bucket{server="192.0.2.1:53",upstream="g",le="0.00025"} 1
weir_upstream_rtt_seconds_bucket{server="192.0.2.1:53",upstream="g",le="0.0005"} 1
weir_upstream_rtt_seconds_bucket{server="192.0.2.1:53",upstream="g",le="0.001"} 2
weir_upstream_rtt_seconds_bucket{server="192.0.2.1:53",upstream="g",le="0.002"} 2
weir_upstream_rtt_seconds_bucket{server="192.0.2.1:53",upstream="g",le="0.004"} 2
weir_upstream_rtt_seconds_bucket{server="192.0.2.1:53",upstream="g",le="0.008"} 2
weir_upstream_rtt_seconds_bucket{server="192.0.2.1:53",upstream="g",le="0.016"} 2
weir_upstream_rtt_seconds_bucket{server="192.0.2.1:53",upstream="g",le="0.032"} 2
weir_upstream_rtt_seconds_bucket{server="192.0.2.1:53",upstream="g",le="0.064"} 2
weir_upstream_rtt_seconds_bucket{server="192.0.2.1:53",upstream="g",le="0.128"} 2
weir_upstream_rtt_seconds_bucket{server="192.0.2.1:53",upstream="g",le="0.256"} 2
weir_upstream_rtt_seconds_bucket{server="192.0.2.1:53",upstream="g",le="0.512"} 2
weir_upstream_rtt_seconds_bucket{server="192.0.2.1:53",upstream="g",le="1.024"} 2
weir_upstream_rtt_seconds_bucket{server="192.0.2.1:53",upstream="g",le="2.048"} 2
weir_upstream_rtt_seconds_bucket{server="192.0.2.1:53",upstream="g",le="+Inf"} 3
weir_upstream_rtt_seconds_sum{server="192.0.2.1:53",upstream="g"} 60.001
weir_upstream_rtt_seconds_count{server="192.0.2.1:53",upstream="g"} 3
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
	m.forget("g", "192.0.2.1:53")
	m.forgetGroup("g")
	if n, err := testutil.GatherAndCount(registry); err != nil || n != 0 {
		t.Errorf("%d series when all are forgotten (%v)", n, err)
	}
}
