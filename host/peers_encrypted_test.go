//go:build peers && linux

package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weirdns/weir/host/internal/loopback"
	"github.com/weirdns/weir/host/internal/testcert"
)

// TestPeersProxy: kdig says in whose name it asks.
func TestPeersProxy(t *testing.T) {
	balanced := loopback.Common(t)
	startWeir(t, `
[[listener]]
address = %q
proxy_protocol = ["127.0.0.1"]
chain = "main"
[[listener.scope]]
clients = ["192.0.2.0/24"]
chain = "inside"
[table.home]
zonefile = "home.zone"
[upstream.none]
servers = ["192.0.2.53"]
[chain.main]
filters = ["refuse"]
upstream = "none"
[chain.inside]
filters = ["authority"]
upstream = "none"
[filter.refuse]
module = "rules"
[filter.refuse.config]
rule = [ { zone = ".", rcode = "REFUSED" } ]
[filter.authority.config]
zones = ["home"]
`, balanced)
	host, port, _ := strings.Cut(balanced, ":")
	for proxy, want := range map[string]string{"192.0.2.7-192.0.2.1": "NOERROR", "198.51.100.7-198.51.100.1": "REFUSED"} {
		for _, transport := range []string{"+notcp", "+tcp"} {
			if out := ask(t, "kdig", "@"+host, "-p", port, transport, "+proxy="+proxy, "www.home.arpa", "A"); !strings.Contains(out, "status: "+want) {
				t.Errorf("%s as %s: no %s in\n%s", transport, proxy, want, out)
			}
		}
	}
}

// TestPeersEncrypted: kdig, curl and Chromium ask over TLS, HTTPS and QUIC. kdig checks the certificate, and pads what it asks over TLS and QUIC.
func TestPeersEncrypted(t *testing.T) {
	dir, secure, https := t.TempDir(), loopback.Common(t), loopback.Common(t)
	authority := testcert.New(t)
	certificate, key := authority.Write(dir, "dns.example")
	ca := write(t, filepath.Join(dir, "ca.pem"), string(authority.PEM()))
	web := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "reached "+r.Host) }), ReadHeaderTimeout: time.Minute}
	webAddr := loopback.Common(t)
	web.Addr = webAddr
	go web.ListenAndServe() //nolint:errcheck // the client sees when there is none
	defer web.Close()
	_, webPort, _ := strings.Cut(webAddr, ":")
	startWeir(t, `
[[listener]]
address = %[1]q
protocols = ["tls", "quic"]
certificate = %[3]q
key = %[4]q
chain = "main"
[[listener]]
address = %[2]q
protocols = ["https"]
certificate = %[3]q
key = %[4]q
chain = "main"
[table.home]
zonefile = "home.zone"
[table.web]
hosts = ["127.0.0.1 web.example"]
[upstream.none]
servers = ["192.0.2.53"]
[chain.main]
filters = ["hosts", "authority"]
upstream = "none"
[filter.hosts.config]
tables = ["web"]
[filter.authority.config]
zones = ["home"]
`, secure, https, certificate, key)
	host, port, _ := strings.Cut(secure, ":")
	_, httpsPort, _ := strings.Cut(https, ":")
	trust := []string{"+tls-ca=" + ca, "+tls-hostname=dns.example"}
	for name, args := range map[string][]string{
		"TLS":        {"-p", port, "+tls"},
		"QUIC":       {"-p", port, "+quic"},
		"HTTPS POST": {"-p", httpsPort, "+https=dns.example/dns-query"},
		"HTTPS GET":  {"-p", httpsPort, "+https=dns.example/dns-query", "+https-get"},
	} {
		t.Run("kdig "+name, func(t *testing.T) {
			if name != "QUIC" { // with which kdig 3.2.6 takes these for +tls, and falls
				args = append(args, trust...)
			}
			out := ask(t, "kdig", append([]string{"@" + host, "www.home.arpa", "A"}, args...)...)
			for _, want := range []string{"NOERROR", "192.0.2.99"} {
				if !strings.Contains(out, want) {
					t.Errorf("no %q in\n%s", want, out)
				}
			}
			if !strings.HasPrefix(name, "HTTPS") && !strings.Contains(out, "Received 468 B") {
				t.Errorf("the response is not padded:\n%s", out)
			}
		})
	}
	t.Run("curl --doh-url", func(t *testing.T) {
		url := fmt.Sprintf("https://127.0.0.1:%s/dns-query", httpsPort)
		if out := ask(t, "curl", "--silent", "--show-error", "--doh-insecure", "--doh-url", url, "http://web.example:"+webPort+"/"); !strings.Contains(out, "reached web.example") {
			t.Errorf("got\n%s", out)
		}
	})
	t.Run("chromium", func(t *testing.T) {
		if out := browse(t, ca, fmt.Sprintf("https://127.0.0.1:%s/dns-query", httpsPort), "http://web.example:"+webPort+"/"); !strings.Contains(out, "reached web.example") {
			t.Errorf("got\n%s", out)
		}
	})
	for _, version := range []string{"--http1.1", "--http2"} {
		t.Run("curl /resolve "+version, func(t *testing.T) {
			url := fmt.Sprintf("https://dns.example:%s/resolve?name=www.home.arpa", httpsPort)
			out := ask(t, "curl", "--silent", "--show-error", version, "--cacert", ca, "--resolve", "dns.example:"+httpsPort+":127.0.0.1", url)
			if !strings.Contains(out, `"data":"192.0.2.99"`) {
				t.Errorf("got\n%s", out)
			}
		})
	}
}

// browse has Chromium show a page, with secure DNS by a server only, whose certificate it checks: nothing else is asked for the page's name.
func browse(t *testing.T, ca, resolver, page string) string {
	for _, name := range []string{"chromium", "certutil"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("there is no %s", name)
		}
	}
	home := t.TempDir()
	trust, profile := filepath.Join(home, ".pki", "nssdb"), filepath.Join(home, "profile")
	if err := errors.Join(os.MkdirAll(trust, 0o700), os.Mkdir(profile, 0o700)); err != nil {
		t.Fatal(err)
	}
	ask(t, "certutil", "-d", "sql:"+trust, "-N", "--empty-password")
	ask(t, "certutil", "-d", "sql:"+trust, "-A", "-t", "C,,", "-n", "test", "-i", ca)
	write(t, filepath.Join(profile, "Local State"), fmt.Sprintf(`{"dns_over_https": {"mode": "secure", "templates": %q}}`, resolver))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--user-data-dir="+profile, "--dump-dom", page)
	cmd.Env = append(os.Environ(), "HOME="+home)
	cmd.Stderr = &said
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("chromium: %v\n%s", err, said.Bytes())
	}
	return string(out)
}
