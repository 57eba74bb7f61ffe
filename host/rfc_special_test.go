package host

import (
	"bytes"
	"strings"
	"testing"

	"github.com/weirdns/weir/host/explain"
	"github.com/weirdns/weir/host/message"
	mt "github.com/weirdns/weir/host/message/messagetest"
)

const typePTR = 12

// asking is a question for a name that is set aside.
type asking struct {
	name  string
	qtype uint16
	rcode uint16
	data  string // RDATA at the end of the answer section; empty for no answer
}

// setAside asks over each transport. The upstream has an address for everything; policy is what special_names has it asked for.
func setAside(t *testing.T, policy string, forwarded bool, questions ...asking) {
	t.Helper()
	e, clients := startWire(t, answerAddress, "[upstream.up]", "[upstream.up]\nspecial_names = \""+policy+"\"")
	for _, c := range clients {
		for _, q := range questions {
			got := c.exchange(wireQuery(q.name, q.qtype, mt.OPT(1232, 0)))
			if forwarded {
				if asked := e.take(); len(asked) == 0 && c.name == "udp" || got.rcode() != message.NOERROR {
					t.Errorf("%s, %s: %s: got %x, and the upstream was asked %x", policy, c.name, q.name, got, asked)
				}
				continue
			}
			n := got.counts()
			if got.rcode() != q.rcode || (n[1] == 1) != (q.data != "") || !bytes.HasSuffix(got.records(), []byte(q.data)) || n[1]+n[2] != 1 {
				t.Errorf("%s, %s: %s: got %x, want RCODE %d and %x", policy, c.name, q.name, got, q.rcode, q.data)
			}
			if ede := got.options()[15]; len(ede) < 2 || ede[1] != message.EDESynthesized || !strings.Contains(string(ede), "is set aside by RFC ") {
				t.Errorf("%s, %s: %s: EDE %q, want one that says why", policy, c.name, q.name, ede)
			}
		}
	}
	if asked := e.take(); len(asked) > 0 && !forwarded {
		t.Errorf("%s: the upstream was asked %q", policy, asked)
	}
}

const loopback4, loopback6 = "\x7f\x00\x00\x01", "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"

// TestRFC6761Localhost: localhost and names below have the addresses of the host itself, no other data, and are asked of nobody (section 6.3).
func TestRFC6761Localhost(t *testing.T) {
	questions := []asking{{"localhost", message.TypeA, 0, loopback4}, {"localhost", message.TypeAAAA, 0, loopback6}, {"App.LocalHost", message.TypeA, 0, loopback4},
		{"localhost", 15, 0, ""}}
	setAside(t, "auto", false, questions...)
	setAside(t, "forward", true, questions...)
}

// TestRFC6761Invalid: invalid and names below don't exist, and are asked of nobody (section 6.4).
func TestRFC6761Invalid(t *testing.T) {
	questions := []asking{{"invalid", message.TypeA, message.NXDOMAIN, ""}, {"www.Invalid", message.TypeAAAA, message.NXDOMAIN, ""}}
	setAside(t, "auto", false, questions...)
	setAside(t, "forward", true, questions...)
}

// TestRFC7686Onion: names below onion don't exist in the DNS, and who looks for one is told to nobody (section 2).
func TestRFC7686Onion(t *testing.T) {
	questions := []asking{{"onion", message.TypeA, message.NXDOMAIN, ""}, {"www.expyuzz4wqqyqhjn.onion", message.TypeA, message.NXDOMAIN, ""}}
	setAside(t, "auto", false, questions...)
	setAside(t, "forward", true, questions...)
}

// TestRFC9476Alt: names below alt don't exist in the DNS, and are asked of nobody (section 2).
func TestRFC9476Alt(t *testing.T) {
	setAside(t, "auto", false, asking{"alt", message.TypeA, message.NXDOMAIN, ""}, asking{"name.gns.alt", message.TypeA, message.NXDOMAIN, ""})
}

// TestRFC8375HomeArpa: home.arpa is an empty zone where servers are not near, and is asked of servers of the same network, which may have it (sections 4 and 5).
func TestRFC8375HomeArpa(t *testing.T) {
	questions := []asking{{"home.arpa", message.TypeA, 0, ""}, {"printer.home.arpa", message.TypeA, message.NXDOMAIN, ""}}
	setAside(t, "answer", false, questions...)
	setAside(t, "auto", true, questions...) // the upstream is on this host
}

// TestRFC6303Local: the reverse zones of addresses that each network has for itself are empty where servers are not near, with a SOA record, and are asked of
// servers of the same network, which may have them (sections 3 and 4).
func TestRFC6303Local(t *testing.T) {
	var questions []asking
	for _, name := range []string{"1.0.0.10.in-addr.arpa", "1.0.31.172.in-addr.arpa", "1.1.168.192.in-addr.arpa", "1.0.0.127.in-addr.arpa", "1.d.f.ip6.arpa", "1.0.8.e.f.ip6.arpa"} {
		questions = append(questions, asking{name, typePTR, message.NXDOMAIN, ""})
	}
	questions = append(questions, asking{"10.in-addr.arpa", 2, 0, string(mt.Name("10.in-addr.arpa"))})
	setAside(t, "answer", false, questions...)
	setAside(t, "auto", true, questions...)
}

// TestRFC9462Resolver: resolver.arpa is about the server that is asked, so it is answered here whatever the policy, with no designated resolvers unless a zone
// that is held here has some (sections 6.1 and 6.4).
func TestRFC9462Resolver(t *testing.T) {
	for _, policy := range []string{"auto", "answer", "forward"} {
		setAside(t, policy, false, asking{"_dns.resolver.arpa", 64, 0, ""}, asking{"resolver.arpa", message.TypeA, 0, ""}, asking{"x.resolver.arpa", 64, message.NXDOMAIN, ""})
	}
	svcb := "\x00\x01" + string(mt.Name("dns.example"))
	_, clients := startWire(t, answerAddress, "filters = []", `filters = ["authority"]`, "[upstream.up]", `[filter.authority.config]
zones = ["ddr"]
[table.ddr]
zonefile = "ddr.zone"
[upstream.up]`, "file ddr.zone", `$ORIGIN resolver.arpa.
@ 60 IN SOA @ nobody.invalid. 1 3600 1200 604800 60
@ 60 IN NS @
_dns 60 IN SVCB 1 dns.example.
`)
	for _, c := range clients {
		if got := c.exchange(wireQuery("_dns.resolver.arpa", 64)); !bytes.HasSuffix(got.records(), []byte(svcb)) {
			t.Errorf("%s: got %x, want %x", c.name, got, svcb)
		}
	}
}

// TestExplainSetAside: a trail says which RFC sets a name aside, and which key decides.
func TestExplainSetAside(t *testing.T) {
	e, _ := startWire(t, answerAddress)
	trail, err := e.Explain(t.Context(), explain.Question{Name: "x.onion"})
	if err != nil {
		t.Fatal(err)
	}
	text := ""
	for _, s := range trail.Steps {
		text += s.Text + "\n"
	}
	if want := "onion. is set aside by RFC 7686, and "; !strings.Contains(text, want) || !strings.Contains(text, "special_names") {
		t.Errorf("got %q, want %q in it", text, want)
	}
}
