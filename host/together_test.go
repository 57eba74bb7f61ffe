package host

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// TestWeirBehindWeir: one weir asks another over each transport that both have, with the other's certificate checked. What the client sees is
// what the last upstream said, and the weir in between saw the transport that was meant.
func TestWeirBehindWeir(t *testing.T) {
	behind := startEncrypted(t)
	behind.write("ca.pem", string(behind.authority.PEM()))
	ca := filepath.Join(filepath.Dir(behind.path), "ca.pem")
	addrs := behind.Addrs()
	for _, tt := range []struct{ name, server, transport string }{
		{"UDP", addrs[0].String(), "udp"},
		{"TCP", "tcp://" + addrs[0].String(), "tcp"},
		{"TLS", "tls://" + addrs[1].String() + "#dns.example", "tls"},
		{"HTTPS", "https://" + addrs[2].String() + "/dns-query#dns.example", "https"},
		{"QUIC", "quic://" + addrs[1].String() + "#dns.example", "quic"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := behind.counted(t)
			conn, err := dns.Dial("udp", serve(t, inFront(t, tt.server, ca)).Addrs()[0].String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			client := dns.Client{Timeout: patience}
			for i := range 20 {
				name := fmt.Sprintf("www%d.%s.example.", i, tt.transport)
				m, _, err := client.ExchangeWithConn(new(dns.Msg).SetQuestion(name, dns.TypeA), conn)
				if err != nil || m.Rcode != dns.RcodeSuccess || len(m.Answer) != 1 || m.Answer[0].(*dns.A).A.String() != "192.0.2.1" {
					t.Fatalf("%s: got %v, %v", name, m, err)
				}
			}
			m, _, err := client.ExchangeWithConn(new(dns.Msg).SetQuestion("x.generation.test.", dns.TypeA), conn)
			if err != nil || m.Rcode != dns.RcodeNameError {
				t.Errorf("the rule of the weir behind: got %v, %v; want NXDOMAIN", m, err)
			}
			after := behind.counted(t)
			for transport, n := range after {
				want := 0.0
				if transport == tt.transport {
					want = 21
				}
				if got := n - before[transport]; got != want {
					t.Errorf("the weir behind got %v queries over %s, want %v", got, transport, want)
				}
			}
		})
	}
}

// inFront writes the configuration of a weir that asks server, and returns its path.
func inFront(t *testing.T, server, ca string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "weir.toml")
	text := fmt.Sprintf("[[listener]]\naddress = \"127.0.0.1:0\"\nchain = \"main\"\n[chain.main]\nupstream = \"up\"\n[upstream.up]\nservers = [%q]\n", server)
	if strings.Contains(server, "#") {
		text += fmt.Sprintf("ca = %q\n", ca)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}
