package upstream

import (
	"context"
	"errors"
	"log/slog"
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
		{"names", Config{Servers: []string{"192.0.2.1", "dns.example", "tcp://dns.example:5353", "kube-dns"}}, ""},
		{"names, encrypted", Config{Servers: []string{"tls://dns.example", "tls://dns.example:8853#other.example", "https://dns.example/q", "quic://quic.example"}, Bootstrap: []string{"192.0.2.1", "[2001:db8::1]:5353"}}, ""},
		{"name twice", Config{Servers: []string{"dns.example", "DNS.example.:53"}}, `servers[1]: dns.example:53 is there twice`},
		{"no name", Config{Servers: []string{"192.0.2.256", "dns example", "dns.example:dns", "[dns.example]", "192.0.2.1.2"}},
			`servers[0]: "192.0.2.256": want ADDRESS, ADDRESS:PORT or [IPV6]:PORT, or a host name for the address` + "\n" +
				`servers[1]: "dns example": want ADDRESS, ADDRESS:PORT or [IPV6]:PORT, or a host name for the address` + "\n" +
				`servers[2]: "dns.example:dns": want ADDRESS, ADDRESS:PORT or [IPV6]:PORT, or a host name for the address` + "\n" +
				`servers[3]: "[dns.example]": want ADDRESS, ADDRESS:PORT or [IPV6]:PORT, or a host name for the address` + "\n" +
				`servers[4]: "192.0.2.1.2": want ADDRESS, ADDRESS:PORT or [IPV6]:PORT, or a host name for the address`},
		{"bootstrap by name", Config{Servers: []string{"dns.example"}, Bootstrap: []string{"dns.example"}}, `bootstrap[0]: "dns.example": is a name, which would have to be looked up itself: want an address`},
		{"bootstrap by itself", Config{Servers: []string{"dns.example"}, Bootstrap: []string{"192.0.2.53"}}, `bootstrap[0]: 192.0.2.53:53 is a listener of weir itself: queries would go round in a loop`},
		{"bootstrap, half encrypted", Config{Servers: []string{"dns.example"}, Bootstrap: []string{"192.0.2.1", "tls://192.0.2.2"}}, `bootstrap: some are asked in clear text and others are encrypted, 192.0.2.1:53 and 192.0.2.2:853: want one or the other`},
		{"bootstrap for nothing", Config{Servers: one, Bootstrap: []string{"192.0.2.1"}}, `bootstrap: is for servers that are given by name, of which there are none: want none of it, or servers such as "tls://dns.example"`},
		{"tls", Config{Servers: []string{"tls://192.0.2.1", "tls://192.0.2.2#dns.example", "tls://192.0.2.3:8853#DNS.example.", "tls://[2001:db8::1]", "tls://[2001:db8::1]:8853#192.0.2.1"}}, ""},
		{"https", Config{Servers: []string{"https://192.0.2.1", "https://192.0.2.2/q#dns.example", "https://[2001:db8::1]:8443/dns-query#dns.example"}}, ""},
		{"https path", Config{Servers: []string{"https://192.0.2.1/dns-query{?dns}"}}, `servers[0]: "https://192.0.2.1/dns-query{?dns}": "/dns-query{?dns}" is not the path of a URL: want one such as /dns-query`},
		{"quic", Config{Servers: []string{"quic://192.0.2.1", "quic://192.0.2.2#dns.example", "quic://[2001:db8::1]:8853#dns.example"}}, ""},
		{"tls keys", Config{Servers: []string{"tls://192.0.2.1"}, CA: "ca.pem", Certificate: "own.pem", Key: "own.key", Pins: []string{"sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="}}, ""},
		{"tls name", Config{Servers: []string{"tls://192.0.2.1#", "tls://192.0.2.2#a b", "tls://192.0.2.3#."}},
			`servers[0]: "tls://192.0.2.1#": "" is not a name that a certificate can be for: want a host name, such as dns.example` + "\n" +
				`servers[1]: "tls://192.0.2.2#a b": "a b" is not a name that a certificate can be for: want a host name, such as dns.example` + "\n" +
				`servers[2]: "tls://192.0.2.3#.": "." is not a name that a certificate can be for: want a host name, such as dns.example`},
		{"tls without address", Config{Servers: []string{"tls://"}}, `servers[0]: "tls://": want tls://ADDRESS#NAME, tls://ADDRESS:PORT#NAME or tls://[IPV6]:PORT#NAME, or a host name for the address`},
		{"name in clear text", Config{Servers: []string{"192.0.2.1#dns.example"}}, `servers[0]: "192.0.2.1#dns.example": #dns.example is the name in a certificate, which there is none of in clear text: want "tls://192.0.2.1#dns.example", or no name`},
		{"half encrypted", Config{Servers: []string{"tls://192.0.2.1", "192.0.2.2"}}, `servers: some are asked in clear text, such as 192.0.2.2:53, and others are encrypted, such as 192.0.2.1:853: want one or the other, or two upstreams`},
		{"pin", Config{Servers: []string{"tls://192.0.2.1"}, Pins: []string{"sha256/AAAA", "sha1/AAAA", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="}},
			`pin[0]: "sha256/AAAA" is not a pin: want sha256/ and the 44 characters of a hash in base64` + "\n" +
				`pin[1]: "sha1/AAAA" is not a pin: want sha256/ and the 44 characters of a hash in base64` + "\n" +
				`pin[2]: "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=" is not a pin: want sha256/ and the 44 characters of a hash in base64`},
		{"certificate without key", Config{Servers: []string{"tls://192.0.2.1"}, Certificate: "own.pem"}, `certificate: there is no key: want both, or neither`},
		{"key without certificate", Config{Servers: []string{"tls://192.0.2.1"}, Key: "own.key"}, `key: there is no certificate: want both, or neither`},
		{"ca in clear text", Config{Servers: one, CA: "ca.pem"}, `ca: is for encrypted servers, of which there are none: want servers such as "tls://192.0.2.1#dns.example"`},
		{"scheme", Config{Servers: []string{"upd://192.0.2.1"}}, `servers[0]: "upd://192.0.2.1": unknown scheme "upd": want an address, or udp://, tcp://, tls://, https://, quic://`},
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
		{"transport", Config{Servers: one, Transport: "sctp"}, `transport: "sctp": want one of auto, udp, tcp`},
		{"transport tls", Config{Servers: one, Transport: "tls"}, `transport: "tls": want one of auto, udp, tcp; encryption is written with each server, such as "tls://192.0.2.1#dns.example"`},
		{"policy", Config{Servers: one, Policy: "best"}, `policy: "best": want one of random, round_robin, sequential, fastest`},
		{"over_limit", Config{Servers: one, OverLimit: "drop"}, `over_limit: "drop": want one of refused, stale`},
		{"all_down", Config{Servers: one, AllDown: "pray"}, `all_down: "pray": want one of spray, fail`},
		{"case", Config{Servers: one, Case: "upper"}, `case: "upper": want one of keep, random`},
		{"client_subnet", Config{Servers: one, ClientSubnet: "set 2001:db8::/56"}, ""},
		{"client_subnet without prefix", Config{Servers: one, ClientSubnet: "192.0.2.0/24"}, `client_subnet: "192.0.2.0/24": want strip, forward, or set and a prefix, such as "set 192.0.2.0/24"`},
		{"client_subnet forward", Config{Servers: one, ClientSubnet: "forward"}, ""},
		{"client_subnet with limits", Config{Servers: one, ClientSubnet: "forward /20 /48"}, ""},
		{"client_subnet with one limit", Config{Servers: one, ClientSubnet: "forward /20"}, `client_subnet: "forward /20": want forward, or forward and the largest prefixes of IPv4 and IPv6, such as "forward /24 /56"`},
		{"client_subnet with numbers", Config{Servers: one, ClientSubnet: "forward 24 56"}, `client_subnet: "forward 24 56": want forward, or forward and the largest prefixes of IPv4 and IPv6, such as "forward /24 /56"`},
		{"client_subnet too long", Config{Servers: one, ClientSubnet: "forward /33 /56"}, `client_subnet: "forward /33 /56": /33 is not between /1 and /32, as a prefix of IPv4`},
		{"client_subnet too short", Config{Servers: one, ClientSubnet: "forward /24 /0"}, `client_subnet: "forward /24 /0": /0 is not between /1 and /128, as a prefix of IPv6`},
		{"client_subnet with host bits", Config{Servers: one, ClientSubnet: "set 192.0.2.1/24"}, `client_subnet: "set 192.0.2.1/24" has bits set behind its length: want "set 192.0.2.0/24"`},
		{"trusted", Config{Servers: []string{"tls://192.0.2.1"}, Trusted: true}, ""},
		{"trusted in clear text", Config{Servers: one, Trusted: true}, `trusted: 192.0.2.1:53 is asked in clear text, where anybody on the way can set AD: want servers such as "tls://192.0.2.1#dns.example"`},
		{"trusted resolv.conf", Config{ResolvConf: "/etc/resolv.conf", Trusted: true}, `trusted: is for encrypted servers, and those of resolv_conf are not: want servers such as "tls://192.0.2.1#dns.example"`},
		{"any", Config{Servers: one, ANY: "hinfo"}, `any: "hinfo": want one of forward, minimal`},
		{"udp_gso", Config{Servers: one, UDPGSO: "no"}, `udp_gso: "no": want one of on, off`},
		{"special_names", Config{Servers: one, SpecialNames: "no"}, `special_names: "no": want one of auto, answer, forward`},
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
			lookup := func(context.Context, string) ([]netip.Addr, time.Duration, error) { return nil, 0, errNoAddress }
			if _, newErr := New("x", tt.c, Env{Policy: policy, Lookup: lookup, Log: slog.New(slog.DiscardHandler)}); tt.want != "" && newErr == nil {
				t.Errorf("New took what Validate refuses")
			}
		})
	}
}

