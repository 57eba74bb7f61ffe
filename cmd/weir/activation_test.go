//go:build linux

package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// activate returns a command that runs weir as systemd does with a socket unit. The files are those of the sockets.
func activate(path string, files ...*os.File) *exec.Cmd {
	// LISTEN_PID is the process's own, so it can be set only when there is one.
	cmd := exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ exec "$0" run "$1"`, os.Args[0], path)
	cmd.ExtraFiles = files
	return cmd
}

func listenFDs(n int) string { return fmt.Sprintf("LISTEN_FDS=%d", n) }

// fileOf returns the file of a socket, and closes the socket itself.
func fileOf(t *testing.T, s interface {
	File() (*os.File, error)
	Close() error
}) *os.File {
	t.Helper()
	f, err := s.File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	s.Close()
	return f
}

// bindShared binds a UDP socket which others may share, as ReusePort=yes in a socket unit does.
func bindShared(t *testing.T, address string) *net.UDPConn {
	t.Helper()
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		if e := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) }); e != nil {
			return e
		}
		return err
	}}
	c, err := lc.ListenPacket(t.Context(), "udp", address)
	if err != nil {
		t.Fatal(err)
	}
	return c.(*net.UDPConn)
}

// TestSocketActivation has weir started with sockets that are bound already, as systemd does. Queries that came before it, and while it was down after a crash,
// are answered. The file of the Unix-domain socket stays, with its permissions.
func TestSocketActivation(t *testing.T) {
	dir := t.TempDir()
	path, file := filepath.Join(dir, "weir.toml"), filepath.Join(dir, "dns.sock")
	udp := bindShared(t, "127.0.0.1:0")
	addr := udp.LocalAddr().String()
	tcp, err := net.Listen("tcp", addr)
	for range 100 { // until there is a port that nobody has over TCP
		if err == nil {
			break
		}
		udp.Close()
		udp = bindShared(t, "127.0.0.1:0")
		addr = udp.LocalAddr().String()
		tcp, err = net.Listen("tcp", addr)
	}
	if err != nil {
		t.Fatal(err)
	}
	admin, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	adminAddr := admin.Addr().String()
	stream, err := net.ListenUnix("unix", &net.UnixAddr{Name: file, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stream.SetUnlinkOnClose(false)
	if err := os.Chmod(file, 0o606); err != nil {
		t.Fatal(err)
	}
	files := []*os.File{
		fileOf(t, bindShared(t, addr)), fileOf(t, udp), fileOf(t, tcp.(*net.TCPListener)), fileOf(t, admin.(*net.TCPListener)), fileOf(t, stream),
	}
	put(t, path, fmt.Sprintf(`[admin]
address = %q
[[listener]]
address = %q
chain = "main"
[[listener]]
address = "unix:%s"
chain = "main"
[chain.main]
filters = ["rules"]
[filter.rules.config]
rule = [ { zone = "test", rcode = "NXDOMAIN" } ]
[wasm]
cache_dir = "modules"
`, adminAddr, addr, file))

	// Enough clients that each of the two UDP sockets has some of them.
	const clients = 32
	var conns []*dns.Conn
	send := func(network, address string) {
		t.Helper()
		c, err := net.DialTimeout(network, address, 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		d := &dns.Conn{Conn: c}
		if err := d.WriteMsg(new(dns.Msg).SetQuestion("a.test.", dns.TypeA)); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, d)
	}
	sendAll := func() {
		t.Helper()
		conns = nil
		for range clients {
			send("udp", addr)
		}
		send("tcp", addr)
		send("unix", file)
	}
	answered := func(when string) {
		t.Helper()
		for i, c := range conns {
			c.SetReadDeadline(time.Now().Add(time.Minute))
			if m, err := c.ReadMsg(); err != nil || m.Rcode != dns.RcodeNameError {
				t.Errorf("%s: query %d over %s: got %v, %v, want NXDOMAIN", when, i, c.RemoteAddr().Network(), m, err)
			}
		}
	}

	sendAll()
	p := begin(t, activate(path, files...), listenFDs(len(files)))
	answered("sent before the start")
	resp, err := http.Get("http://" + adminAddr + "/healthz")
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("admin: got %v, %v", resp, err)
	} else {
		resp.Body.Close()
	}
	sendAll()
	answered("sent while it serves")
	p.end(syscall.SIGKILL)
	sendAll()
	p = begin(t, activate(path, files...), listenFDs(len(files)))
	answered("sent after a crash")
	p.end(syscall.SIGTERM)
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o606 {
		t.Errorf("the file of the socket: got %v, %v, want the permissions that it had", info, err)
	}
}

// TestActivationRefused: what is passed and can't be used is an error, and says what to do.
func TestActivationRefused(t *testing.T) {
	path := configFile(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	file := fileOf(t, ln.(*net.TCPListener))
	for _, tt := range []struct {
		name, env string
		files     []*os.File
		want      string
	}{
		{"no listener", listenFDs(1), []*os.File{file}, "sockets that no listener takes: tcp " + addr + " (weir.socket): add a [[listener]] with that address and protocol to " + path},
		{"no socket", listenFDs(1), []*os.File{os.Stdin}, "is no socket"},
		{"no descriptor", listenFDs(100), []*os.File{file}, "LISTEN_FDS counts 100, but descriptor"},
		{"no number", "LISTEN_FDS=many", []*os.File{file}, `LISTEN_FDS is "many", want a number`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := activate(path, tt.files...)
			cmd = exec.CommandContext(ctx, cmd.Path, cmd.Args[1:]...)
			cmd.ExtraFiles = tt.files
			cmd.Env = append(os.Environ(), processVariable+"=1", "LISTEN_FDNAMES=weir.socket", tt.env)
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), tt.want) {
				t.Errorf("got %v, %s, want %q in it", err, out, tt.want)
			}
		})
	}
}
