package config

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestEnvironment(t *testing.T) {
	const text = `
[upstream.corp-net]
servers = ["192.0.2.1", "192.0.2.2"]
[filter.rules.config]
rule = [ { zone = "example.com", upstream = "default" } ]
ttl = 30
on = true
ratio = 0.5
zones = ["a", "b"]
`
	tests := []struct {
		name    string
		environ []string
		got     func(f *File) any
		want    string
		path    string // of what was set, for its position
	}{
		{"a table that is not in the file", []string{"WEIR_LOG__LEVEL=debug"}, func(f *File) any { return f.Log.SlogLevel() }, "DEBUG", "log.level"},
		{"top level", []string{"WEIR_BUDGET=1s"}, func(f *File) any { return f.Budget }, "1s", "budget"},
		{"a list", []string{"WEIR_UPSTREAM__DEFAULT__SERVERS=192.0.2.7, 192.0.2.8,"}, func(f *File) any { return f.Upstreams[1].Config.Servers },
			"[192.0.2.7 192.0.2.8]", "upstream.default.servers"},
		{"an element of a list", []string{"WEIR_UPSTREAM__CORP_NET__SERVERS__1=192.0.2.9"}, func(f *File) any { return f.Upstreams[0].Config.Servers },
			"[192.0.2.1 192.0.2.9]", "upstream.corp-net.servers[1]"},
		{"a key that was not set", []string{"WEIR_UPSTREAM__CORP_NET__EXPIRE=5s"}, func(f *File) any { return f.Upstreams[0].Config.Expire },
			"5s", "upstream.corp-net.expire"},
		{"an element of a list of tables", []string{"WEIR_LISTENER__0__ADDRESS=127.0.0.1:5399"}, func(f *File) any { return f.Listeners[0].Address },
			"127.0.0.1:5399", "listener[0].address"},
		{"a number", []string{"WEIR_LISTENER__0__TCP_MAX_CLIENTS=2_000"}, func(f *File) any { return f.Listeners[0].TCPMaxClients },
			"2000", "listener[0].tcp_max_clients"},
		{"a bool", []string{"WEIR_UPSTREAM__DEFAULT__PRIVATE=true"}, func(f *File) any { return f.Upstreams[1].Config.Private }, "true", "upstream.default.private"},
		{"a size", []string{"WEIR_FILTER__RULES__MEMORY=64MiB"}, func(f *File) any { return f.Filters[0].Config.Memory }, "64MiB", "filter.rules.memory"},
		{"a size in octets", []string{"WEIR_FILTER__RULES__MEMORY=1048576"}, func(f *File) any { return f.Filters[0].Config.Memory }, "1MiB", "filter.rules.memory"},
		{"a string of a filter", []string{"WEIR_FILTER__RULES__CONFIG__RULE__0__ZONE=test"}, func(f *File) any { return f.Filters[0].Config.Config["rule"] },
			"[map[upstream:default zone:test]]", "filter.rules.config.rule[0].zone"},
		{"a number of a filter", []string{"WEIR_FILTER__RULES__CONFIG__TTL=60"}, func(f *File) any { return f.Filters[0].Config.Config["ttl"].(int64) },
			"60", "filter.rules.config.ttl"},
		{"a bool of a filter", []string{"WEIR_FILTER__RULES__CONFIG__ON=false"}, func(f *File) any { return f.Filters[0].Config.Config["on"].(bool) },
			"false", "filter.rules.config.on"},
		{"a fraction of a filter", []string{"WEIR_FILTER__RULES__CONFIG__RATIO=1e-1"}, func(f *File) any { return f.Filters[0].Config.Config["ratio"].(float64) },
			"0.1", "filter.rules.config.ratio"},
		{"a list of a filter", []string{"WEIR_FILTER__RULES__CONFIG__ZONES=c"}, func(f *File) any { return f.Filters[0].Config.Config["zones"] },
			"[c]", "filter.rules.config.zones[0]"},
		{"lower case", []string{"WEIR_chain__Main__upstream=corp-net"}, func(f *File) any { return f.Chains[0].Config.Upstream }, "corp-net", "chain.main.upstream"},
		{"an empty value", []string{"WEIR_ADMIN__ADDRESS="}, func(f *File) any { return f.Admin.Address }, "", "admin.address"},
		{"variables of others", []string{"PATH=/bin", "WEIRD=1", "weir_log__level=loud", "nothing"}, func(f *File) any { return f.Log.Level }, "", ""},
		{"a service in Kubernetes", []string{"WEIR_SERVICE_HOST=10.0.0.1", "WEIR_SERVICE_PORT=53", "WEIR_SERVICE_PORT_DNS_TCP=53", "WEIR_PORT=udp://10.0.0.1:53",
			"WEIR_PORT_53_UDP=udp://10.0.0.1:53", "WEIR_PORT_53_UDP_ADDR=10.0.0.1", "WEIR_DNS_SERVICE_HOST=10.0.0.1", "WEIR_DNS_PORT_53_TCP_PROTO=tcp"},
			func(f *File) any { return len(f.Upstreams) }, "2", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := load(t, text, tt.environ...)
			if got := fmt.Sprint(tt.got(f)); got != tt.want {
				t.Errorf("with %q: got %s, want %s", tt.environ, got, tt.want)
			}
			if tt.path == "" {
				return
			}
			want, _, _ := strings.Cut(tt.environ[0], "=")
			if got := f.Position(tt.path); got != want {
				t.Errorf("Position(%s) = %s, want %s", tt.path, got, want)
			}
		})
	}
}

// TestEnvironmentLeavesTheRest: what a variable doesn't set is as in the file, and where it was.
func TestEnvironmentLeavesTheRest(t *testing.T) {
	f := load(t, "[log]\nlevel = \"warn\"\nformat = \"json\"\n", "WEIR_LOG__LEVEL=error", "WEIR_UPSTREAM__DEFAULT__EXPIRE=7s")
	if f.Log != (Log{Level: "error", Format: "json"}) {
		t.Errorf("log = %+v, want level error, format json", f.Log)
	}
	if u := f.Upstreams[0].Config; u.Expire != 7*time.Second || len(u.Servers) != 1 {
		t.Errorf("upstream = %+v, want one server and expire 7s", u)
	}
	for path, want := range map[string]string{"log": "conf/weir.toml:1", "log.level": "WEIR_LOG__LEVEL", "log.format": "conf/weir.toml:3",
		"upstream.default.servers[0]": "conf/weir.toml:9"} {
		if got := f.Position(path); got != want {
			t.Errorf("Position(%s) = %s, want %s", path, got, want)
		}
	}
}
