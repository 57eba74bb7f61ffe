package cache

import (
	"strings"
	"testing"
	"time"
)

func TestPresets(t *testing.T) {
	for _, test := range []struct {
		name                 string
		successMax, success  int // seconds
		denialMax, denialMin int
		capacity             int
		servfail             time.Duration
		stale                bool
	}{
		{"coredns", 3600, 5, 1800, 5, 9984, 5 * time.Second, false},
		{"acs", 30, 5, 30, 5, 9984, 0, false},
		{"nodelocal", 30, 5, 5, 5, 9984, 5 * time.Second, false},
		{"weir", 86400, 0, 3600, 0, 250_000, 5 * time.Second, true},
		{"", 86400, 0, 3600, 0, 250_000, 5 * time.Second, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, ok := Preset(test.name)
			if !ok {
				t.Fatal("there is no such preset")
			}
			if err := c.Validate(); err != nil {
				t.Error(err)
			}
			got := []int{int(c.Success.MaxTTL / 1e9), int(c.Success.MinTTL / 1e9), int(c.Denial.MaxTTL / 1e9), int(c.Denial.MinTTL / 1e9), c.Success.Capacity}
			want := []int{test.successMax, test.success, test.denialMax, test.denialMin, test.capacity}
			for i := range want {
				if got[i] != want[i] {
					t.Errorf("success max, min, denial max, min, capacity: got %v, want %v", got, want)
					break
				}
			}
			if c.ServfailTTL != test.servfail || c.ServeStale > 0 != test.stale {
				t.Errorf("servfail_ttl %s, serve_stale %s", c.ServfailTTL, c.ServeStale)
			}
		})
	}
	if _, ok := Preset("bind"); ok {
		t.Error("there is a preset that nobody knows")
	}
}

func TestValidate(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*Config)
		want   string // beginning of the error; "" for none
	}{
		{"default", func(c *Config) {}, ""},
		{"off", func(c *Config) { c.Success, c.Denial = Limits{}, Limits{} }, ""},
		{"preset", func(c *Config) { c.Preset = "bind" }, `preset: "bind" is not one of acs, coredns, nodelocal, weir`},
		{"capacity", func(c *Config) { c.Success.Capacity = -1 }, "success.capacity: -1 is not between"},
		{"octets", func(c *Config) { c.Denial.Octets = 1000 }, "denial.octets: 1000 is below"},
		{"min", func(c *Config) { c.Success.MinTTL = -1 }, "success.min_ttl: -1ns is not between"},
		{"max", func(c *Config) { c.Denial.MaxTTL = 0 }, "denial.max_ttl: 0s is not between"},
		{"min above max", func(c *Config) { c.Success.MinTTL = 48 * time.Hour }, "success.min_ttl: 48h0m0s is above max_ttl"},
		{"fraction", func(c *Config) { c.Success.MinTTL = 1500 * time.Millisecond }, "success.min_ttl: 1.5s is not a whole number of seconds"},
		{"servfail short", func(c *Config) { c.ServfailTTL = time.Millisecond }, "servfail_ttl: 1ms is not between 1s and 5m0s (RFC 9520)"},
		{"servfail long", func(c *Config) { c.ServfailTTL = 301 * time.Second }, "servfail_ttl: 5m1s is not between"},
		{"servfail off", func(c *Config) { c.ServfailTTL = 0 }, ""},
		{"stale", func(c *Config) { c.ServeStale = 8 * 24 * time.Hour }, "serve_stale: 192h0m0s is not between"},
		{"stale off", func(c *Config) { c.ServeStale, c.StaleTTL = 0, 0 }, ""},
		{"stale_ttl", func(c *Config) { c.StaleTTL = 0 }, "stale_ttl: 0s is not between"},
		{"stale_after", func(c *Config) { c.StaleAfter = -1 }, "stale_after: -1ns is not between"},
		{"stale_recheck", func(c *Config) { c.StaleRecheck = 0 }, "stale_recheck: 0s is not between"},
		{"hits", func(c *Config) { c.Prefetch.Hits = -1 }, "prefetch.hits: -1 is below 0"},
		{"percent", func(c *Config) { c.Prefetch.Percent = 91 }, "prefetch.percent: 91 is not between 1 and 90"},
		{"resolve_timeout", func(c *Config) { c.ResolveTimeout = 0 }, "resolve_timeout: 0s is not between"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := preset("weir", test.change)
			got := ""
			if err := c.Validate(); err != nil {
				got = err.Error()
			}
			if (test.want == "") != (got == "") || !strings.HasPrefix(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
