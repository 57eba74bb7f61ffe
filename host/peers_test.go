//go:build peers && linux

package host

// These tests run weir, the binary, between servers and clients as users have them: knotd and unbound as upstreams, kdig, dig and libc as
// clients. They need Debian's knot, knot-dnsutils, unbound, bind9-dnsutils and iproute2, and root for the namespace of the libc test.

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/host/internal/loopback"
)

const peerZone = `$ORIGIN peer.test.
$TTL 300
@    IN SOA ns hostmaster 1 3600 600 86400 60
@    IN NS  ns
ns   IN A   192.0.2.53
www  IN A   192.0.2.80
     IN AAAA 2001:db8::80
     IN HTTPS 1 . alpn=h2
mail IN MX  10 www
big  IN TXT "%s" "%s" "%s" "%s" "%s" "%s" "%s" "%s"
`

// launch runs a program until the test ends.
func launch(t *testing.T, name string, args ...string) {
	t.Helper()
	var out bytes.Buffer
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // it was told to stop
		if t.Failed() {
			t.Logf("%s said:\n%s", name, out.Bytes())
		}
	})
}

// answers waits until a server answers anything. While nobody listens on addr, one of many client sockets will be given that very port and
// hear its own query: what counts is a response.
func answers(t *testing.T, addr string) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	m := new(dns.Msg).SetQuestion("www.peer.test.", dns.TypeA)
	c := dns.Client{Timeout: 200 * time.Millisecond}
	for {
		if r, _, err := c.Exchange(m, addr); err == nil && r.Response {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s does not answer", addr)
		}
	}
}

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// startKnotd serves peer.test.
func startKnotd(t *testing.T) string {
	dir, addr := t.TempDir(), loopback.Common(t)
	text := strings.Repeat("0123456789", 25)
	write(t, filepath.Join(dir, "peer.zone"), fmt.Sprintf(peerZone, text, text, text, text, text, text, text, text))
	host, port, _ := strings.Cut(addr, ":")
	conf := write(t, filepath.Join(dir, "knot.conf"), fmt.Sprintf(`server:
    rundir: %[1]q
    listen: %[2]s@%[3]s
database:
    storage: %[1]q
zone:
  - domain: peer.test
    storage: %[1]q
    file: peer.zone
`, dir, host, port))
	launch(t, "knotd", "-c", conf)
	answers(t, addr)
	return addr
}

// startUnbound serves names under local.test, and passes peer.test on to knotd.
func startUnbound(t *testing.T, knotd string) string {
	dir, addr := t.TempDir(), loopback.Common(t)
	host, port, _ := strings.Cut(addr, ":")
	conf := write(t, filepath.Join(dir, "unbound.conf"), fmt.Sprintf(`server:
  interface: %s@%s
  do-daemonize: no
  use-syslog: no
  logfile: ""
  username: ""
  chroot: ""
  directory: %q
  pidfile: ""
  do-not-query-localhost: no
  module-config: "iterator"
  local-zone: "local.test." static
  local-data: "www.local.test. A 192.0.2.81"
  local-zone: "test." nodefault
remote-control:
  control-enable: no
stub-zone:
  name: peer.test
  stub-addr: %s
`, host, port, dir, strings.Replace(knotd, ":", "@", 1)))
	launch(t, "unbound", "-d", "-c", conf)
	answers(t, addr)
	return addr
}

func startWeir(t *testing.T, format string, args ...any) string {
	dir, addr := t.TempDir(), loopback.Common(t)
	write(t, filepath.Join(dir, "home.zone"), `$ORIGIN home.arpa.
$TTL 300
@   IN SOA ns hostmaster 1 3600 600 86400 60
@   IN NS ns
ns  IN A 192.0.2.53
www IN A 192.0.2.99
out IN CNAME www.peer.test.
`)
	conf := write(t, filepath.Join(dir, "weir.toml"), fmt.Sprintf("[[listener]]\naddress = %q\nprotocols = [\"udp\", \"tcp\"]\nchain = \"main\"\n", addr)+fmt.Sprintf(format, args...))
	launch(t, weirBinary(t), "run", conf)
	answers(t, addr)
	return addr
}

func weirBinary(t *testing.T) string {
	path, err := filepath.Abs("../bin/weir")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run make build first", err)
	}
	return path
}

