package listener

import (
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestConfigValidate(t *testing.T) {
	tests := []struct {
		name   string
		change func(c *Config)
		want   string // in the error, "" for none
	}{
		{"good", func(*Config) {}, ""},
		{"all addresses", func(c *Config) { c.Address = ":53" }, ""},
		{"IPv6", func(c *Config) { c.Address = "[fe80::1%lo]:53" }, ""},
		{"scopes", func(c *Config) {
			c.Scope = []ScopeConfig{{[]string{"10.0.0.0/8", "2001:db8::/32"}, "a", "", nil}, {[]string{"10.0.0.1"}, "b", "", nil}}
		}, ""},
		{"no address", func(c *Config) { c.Address = "" }, "address: is missing"},
		{"no port", func(c *Config) { c.Address = "127.0.0.1" }, `address: "127.0.0.1" is not`},
		{"host name", func(c *Config) { c.Address = "localhost:53" }, "address: "},
		{"port too large", func(c *Config) { c.Address = ":65536" }, "address: "},
		{"unknown protocol", func(c *Config) { c.Protocols = []string{"upd"} }, `protocols: "upd" is not a protocol`},
		{"TLS", func(c *Config) {
			c.Protocols, c.Certificate, c.Key, c.ClientCA = []string{"tls"}, "cert.pem", "key.pem", "ca.pem"
		}, ""},
		{"TLS without certificate", func(c *Config) { c.Protocols, c.Key = []string{"tls"}, "key.pem" }, "certificate: is missing: name a file with its certificate"},
		{"TLS without key", func(c *Config) { c.Protocols, c.Certificate = []string{"tls"}, "cert.pem" }, "key: is missing: name a file with the private key"},
		{"certificate without TLS", func(c *Config) { c.Certificate = "cert.pem" }, "certificate: is of no use"},
		{"client CA without TLS", func(c *Config) { c.ClientCA = "ca.pem" }, "client_ca: is of no use"},
		{"TLS on the port of TCP", func(c *Config) {
			c.Protocols, c.Certificate, c.Key = []string{"udp", "tcp", "tls"}, "cert.pem", "key.pem"
		}, `protocols: "tcp" and "tls" can't share a port of TCP: write a [[listener]] for each`},
		{"HTTPS", func(c *Config) {
			c.Protocols, c.Certificate, c.Key, c.Path = []string{"https"}, "cert.pem", "key.pem", "/q"
			c.Scope = []ScopeConfig{{nil, "a", "/a", nil}, {[]string{"10.0.0.0/8"}, "b", "/b", nil}, {[]string{"10.0.0.0/8"}, "b", "", nil}}
		}, ""},
		{"TLS and QUIC", func(c *Config) {
			c.Protocols, c.Certificate, c.Key = []string{"tls", "quic"}, "cert.pem", "key.pem"
		}, ""},
		{"HTTPS and UDP", func(c *Config) {
			c.Protocols, c.Certificate, c.Key = []string{"udp", "https"}, "cert.pem", "key.pem"
		}, `protocols: "udp" and "https" can't share a port of UDP`},
		{"HTTPS and TLS", func(c *Config) {
			c.Protocols, c.Certificate, c.Key = []string{"https", "tls"}, "cert.pem", "key.pem"
		}, `protocols: "https" and "tls" can't share a port of TCP`},
		{"QUIC and UDP", func(c *Config) {
			c.Protocols, c.Certificate, c.Key = []string{"quic", "udp"}, "cert.pem", "key.pem"
		}, `protocols: "quic" and "udp" can't share a port of UDP`},
		{"cookies and a name", func(c *Config) { c.Cookies, c.CookieSecret, c.NSID = "require", "secret", strings.Repeat("n", 64) }, ""},
		{"unknown mode of cookies", func(c *Config) { c.Cookies = "true" }, `cookies: "true": write "on", "off" or "require"`},
		{"without segmentation", func(c *Config) { c.UDPGSO = "off" }, ""},
		{"unknown mode of segmentation", func(c *Config) { c.UDPGSO = "false" }, `udp_gso: "false": write "on" or "off"`},
		{"a secret for nothing", func(c *Config) { c.Cookies, c.CookieSecret = "off", "secret" }, "cookie_secret: is of no use"},
		{"a long name", func(c *Config) { c.NSID = strings.Repeat("n", 65) }, "nsid: has 65 octets"},
		{"a rate limit", func(c *Config) {
			c.RateLimit = RateLimit{Responses: 100, Exempt: []string{"10.0.0.0/8", "2001:db8::1"}}
		}, ""},
		{"a rate limit without a rate", func(c *Config) { c.RateLimit.Slip = 2 }, "rate_limit.responses: is missing"},
		{"too much", func(c *Config) { c.RateLimit.Responses = 2_000_000 }, "rate_limit.responses: is 2000000: write 1 to 1000000"},
		{"a burst of hours", func(c *Config) { c.RateLimit = RateLimit{Responses: 1, Burst: 4000} }, "rate_limit.burst: is 4000: write 1 to 3600"},
		{"a prefix of IPv4", func(c *Config) { c.RateLimit = RateLimit{Responses: 1, IPv4Prefix: 33} }, "rate_limit.ipv4_prefix: is 33: write 1 to 32"},
		{"no network", func(c *Config) { c.RateLimit = RateLimit{Responses: 1, Exempt: []string{"example"}} }, "rate_limit.exempt[0]: "},
		{"a limit for nothing", func(c *Config) { c.Protocols, c.RateLimit.Responses = []string{"tcp"}, 1 }, `rate_limit: is of no use: it is for "udp"`},
		{"PROXY protocol", func(c *Config) { c.ProxyProtocol = []string{"10.0.0.0/8", "2001:db8::1"} }, ""},
		{"PROXY protocol of nobody", func(c *Config) { c.ProxyProtocol = []string{"10.0.0.0/8", "balancer"} }, `proxy_protocol[1]: "balancer" is not a prefix`},
		{"PROXY protocol over QUIC", func(c *Config) {
			c.Protocols, c.Certificate, c.Key, c.ProxyProtocol = []string{"quic"}, "cert.pem", "key.pem", []string{"10.0.0.0/8"}
		}, `proxy_protocol: is not for "quic"`},
		{"names", func(c *Config) {
			c.Protocols, c.Certificate, c.Key, c.ClientCA = []string{"tls"}, "cert.pem", "key.pem", "ca.pem"
			c.Scope = []ScopeConfig{{nil, "a", "", []string{"a.example", "b.example"}}, {[]string{"10.0.0.0/8"}, "b", "", []string{"a.example"}}}
		}, ""},
		{"names without certificates", func(c *Config) { c.Scope = []ScopeConfig{{nil, "a", "", []string{"a.example"}}} }, "scope[0].names: are of no use"},
		{"a name in two scopes", func(c *Config) {
			c.Protocols, c.Certificate, c.Key, c.ClientCA = []string{"tls"}, "cert.pem", "key.pem", "ca.pem"
			c.Scope = []ScopeConfig{{nil, "a", "", []string{"a.example", "b.example"}}, {nil, "b", "", []string{"B.example"}}}
		}, "scope[1].names: 0.0.0.0/0 is there twice, first in {scope[0].names}"},
		{"names and a path", func(c *Config) {
			c.Protocols, c.Certificate, c.Key, c.ClientCA = []string{"https"}, "cert.pem", "key.pem", "ca.pem"
			c.Scope = []ScopeConfig{{nil, "a", "/a", []string{"a.example"}}}
		}, "scope[0].names: can't be beside {scope[0].path}"},
		{"path without HTTPS", func(c *Config) { c.Path = "/q" }, "path: is of no use"},
		{"path of a scope without HTTPS", func(c *Config) { c.Scope = []ScopeConfig{{nil, "a", "/a", nil}} }, "scope[0].path: is of no use"},
		{"no path", func(c *Config) {
			c.Protocols, c.Certificate, c.Key, c.Path = []string{"https"}, "cert.pem", "key.pem", "q"
		}, `path: "q" is not a path`},
		{"path with parameters", func(c *Config) {
			c.Protocols, c.Certificate, c.Key, c.Path = []string{"https"}, "cert.pem", "key.pem", "/q?a"
		}, `path: "/q?a" is not a path`},
		{"path of JSON", func(c *Config) {
			c.Protocols, c.Certificate, c.Key, c.Scope = []string{"https"}, "cert.pem", "key.pem", []ScopeConfig{{nil, "a", "/resolve", nil}}
		}, `scope[0].path: "/resolve" is the path of the JSON form`},
		{"path in two scopes", func(c *Config) {
			c.Protocols, c.Certificate, c.Key, c.Scope = []string{"https"}, "cert.pem", "key.pem", []ScopeConfig{{nil, "a", "/a", nil}, {[]string{"::/0"}, "b", "/a", nil}}
		}, "scope[1].clients[0]: ::/0 is there twice, first in {scope[0].path}"},
		{"twice", func(c *Config) { c.Protocols = []string{"udp", "udp"} }, `protocols: "udp" is there twice`},
		{"no chain", func(c *Config) { c.Chain = "" }, "chain: is missing"},
		{"small UDP", func(c *Config) { c.MaxUDPSize = 511 }, "max_udp_size: is 511: write 512 to 4096"},
		{"large UDP", func(c *Config) { c.MaxUDPSize = 4097 }, "max_udp_size: is 4097"},
		{"negative", func(c *Config) { c.MaxInFlight = -1 }, "max_in_flight: is -1"},
		{"per client above all", func(c *Config) { c.TCPMaxClients, c.TCPMaxPerClient = 10, 11 }, "tcp_max_per_client: is 11: write 1 to 10"},
		{"few clients", func(c *Config) { c.TCPMaxClients = 10 }, ""},
		{"in flight", func(c *Config) { c.TCPMaxInFlight = 1001 }, "tcp_max_in_flight: is 1001"},
		{"idle", func(c *Config) { c.TCPIdleTimeout = time.Millisecond }, "tcp_idle_timeout: is 1ms"},
		{"scope without chain", func(c *Config) { c.Scope = []ScopeConfig{{Clients: []string{"10.0.0.0/8"}}} }, "scope[0].chain: is missing"},
		{"scope without clients", func(c *Config) { c.Scope = []ScopeConfig{{Chain: "a"}} }, "scope[0].clients: is empty"},
		{"no prefix", func(c *Config) { c.Scope = []ScopeConfig{{[]string{"10.0.0.0/33"}, "a", "", nil}} }, `scope[0].clients[0]: "10.0.0.0/33" is not`},
		{"bits behind", func(c *Config) { c.Scope = []ScopeConfig{{[]string{"10.0.0.1/8"}, "a", "", nil}} }, "write 10.0.0.0/8"},
		{"IPv4 in IPv6", func(c *Config) { c.Scope = []ScopeConfig{{[]string{"::ffff:10.0.0.0/104"}, "a", "", nil}} }, "write it as IPv4"},
		{"in two scopes", func(c *Config) {
			c.Scope = []ScopeConfig{{[]string{"10.0.0.1"}, "a", "", nil}, {[]string{"10.0.0.1/32"}, "b", "", nil}}
		}, "scope[1].clients[0]: 10.0.0.1/32 is there twice, first in {scope[0].clients[0]}"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := Config{Address: "127.0.0.1:53", Chain: "main"}
			tt.change(&c)
			err := c.Validate()
			if tt.want == "" {
				if err != nil {
					t.Errorf("got %v", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
			if _, err := New(c, 0, nil, Env{}); err == nil {
				t.Error("New takes it")
			}
		})
	}
	if err := (Config{}).Validate(); strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("got %v, want two errors at once", err)
	}
}

func TestConfigDefaults(t *testing.T) {
	got := Config{Address: ":53", Chain: "main"}.WithDefaults()
	if strings.Join(got.Protocols, " ") != "udp tcp" || got.MaxUDPSize != 1232 || got.TCPIdleTimeout != 10*time.Second || got.MaxInFlight != 4096 ||
		got.TCPMaxClients != 1024 || got.TCPMaxPerClient != 128 || got.TCPMaxInFlight != 64 {
		t.Errorf("got %+v", got)
	}
	if got := (Config{MaxUDPSize: 4096}).WithDefaults().MaxUDPSize; got != 4096 {
		t.Errorf("a value was replaced by %d", got)
	}
}

func TestScopes(t *testing.T) {
	c := Config{Scope: []ScopeConfig{
		{Clients: []string{"10.0.0.0/8", "2001:db8::/32"}},
		{Clients: []string{"10.1.0.0/16", "2001:db8:1::/48", "192.0.2.1"}},
		{Clients: []string{"10.1.2.0/24", "10.0.0.0/9", "255.255.255.255"}},
		{Clients: []string{"ffff::/16"}},
	}}
	all, err := c.Matchers()
	if err != nil {
		t.Fatal(err)
	}
	s := all.Plain
	for addr, want := range map[string]int{
		"10.0.0.0": 2, "10.127.255.255": 2, "10.128.0.0": 0, "10.255.255.255": 0, "9.255.255.255": -1, "11.0.0.0": -1,
		"10.1.0.0": 1, "10.1.1.255": 1, "10.1.2.0": 2, "10.1.2.255": 2, "10.1.3.0": 1, "10.2.0.0": 2,
		"192.0.2.0": -1, "192.0.2.1": 1, "192.0.2.2": -1, "0.0.0.0": -1, "255.255.255.254": -1, "255.255.255.255": 2,
		"::": -1, "2001:db8::": 0, "2001:db8:1::5": 1, "2001:db8:2::": 0, "2001:db9::": -1, "2001:db8::1%lo": 0,
		"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff": 3, "::ffff:10.1.2.3": 2, "::ffff:1.2.3.4": -1,
	} {
		got, ok := s.Find(netip.MustParseAddr(addr))
		if got != want || ok != (want >= 0) {
			t.Errorf("%s: got %d, %v; want %d", addr, got, ok, want)
		}
	}
	if _, ok := s.Find(netip.Addr{}); ok {
		t.Error("no address has a scope")
	}
	if _, ok := NewScopes(nil, nil).Find(netip.MustParseAddr("10.0.0.1")); ok {
		t.Error("without prefixes there is a scope")
	}
}

// TestScopesAgainstScan compares Find with a look at every prefix.
func TestScopesAgainstScan(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	address := func() netip.Addr { // close to each other, so that prefixes nest
		if r.IntN(2) == 0 {
			return netip.AddrFrom4([4]byte{byte(r.IntN(2) * 255), byte(r.IntN(3)), byte(r.IntN(3)), byte(r.IntN(256))})
		}
		return netip.AddrFrom16([16]byte{byte(r.IntN(2) * 255), byte(r.IntN(2)), 15: byte(r.IntN(4))})
	}
	for range 300 {
		var prefixes []netip.Prefix
		var scopes []int
		for i := range r.IntN(20) {
			a := address()
			prefixes, scopes = append(prefixes, netip.PrefixFrom(a, r.IntN(a.BitLen()+1))), append(scopes, i)
		}
		s := NewScopes(prefixes, scopes)
		for range 200 {
			a := address()
			want, bits := -1, -1
			for i, p := range prefixes {
				if p.Contains(a) && p.Bits() > bits {
					want, bits = scopes[i], p.Bits()
				}
			}
			if got, _ := s.Find(a); got != want {
				t.Fatalf("%v among %v: got %d, want %d", a, prefixes, got, want)
			}
		}
	}
}

func manyScopes() *Scopes {
	var prefixes []netip.Prefix
	var scopes []int
	for i := range 10000 {
		prefixes = append(prefixes, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24-i%8))
		scopes = append(scopes, i)
	}
	return NewScopes(prefixes, scopes)
}

func TestScopesAllocations(t *testing.T) {
	s, a := manyScopes(), netip.MustParseAddr("::ffff:10.5.6.7")
	if got := testing.AllocsPerRun(100, func() { s.Find(a) }); got != 0 {
		t.Errorf("got %v allocations, want none", got)
	}
}

func BenchmarkScopes(b *testing.B) {
	s, a := manyScopes(), netip.MustParseAddr("10.5.6.7")
	b.ReportAllocs()
	for b.Loop() {
		s.Find(a)
	}
}
