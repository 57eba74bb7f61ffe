//go:build peers

package host

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/host/internal/loopback"
)

// TestPeersCookies asks a knotd that answers a query with a cookie only if that has its server cookie: the first one gets BADCOOKIE, and all others an
// answer at once.
func TestPeersCookies(t *testing.T) {
	dir, addr := t.TempDir(), loopback.Common(t)
	write(t, filepath.Join(dir, "peer.zone"), "@ 60 SOA ns hostmaster 1 60 60 60 60\n@ 60 NS ns\nns 60 A 192.0.2.1\n* 60 A 192.0.2.80\n")
	host, port, _ := strings.Cut(addr, ":")
	conf := write(t, filepath.Join(dir, "knot.conf"), fmt.Sprintf(`server:
    rundir: %[1]q
    listen: %[2]s@%[3]s
database:
    storage: %[1]q
mod-cookies:
  - id: require
    badcookie-slip: 1
template:
  - id: default
    global-module: mod-cookies/require
zone:
  - domain: peer.test
    storage: %[1]q
    file: peer.zone
`, dir, host, port))
	launch(t, "knotd", "-c", conf)
	answers(t, addr)
	path := write(t, filepath.Join(t.TempDir(), "weir.toml"), fmt.Sprintf(
		"[[listener]]\naddress = \"127.0.0.1:0\"\nchain = \"main\"\n[chain.main]\nupstream = \"up\"\n[upstream.up]\nservers = [%q]\ncookies = true\n", addr))
	s := serve(t, path)
	client := dns.Client{Timeout: patience}
	const queries = 20
	for i := range queries {
		r, _, err := client.Exchange(new(dns.Msg).SetQuestion(fmt.Sprintf("www%d.peer.test.", i), dns.TypeA), s.Addrs()[0].String())
		if err != nil || r.Rcode != dns.RcodeSuccess || len(r.Answer) != 1 {
			t.Fatalf("got %v, error %v, want an answer", r, err)
		}
	}
	if sent := s.counted(t, "weir_upstream_queries_total", "udp"); sent < queries+1 || sent > queries+5 {
		t.Errorf("%v packets for %d queries, want one more, and a few if some had to be sent again", sent, queries)
	}
	if n := s.counted(t, "weir_upstream_queries_total", "tcp"); n != 0 {
		t.Errorf("%v queries over TCP, want none", n)
	}
}
