package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/miekg/dns"
)

// TestUnixSocket has a whole, confined weir listen at a file: the file has the permissions that it shall have, outlives a crash, a second weir and a reload
// that changes the listener, and goes with the weir that made it.
func TestUnixSocket(t *testing.T) {
	dir := t.TempDir()
	socket, path := filepath.Join(dir, "dns.sock"), filepath.Join(dir, "weir.toml")
	config := func(mode, rcode string) string {
		return fmt.Sprintf(`[log]
queries = true
query_file = "queries.log"
[[listener]]
address = "unix:%s"
socket_mode = %q
chain = "main"
[[listener.scope]]
clients = ["0.0.0.0/0", "::/0"]
chain = "addresses"
[chain.main]
filters = ["rules"]
[chain.addresses]
filters = ["refuse"]
[filter.rules.config]
rule = [ { zone = "test", rcode = %q } ]
[filter.refuse]
module = "rules"
[filter.refuse.config]
rule = [ { zone = ".", rcode = "REFUSED" } ]
[wasm]
cache_dir = "modules"
`, socket, mode, rcode)
	}
	dial := func() *dns.Conn {
		t.Helper()
		c, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return &dns.Conn{Conn: c}
	}
	ask := func(c *dns.Conn, want int) {
		t.Helper()
		m, _, err := new(dns.Client).ExchangeWithConn(new(dns.Msg).SetQuestion("a.test.", dns.TypeA), c)
		if err != nil || m.Rcode != want {
			t.Errorf("got %v, %v, want %s", m, err, dns.RcodeToString[want])
		}
	}
	wantMode := func(want os.FileMode) {
		t.Helper()
		if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != want {
			t.Errorf("got %v, %v, want %v", info, err, want)
		}
	}
	put(t, path, config("0600", "NXDOMAIN"))
	p := start(t, path)
	if p.addr != "unix:"+socket {
		t.Errorf("serving at %q", p.addr)
	}
	ask(dial(), dns.RcodeNameError)
	if out, errs, err := run(t, "query", "@unix:"+socket, "a.test"); err != nil || !strings.Contains(out, "NXDOMAIN") || !strings.Contains(out, "over unix in") {
		t.Errorf("weir query: got %v, %s%s", err, out, errs)
	}
	wantMode(0o600)

	out, errs, err := run(t, "run", path)
	if err == nil || !strings.Contains(errs, "weir.toml:5: listener[0].address") || !strings.Contains(errs, "belongs to a process that listens") {
		t.Errorf("a second weir: got %v, %s%s", err, out, errs)
	}
	ask(dial(), dns.RcodeNameError)

	p.end(syscall.SIGKILL)
	if _, err := net.Dial("unix", socket); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatalf("nobody is there: got %v", err)
	}
	p = start(t, path)
	before, err := os.Stat(socket)
	if err != nil {
		t.Fatal(err)
	}
	ask(dial(), dns.RcodeNameError)

	put(t, path, config("0660", "NOTIMP")) // another mode is another listener
	p.cmd.Process.Signal(syscall.SIGHUP)   //nolint:errcheck // the next line waits for what it does
	p.wait(`"msg":"reloaded"`)
	ask(dial(), dns.RcodeNotImplemented)
	wantMode(0o660)
	if after, err := os.Stat(socket); err != nil || !os.SameFile(before, after) {
		t.Errorf("the reload left another file: %v, %v", after, err)
	}

	p.end(syscall.SIGTERM)
	if _, err := os.Lstat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left behind: %v", err)
	}
	lines, err := os.ReadFile(filepath.Join(dir, "queries.log"))
	if err != nil || !strings.Contains(string(lines), `"client":"unix"`) {
		t.Errorf("the log of queries has %q, %v", lines, err)
	}
}