func TestPresets(t *testing.T) {
	c := Config{Preset: "coredns", Expire: time.Minute}.WithDefaults()
	want := Config{Preset: "coredns", Transport: "auto", Policy: "random", MaxFails: 2, MaxConcurrent: -1, Expire: time.Minute, HealthCheck: 500 * time.Millisecond,
		Probe: ". NS", OverLimit: "refused", ReadTimeout: 2 * time.Second, DialTimeout: 30 * time.Second, AllDown: "spray", Case: "keep", ClientSubnet: "strip", UDPGSO: UDPGSOOn, Norecurse: NorecurseRefuse, SpecialNames: SpecialAuto, ANY: ANYForward}
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

func TestIsNear(t *testing.T) {
	for _, tt := range []struct {
		name string
		c    Config
		want bool
	}{
		{"public", Config{Servers: []string{"8.8.8.8"}}, false},
		{"public IPv6", Config{Servers: []string{"[2001:4860:4860::8888]:53"}}, false},
		{"private by address", Config{Servers: []string{"10.0.0.2", "172.16.0.1:53", "192.168.0.1", "[fd00::1]:53"}}, true},
		{"this host and link", Config{Servers: []string{"127.0.0.53", "[::1]:53", "169.254.20.10", "[fe80::1%1]:53"}}, true},
		{"a cloud's", Config{Servers: []string{"100.100.2.136"}}, true},
		{"one of two", Config{Servers: []string{"10.0.0.2", "8.8.8.8"}}, false},
		{"encrypted", Config{Servers: []string{"tls://10.0.0.2#dns.example"}}, true},
		{"by name", Config{Servers: []string{"tls://dns.example"}}, false},
		{"private by configuration", Config{Servers: []string{"8.8.8.8"}, Private: true}, true},
		{"the system's", Config{ResolvConf: "/etc/resolv.conf"}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.c.IsNear(); got != tt.want {
				t.Errorf("got %t, want %t", got, tt.want)
			}
		})
	}
}
