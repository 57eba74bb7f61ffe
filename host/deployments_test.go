package host

import (
	"path/filepath"
	"testing"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/host/config"
)

// TestOffice plays examples/office.toml, which has the filters that config.toml has not. Its upstream is not asked.
func TestOffice(t *testing.T) {
	f, err := config.Load(filepath.Join("..", "examples", "office.toml"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Warnings) > 0 {
		t.Errorf("warnings: %v", f.Warnings)
	}
	f.Listeners[0].Address = "127.0.0.1:0"
	f.Listeners[0].Protocols = []string{"udp"}
	for i := range f.Upstreams {
		f.Upstreams[i].Config.ResolvConf = ""
		f.Upstreams[i].Config.Servers = []string{"192.0.2.53"}
	}
	s := serveFile(t, f)
	for _, tt := range []struct {
		name, want string
		qtype      uint16
		rcode      int
	}{
		{"scanner.office.example.", "192.0.2.7", dns.TypeA, dns.RcodeSuccess},
		{"www.old.example.", "", dns.TypeAAAA, dns.RcodeSuccess},
		{"scanner.old.example.", "192.0.2.7", dns.TypeA, dns.RcodeSuccess},
		{"7.2.0.192.in-addr.arpa.", "scanner.office.example.", dns.TypePTR, dns.RcodeSuccess},
		{"host-9.office.example.", "192.0.2.9", dns.TypeA, dns.RcodeSuccess},
		{"www.onion.", "", dns.TypeA, dns.RcodeNameError},
		{"www.office.example.", "", dns.TypeANY, dns.RcodeSuccess},
	} {
		m, err := dns.Exchange(new(dns.Msg).SetQuestion(tt.name, tt.qtype), s.Addrs()[0].String())
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, rr := range m.Answer {
			got += rr.String()[len(rr.Header().String()):]
		}
		if m.Rcode != tt.rcode || got != tt.want {
			t.Errorf("%s %s: got %s %q, want %s %q", tt.name, dns.Type(tt.qtype), dns.RcodeToString[m.Rcode], got, dns.RcodeToString[tt.rcode], tt.want)
		}
	}
}
