package upstream

import (
	"errors"
	"net/netip"
	"reflect"
	"testing"
	"time"
)

func TestValidate(t *testing.T) {
	policy := Policy{
		Refuse:      []netip.Prefix{netip.MustParsePrefix("100.100.2.136/30")},
		ListenAddrs: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.53:53"), netip.MustParseAddrPort("0.0.0.0:5353")},
	}
	one := []string{"192.0.2.1"}
	tests := []struct {
		name string
		c    Config
		want string // the whole text; empty when all is well
	}{
		{"least", Config{Servers: one}, ""},
		{"forms", Config{Servers: []string{"192.0.2.1", "192.0.2.2:5353", "2001:db8::1", "[2001:db8::2]", "[2001:db8::3]:53", "tcp://[fe80::1%eth0]:53"}}, ""},
		{"resolv.conf", Config{ResolvConf: "/etc/resolv.conf"}, ""},
		{"nothing", Config{}, `servers: is empty: want at least one server, or resolv_conf`},
		{"seven", Config{Servers: []string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5", "192.0.2.6", "192.0.2.7"}}, "servers: has 7 servers: want at most 6"},
		{"name", Config{Servers: []string{"192.0.2.1", "dns.example"}}, `servers[1]: "dns.example": want ADDRESS, ADDRESS:PORT or [IPV6]:PORT (a name would need a DNS to find it)`},
		{"tls", Config{Servers: []string{"tls://192.0.2.1"}}, `servers[0]: "tls://192.0.2.1": servers over tls are not supported by this version of weir: want an address, udp:// or tcp://`},
		{"quic", Config{Servers: []string{"quic://192.0.2.1"}}, `servers[0]: "quic://192.0.2.1": servers over quic are not supported by this version of weir: want an address, udp:// or tcp://`},
		{"scheme", Config{Servers: []string{"upd://192.0.2.1"}}, `servers[0]: "upd://192.0.2.1": unknown scheme "upd": want an address, udp:// or tcp://`},
		{"port", Config{Servers: []string{"192.0.2.1:0"}}, `servers[0]: "192.0.2.1:0": port 0 is no port of a server`},
		{"unspecified", Config{Servers: []string{"0.0.0.0"}}, `servers[0]: "0.0.0.0": is not the address of one server`},
		{"twice", Config{Servers: []string{"192.0.2.1", "tcp://192.0.2.1:53"}}, "servers[1]: 192.0.2.1:53 is there twice"},
		{"refused", Config{Servers: []string{"192.0.2.1", "192.0.2.2", "100.100.2.138"}}, "servers[2]: 100.100.2.138:53 is in 100.100.2.136/30, which is refused"},
		{"refused, mapped", Config{Servers: []string{"[::ffff:100.100.2.138]:53"}}, "servers[0]: 100.100.2.138:53 is in 100.100.2.136/30, which is refused"},
		{"itself", Config{Servers: []string{"192.0.2.53"}}, "servers[0]: 192.0.2.53:53 is a listener of weir itself: queries would go round in a loop"},
		{"itself, on all addresses", Config{Servers: []string{"127.0.0.1:5353"}}, "servers[0]: 127.0.0.1:5353 is a listener of weir itself: queries would go round in a loop"},
		{"one source", Config{Servers: one, Sources: []string{"192.0.2.9"}}, "sources: has 1 addresses: want 2 to 6, or none"},
		{"source", Config{Servers: one, Sources: []string{"192.0.2.9", "192.0.2.9:53"}}, `sources[1]: "192.0.2.9:53": want an address of this host, without a port`},
		{"source twice", Config{Servers: one, Sources: []string{"192.0.2.9", "192.0.2.9"}}, "sources[1]: 192.0.2.9 is there twice"},
		{"sources of the other version", Config{Servers: one, Sources: []string{"2001:db8::1", "2001:db8::2"}}, "servers[0]: 192.0.2.1:53 can't be reached from sources, which are all of the other IP version"},
		{"transport", Config{Servers: one, Transport: "tls"}, `transport: "tls": want one of auto, udp, tcp`},
		{"policy", Config{Servers: one, Policy: "best"}, `policy: "best": want one of random, round_robin, sequential, fastest`},
		{"over_limit", Config{Servers: one, OverLimit: "drop"}, `over_limit: "drop": want one of refused, stale`},
		{"all_down", Config{Servers: one, AllDown: "pray"}, `all_down: "pray": want one of spray, fail`},
		{"case", Config{Servers: one, Case: "upper"}, `case: "upper": want one of keep, random`},
		{"norecurse", Config{Servers: one, Norecurse: "maybe"}, `norecurse: "maybe": want one of refuse, forward`},
		{"preset", Config{Servers: one, Preset: "bind"}, `preset: "bind": want coredns or nodelocal`},
		{"expire", Config{Servers: one, Expire: -1}, `expire: -1ns: want 10ms to 1h`},
		{"health_check", Config{Servers: one, HealthCheck: time.Millisecond}, `health_check: 1ms: want 10ms to 1h`},
		{"max_fails", Config{Servers: one, MaxFails: -2}, `max_fails: -2: want a number of tries, or -1 for a server that never counts as down`},
		{"max_concurrent", Config{Servers: one, MaxConcurrent: -2}, `max_concurrent: -2: want a number of queries, or -1 for no limit`},
		{"healthy_rcodes", Config{Servers: one, HealthyRCODEs: []string{"noerror", "FINE"}}, `healthy_rcodes[1]: "FINE" is not an RCODE: want a name such as NOERROR or SERVFAIL`},
		{"probe", Config{Servers: one, Probe: "."}, `probe: ".": want NAME TYPE or NAME TYPE rd`},
		{"probe type", Config{Servers: one, Probe: ". NX"}, `probe: "NX" is not a type`},
		{"two errors", Config{Servers: one, Case: "x", Policy: "y"}, "policy: \"y\": want one of random, round_robin, sequential, fastest\ncase: \"x\": want one of keep, random"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.c.Validate(policy)
			got := ""
			if err != nil {
				got = err.Error()
				if key := (*KeyError)(nil); !errors.As(err, &key) {
					t.Errorf("%v is no KeyError", err)
				}
			}
			if got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if _, newErr := New("x", tt.c, Env{Policy: policy}); tt.want != "" && newErr == nil {
				t.Errorf("New took what Validate refuses")
			}
		})
	}
}

func TestPresets(t *testing.T) {
	c := Config{Preset: "coredns", Expire: time.Minute}.WithDefaults()
	want := Config{Preset: "coredns", Transport: "auto", Policy: "random", MaxFails: 2, MaxConcurrent: -1, Expire: time.Minute, HealthCheck: 500 * time.Millisecond,
		Probe: ". NS", OverLimit: "refused", ReadTimeout: 2 * time.Second, DialTimeout: 30 * time.Second, AllDown: "spray", Case: "keep", Norecurse: NorecurseRefuse}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("coredns: got %+v, want %+v", c, want)
	}
	if got := (Config{Preset: "nodelocal"}).WithDefaults().Transport; got != "tcp" {
		t.Errorf("nodelocal: transport %q, want tcp", got)
	}
	for name, c := range presets {
		c.Servers = []string{"192.0.2.1"}
		if err := c.Validate(Policy{}); err != nil {
			t.Errorf("preset %q: %v", name, err)
		}
	}
}
