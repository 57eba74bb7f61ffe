//go:build peers && linux

package host

// These tests have weir ask unbound and dnsdist over encrypted transports. They need Debian's unbound, dnsdist, knot and knot-dnsutils.

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirdns/weir/host/internal/loopback"
	"github.com/weirdns/weir/host/upstream/upstreamtest"
)

// secrets are the files of an authority, and of a server called dns.test at 127.0.0.1.
func secrets(t *testing.T) (ca, certificate, key string) {
	t.Helper()
	a, err := upstreamtest.NewAuthority(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	issued, err := a.Issue("dns.test", "127.0.0.1")
	if err == nil {
		certificate, key, err = a.Write("dns", issued)
	}
	if err != nil {
		t.Fatal(err)
	}
	return a.File, certificate, key
}

// startSecretUnbound answers from local data, over UDP, TLS and HTTPS.
func startSecretUnbound(t *testing.T, certificate, key string) (plain, dot, doh string) {
	dir, plain, dot, doh := t.TempDir(), loopback.Common(t), loopback.Common(t), loopback.Common(t)
	at := func(addr string) string { return strings.Replace(addr, ":", "@", 1) }
	port := func(addr string) string { return addr[strings.Index(addr, ":")+1:] }
	conf := write(t, filepath.Join(dir, "unbound.conf"), fmt.Sprintf(`server:
  interface: %s
  interface: %s
  interface: %s
  tls-port: %s
  https-port: %s
  tls-service-pem: %q
  tls-service-key: %q
  do-daemonize: no
  use-syslog: no
  logfile: ""
  username: ""
  chroot: ""
  directory: %q
  pidfile: ""
  module-config: "iterator"
  local-zone: "peer.test." static
  local-zone: "dns.test." static
  local-data: "dns.test. A 127.0.0.1"
  local-data: "www.peer.test. A 192.0.2.81"
  local-data: "big.peer.test. TXT %[9]s"
  local-data: "big.peer.test. TXT %[9]sx"
  local-data: "big.peer.test. TXT %[9]sy"
  local-data: "big.peer.test. TXT %[9]sz"
  local-data: "big.peer.test. TXT %[9]sa"
  local-data: "big.peer.test. TXT %[9]sb"
remote-control:
  control-enable: no
`, at(plain), at(dot), at(doh), port(dot), port(doh), certificate, key, dir, strings.Repeat("0123456789", 25)))
	launch(t, "unbound", "-d", "-c", conf)
	answers(t, plain)
	return plain, dot, doh
}

// startDnsdist passes queries on to knotd, from UDP, TLS and HTTPS.
func startDnsdist(t *testing.T, knotd, certificate, key string) (dot, doh string) {
	dir, plain, dot, doh := t.TempDir(), loopback.Common(t), loopback.Common(t), loopback.Common(t)
	conf := write(t, filepath.Join(dir, "dnsdist.conf"), fmt.Sprintf(`setLocal(%q)
addTLSLocal(%q, %[3]q, %[4]q)
addDOHLocal(%[5]q, %[3]q, %[4]q, "/dns-query")
newServer({address=%[6]q, checkName="peer.test."})
setACL("127.0.0.0/8")
`, plain, dot, certificate, key, doh, knotd))
	launch(t, "dnsdist", "--supervised", "--disable-syslog", "-C", conf)
	answers(t, plain)
	return dot, doh
}

// TestPeersEncryptedUpstreams has weir ask each peer over each transport that it has.
func TestPeersEncryptedUpstreams(t *testing.T) {
	ca, certificate, key := secrets(t)
	plain, unbound, unboundDoH := startSecretUnbound(t, certificate, key)
	dnsdist, dnsdistDoH := startDnsdist(t, startKnotd(t), certificate, key)
	for _, tt := range []struct {
		name, server, address string
	}{
		{"unbound over TLS", "tls://" + unbound + "#dns.test", "192.0.2.81"},
		{"dnsdist over TLS", "tls://" + dnsdist + "#dns.test", "192.0.2.80"},
		{"unbound over HTTPS", "https://" + unboundDoH + "/dns-query#dns.test", "192.0.2.81"},
		{"dnsdist over HTTPS", "https://" + dnsdistDoH + "/dns-query#dns.test", "192.0.2.80"},
		{"unbound by its name", "tls://dns.test:" + unbound[strings.Index(unbound, ":")+1:], "192.0.2.81"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bootstrap := ""
			if strings.Contains(tt.server, "//dns.test") {
				bootstrap = fmt.Sprintf("bootstrap = [%q]\n", plain)
			}
			weir := startWeir(t, "[chain.main]\nupstream = \"up\"\n[upstream.up]\nservers = [%q]\nca = %q\n%s", tt.server, ca, bootstrap)
			host, port, _ := strings.Cut(weir, ":")
			for _, ask := range []struct{ name, args, want string }{
				{"address", "www.peer.test A", tt.address},
				{"large answer", "+tcp big.peer.test TXT", "0123456789"},
				{"NXDOMAIN", "none.peer.test A", "NXDOMAIN"},
			} {
				out := askPeer(t, host, port, ask.args)
				if !strings.Contains(out, ask.want) {
					t.Errorf("%s: no %q in\n%s", ask.name, ask.want, out)
				}
			}
		})
	}
	t.Run("wrong name", func(t *testing.T) {
		weir := startWeir(t, "[chain.main]\nupstream = \"up\"\n[upstream.up]\nservers = [%q]\nca = %q\n", "tls://"+unbound+"#other.test", ca)
		host, port, _ := strings.Cut(weir, ":")
		if out := askPeer(t, host, port, "www.peer.test A"); !strings.Contains(out, "SERVFAIL") {
			t.Errorf("got\n%s", out)
		}
	})
}

func askPeer(t *testing.T, host, port, args string) string {
	t.Helper()
	return ask(t, "kdig", append([]string{"@" + host, "-p", port}, strings.Fields(args)...)...)
}