// ask runs a client and returns what it printed.
func ask(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

const peerChain = `
[table.home]
zonefile = "home.zone"
[upstream.knotd]
servers = [%q]
[upstream.unbound]
servers = [%q]
[chain.main]
filters = ["authority", "rules", "alternate"]
upstream = "unbound"
[filter.authority.config]
zones = ["home"]
[filter.rules.config]
rule = [ { zone = "peer.test", upstream = "knotd" } ]
[filter.alternate.config]
alternate = [ { rcodes = ["NXDOMAIN", "REFUSED"], upstream = "unbound" } ]
`

func TestPeers(t *testing.T) {
	knotd := startKnotd(t)
	unbound := startUnbound(t, knotd)
	weir := startWeir(t, peerChain, knotd, unbound)
	host, port, _ := strings.Cut(weir, ":")
	for _, tt := range []struct {
		name string
		args []string // name, type, options
		want []string
	}{
		{"held here", []string{"www.home.arpa", "A"}, []string{"NOERROR", "192.0.2.99", "aa"}},
		{"knotd by a rule", []string{"www.peer.test", "AAAA"}, []string{"NOERROR", "2001:db8::80"}},
		{"over TCP", []string{"+tcp", "www.peer.test", "A"}, []string{"NOERROR", "192.0.2.80"}},
		{"a type that weir does not know", []string{"www.peer.test", "TYPE65"}, []string{"NOERROR", "h2"}},
		{"a CNAME out of the zone", []string{"out.home.arpa", "A"}, []string{"NOERROR", "www.peer.test.", "192.0.2.80"}},
		{"unbound by default", []string{"www.local.test", "A"}, []string{"NOERROR", "192.0.2.81"}},
		{"a large answer", []string{"big.peer.test", "TXT"}, []string{"NOERROR", "0123456789"}},
		{"NXDOMAIN from everybody", []string{"none.peer.test", "A"}, []string{"NXDOMAIN", "SOA"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for client, args := range map[string][]string{
				"kdig": append([]string{"@" + host, "-p", port}, tt.args...),
				"dig":  append([]string{"@" + host, "-p", port}, tt.args...),
			} {
				out := ask(t, client, args...)
				for _, want := range tt.want {
					if !strings.Contains(out, want) {
						t.Errorf("%s: no %q in\n%s", client, want, out)
					}
				}
			}
		})
	}
	t.Run("weir query", func(t *testing.T) {
		if out := ask(t, weirBinary(t), "query", "@"+weir, "www.peer.test"); !strings.Contains(out, "192.0.2.80") {
			t.Errorf("got\n%s", out)
		}
	})
}

// The resolver of libc only asks port 53, so this has a network and an /etc/resolv.conf of its own.
func TestPeersLibc(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root for a network namespace")
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "home.zone"), "$ORIGIN home.arpa.\n$TTL 300\n@ IN SOA ns hostmaster 1 3600 600 86400 60\n@ IN NS ns\nns IN A 192.0.2.53\nwww IN A 192.0.2.99\nwww IN AAAA 2001:db8::99\n")
	write(t, filepath.Join(dir, "resolv.conf"), "nameserver 127.0.0.1\noptions timeout:2 attempts:2\n")
	conf := write(t, filepath.Join(dir, "weir.toml"), `[[listener]]
address = "127.0.0.1:53"
protocols = ["udp", "tcp"]
chain = "main"
[table.home]
zonefile = "home.zone"
[chain.main]
filters = ["authority"]
[filter.authority.config]
zones = ["home"]
`)
	script := write(t, filepath.Join(dir, "libc.sh"), `set -e
ip link set lo up
mount --bind "$1/resolv.conf" /etc/resolv.conf
"$2" run "$3" >"$1/weir.log" 2>&1 &
weir=$!
trap 'kill $weir; wait $weir || true' EXIT
for i in $(seq 75); do # the first start of a binary compiles its filters
  "$2" query @127.0.0.1:53 www.home.arpa --timeout 500ms >/dev/null 2>&1 && break
  sleep 0.2
done
getent ahosts www.home.arpa
getent ahosts none.home.arpa || echo "none: exit $?"
`)
	out := ask(t, "unshare", "--net", "--mount", "--propagation", "private", "sh", script, dir, weirBinary(t), conf)
	for _, want := range []string{"192.0.2.99", "2001:db8::99", "none: exit 2"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}
