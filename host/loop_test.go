package host

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/host/explain"
	"github.com/weirdns/weir/host/internal/loopback"
)

// loopingWeirs starts two weirs that forward to each other, with more in their configuration, and returns them and their addresses.
func loopingWeirs(t *testing.T, more string) (weirs []*Server, addresses []string) {
	t.Helper()
	addresses = []string{loopback.Address(t), loopback.Address(t)}
	for i, address := range addresses {
		path := filepath.Join(t.TempDir(), "weir.toml")
		text := fmt.Sprintf("[[listener]]\naddress = %q\nchain = \"main\"\n[chain.main]\nupstream = \"up\"\n[upstream.up]\nservers = [%q]\n%s", address, addresses[1-i], more)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		weirs = append(weirs, serve(t, path))
	}
	return weirs, addresses
}

// explained is what explain says about a name.
func explained(t *testing.T, s *Server, name string) string {
	t.Helper()
	trail, err := s.Explain(t.Context(), explain.Question{Name: name, Type: "A", Client: netip.MustParseAddr("127.0.0.1")})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := trail.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestForwardingLoop: two weirs forward to each other, which neither can see in its configuration. A client gets SERVFAIL with an Extended DNS Error that
// says what is wrong, long before the time-out; explain says so too; a query makes few packets; and both weirs count it.
func TestForwardingLoop(t *testing.T) {
	weirs, addresses := loopingWeirs(t, "")
	client := dns.Client{Timeout: patience}
	names := 0
	// On a machine that stands still for a while a probe may come back when nobody waits any more. The next one comes in time.
	once := func(what string, found func(name string) bool) {
		t.Helper()
		for range 20 {
			names++
			if found(fmt.Sprintf("www%d.example.", names)) {
				return
			}
		}
		t.Errorf("no %s says that it is a forwarding loop", what)
	}
	once("response", func(name string) bool {
		m := new(dns.Msg).SetQuestion(name, dns.TypeA)
		m.SetEdns0(1232, false)
		r, _, err := client.Exchange(m, addresses[0])
		if err != nil || r.Rcode != dns.RcodeServerFailure {
			t.Fatalf("%s: got %v, error %v, want SERVFAIL", name, r, err)
		}
		return strings.Contains(r.String(), "forwarding loop")
	})
	once("trail", func(name string) bool {
		text := explained(t, weirs[0], name)
		return strings.Contains(text, "a probe came back, so the server, or one behind it, forwards to weir") && strings.Contains(text, "forwarding loop")
	})
	for i, s := range weirs {
		// Three tries, a probe and that of the other, each of which is asked again if there is nothing in time.
		if got, most := s.counted(t, "weir_upstream_queries_total"), float64(8*names); got > most {
			t.Errorf("weir %d sent %v packets for %d queries, want %v at most", i, got, names, most)
		}
	}
	if loops := weirs[0].counted(t, "weir_upstream_failures_total", "loop") + weirs[1].counted(t, "weir_upstream_failures_total", "loop"); loops == 0 {
		t.Errorf("no failure is counted as a loop")
	}
}

// TestForwardingLoopWithoutCache: the same without caches, where a query goes round until it is found out. Of what is known then, explain says that nobody is asked.
func TestForwardingLoopWithoutCache(t *testing.T) {
	weirs, addresses := loopingWeirs(t, "max_concurrent = 40\ncache = \"none\"\n[cache.none]\nsuccess.capacity = 0\ndenial.capacity = 0\n")
	client := dns.Client{Timeout: patience}
	for i := range 20 { // more than one when the machine stands still, as above
		name := fmt.Sprintf("www%d.example.", i)
		m := new(dns.Msg).SetQuestion(name, dns.TypeA)
		m.SetEdns0(1232, false)
		r, _, err := client.Exchange(m, addresses[0])
		if err != nil || r.Rcode != dns.RcodeServerFailure && r.Rcode != dns.RcodeRefused {
			t.Fatalf("%s: got %v, error %v, want SERVFAIL", name, r, err)
		}
		if strings.Contains(explained(t, weirs[0], name), "is not asked: a moment ago a probe came back") {
			return
		}
	}
	t.Error("no trail says that the server is not asked")
}

// counted is the sum of a counter over the series that have all these values of labels.
func (s *Server) counted(t *testing.T, name string, values ...string) (sum float64) {
	t.Helper()
	families, err := s.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			has := 0
			for _, l := range m.GetLabel() {
				for _, value := range values {
					if l.GetValue() == value {
						has++
					}
				}
			}
			if f.GetName() == name && has == len(values) {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}
