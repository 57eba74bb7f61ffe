package host

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/host/explain"
)

// geography is an upstream whose answers are the networks that it is told, for 24 bits, and empty networks for who is not told.
func geography(t *testing.T) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		network := net.IPv4zero
		if o := q.IsEdns0(); o != nil {
			m.SetEdns0(1232, false)
			for _, option := range o.Option {
				if s, ok := option.(*dns.EDNS0_SUBNET); ok {
					if network = s.Address; s.SourceNetmask > 0 {
						s.SourceScope = 24
					}
					m.IsEdns0().Option = []dns.EDNS0{s}
				}
			}
		}
		m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 300}, A: network}}
		w.WriteMsg(m) //nolint:errcheck // then there is no answer, which shows
	})}
	started := make(chan struct{})
	server.NotifyStartedFunc = func() { close(started) }
	ended := make(chan error)
	go func() { ended <- server.ActivateAndServe() }()
	<-started
	t.Cleanup(func() {
		server.Shutdown() //nolint:errcheck // the end of ActivateAndServe tells
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return conn.LocalAddr().String()
}

func serveForward(t *testing.T) *Server {
	t.Helper()
	path := filepath.Join(t.TempDir(), "weir.toml")
	text := fmt.Sprintf("[[listener]]\naddress = \"127.0.0.1:0\"\nprotocols = [\"udp\", \"tcp\"]\nchain = \"main\"\n"+
		"[upstream.geo]\nservers = [%q]\nclient_subnet = \"forward\"\n[chain.main]\nupstream = \"geo\"\n", geography(t))
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return serve(t, path)
}

// TestRFC7871EndToEnd: clients in different networks get different answers, each its own from the cache too, with the option that it sent and the scope of the
// answer, and those without an option get none (RFC 7871 sections 7.2.1 and 7.3).
func TestRFC7871EndToEnd(t *testing.T) {
	s := serveForward(t)
	for _, network := range []string{"udp", "tcp"} {
		for _, tt := range []struct{ subnet, want string }{
			{"192.0.2.0/24", "192.0.2.0 192.0.2.0/24/24"},
			{"203.0.113.0/24", "203.0.113.0 203.0.113.0/24/24"},
			{"203.0.113.77/32", "203.0.113.0 203.0.113.77/32/24"},
			{"0.0.0.0/0", "0.0.0.0 0.0.0.0/0/0"},
			{"198.51.0.0/16", "198.51.0.0 198.51.0.0/16/16"},
			{"", "0.0.0.0"},
			{"192.0.2.0/24", "192.0.2.0 192.0.2.0/24/24"},
		} {
			m := new(dns.Msg).SetQuestion("www.example.", dns.TypeA)
			m.SetEdns0(1232, false)
			if tt.subnet != "" {
				p := netip.MustParsePrefix(tt.subnet)
				m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: uint8(p.Bits()), Address: p.Addr().AsSlice()}}
			}
			c := dns.Client{Net: network}
			r, _, err := c.ExchangeContext(t.Context(), m, s.Addrs()[0].String())
			if err != nil {
				t.Fatal(err)
			}
			got := r.Answer[0].(*dns.A).A.String()
			for _, o := range r.IsEdns0().Option {
				got += " " + o.String()
			}
			if got != tt.want {
				t.Errorf("%s, %q: got %q, want %q", network, tt.subnet, got, tt.want)
			}
		}
	}
}

// TestExplainSubnet: a trail says which network the upstream was told, and which the answer is for.
func TestExplainSubnet(t *testing.T) {
	s := serveForward(t)
	texts := func(client string) string {
		trail, err := s.Explain(t.Context(), explain.Question{Name: "www.example", Client: netip.MustParseAddr(client)})
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, step := range trail.Steps {
			all = append(all, step.Part+" "+step.Event+": "+step.Text)
		}
		return strings.Join(all, "\n")
	}
	first, second := texts("203.0.113.77"), texts("203.0.113.8")
	for _, want := range []string{"left, with 203.0.113.0/24\n", ", for 203.0.113.0/24\ncache stored", "stored for 300 s (success), for 203.0.113.0/24"} {
		if !strings.Contains(first, want) {
			t.Errorf("the first trail has no %q:\n%s", want, first)
		}
	}
	if !slices.ContainsFunc(strings.Split(second, "\n"), func(line string) bool {
		return strings.HasPrefix(line, "cache hit: hit: success, ") && strings.HasSuffix(line, "left, for 203.0.113.0/24")
	}) {
		t.Errorf("the second trail has no hit:\n%s", second)
	}
}
