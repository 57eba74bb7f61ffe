package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/miekg/dns"

	"github.com/weirdns/weir/host/upstream/upstreamtest"
	"github.com/weirdns/weir/host/wasm/wat"
)

var kills = flag.Int("kills", 5, "how often TestFaultX17Killed kills weir; 200 in .ci/run")

// processVariable has the test binary be weir, with its arguments, so that tests have a process to look at, confine and kill.
const processVariable = "TEST_WEIR_PROCESS"

// process is a weir that runs.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	log   chan string
	addr  string
	admin string // "" without admin pages
}

// start runs weir with the configuration at path, and returns when it serves.
func start(t *testing.T, path string, env ...string) *process {
	t.Helper()
	return begin(t, exec.Command(os.Args[0], "run", path), env...)
}

// begin is start for a command that runs weir.
func begin(t *testing.T, cmd *exec.Cmd, env ...string) *process {
	t.Helper()
	timer := time.AfterFunc(3*time.Minute, func() { cmd.Process.Kill() }) //nolint:errcheck // it may have ended
	t.Cleanup(func() { timer.Stop() })
	p := &process{t: t, cmd: cmd, log: make(chan string, 1000)}
	p.cmd.Env = append(append(os.Environ(), processVariable+"=1", "WEIR_LOG__FORMAT=json"), env...)
	pipe, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.end(syscall.SIGKILL) })
	go func() {
		defer close(p.log)
		for lines := bufio.NewScanner(pipe); lines.Scan(); {
			p.log <- lines.Text()
		}
	}()
	var line struct{ Msg, Address string }
	for line.Msg != "serving" {
		if err := json.Unmarshal([]byte(p.wait(`"address":`)), &line); err != nil {
			t.Fatal(err)
		}
		if line.Msg == "admin pages" {
			p.admin = line.Address
		}
	}
	p.addr = line.Address
	return p
}

// quiet throws away what the process logs from now on: it must not stop at a full pipe.
func (p *process) quiet() {
	go func() {
		for range p.log { // until it ends
		}
	}()
}

// wait reads the log until a line has text in it, and returns that line.
func (p *process) wait(text string) string {
	p.t.Helper()
	var all []string
	for line := range p.log {
		if strings.Contains(line, text) {
			return line
		}
		all = append(all, line)
	}
	p.t.Fatalf("the process ended without saying %q:\n%s", text, strings.Join(all, "\n"))
	return ""
}

// end sends a signal and waits for the end.
func (p *process) end(s syscall.Signal) {
	if p.cmd.ProcessState != nil {
		return
	}
	p.cmd.Process.Signal(s) //nolint:errcheck // it may have ended
	for range p.log {       // or Wait would take the end of the log away
	}
	p.cmd.Wait() //nolint:errcheck // killed processes have one
}

// ask returns the response to a question for an address, or nil.
func (p *process) ask(name string) *dns.Msg {
	m, _, err := (&dns.Client{Timeout: 3 * time.Second}).Exchange(new(dns.Msg).SetQuestion(name, dns.TypeA), p.addr)
	if err != nil {
		return nil
	}
	return m
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestFaultX17Killed kills weir while it writes a snapshot, again and again. Each start has the answers of before, though the upstream is gone by then, with TTLs
// that went on. There are some weirs at a time, each on its own, since most of a second goes by until there is a snapshot.
func TestFaultX17Killed(t *testing.T) {
	const weirs = 4
	for n := range weirs {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			t.Parallel()
			kill(t, (*kills+weirs-1-n)/weirs)
		})
	}
}

// kill is the test for one of them.
func kill(t *testing.T, times int) {
	up := upstreamtest.Start(t, "127.0.0.1:0 udp tcp: * A -> NOERROR 192.0.2.1")
	dir := t.TempDir()
	path := filepath.Join(dir, "weir.toml")
	put(t, path, fmt.Sprintf(`[[listener]]
address = "127.0.0.1:0"
chain = "main"
[wasm]
cache_dir = "modules"
[cache.default]
snapshot = "snapshots"
snapshot_interval = "1s"
[upstream.up]
servers = [%q]
[chain.main]
upstream = "up"
`, up.Addr))
	file := filepath.Join(dir, "snapshots", "up.snapshot")
	if err := os.Mkdir(filepath.Dir(file), 0o700); err != nil { // weir would do it, but it is watched from the beginning
		t.Fatal(err)
	}
	const names = 200
	ttl := uint32(0)
	p := start(t, path)
	for i := range names {
		m := p.ask(fmt.Sprintf("n%d.example.", i))
		if m == nil || len(m.Answer) != 1 {
			t.Fatalf("got %v", m)
		}
		ttl = m.Answer[0].Header().Ttl
	}
	for { // until there is a snapshot that began after the last answer
		writing(t, file)
		if info, err := os.Stat(file); err == nil && info.Size() > names*60 {
			break
		}
	}
	up.Close()
	for range times {
		writing(t, file)
		p.end(syscall.SIGKILL)
		p = start(t, path)
		fresh := 0
		for i := range names {
			m := p.ask(fmt.Sprintf("n%d.example.", i))
			if m == nil || len(m.Answer) != 1 {
				continue
			}
			a, ok := m.Answer[0].(*dns.A)
			if !ok || a.A.String() != "192.0.2.1" || a.Hdr.Ttl > ttl {
				t.Fatalf("n%d: got %v, want 192.0.2.1 and a TTL of at most %d", i, m.Answer, ttl)
			}
			fresh++
		}
		if fresh < names*95/100 {
			t.Errorf("%d of %d answers are there after it was killed, want 95%%", fresh, names)
		}
	}
	p.end(syscall.SIGTERM)
	if parts, err := filepath.Glob(file + ".*"); err != nil || len(parts) > 0 {
		t.Errorf("left behind: %q, %v", parts, err)
	}
}

// writing returns when weir begins to write a snapshot to a file: the next one of those that it writes each second.
func writing(t *testing.T, file string) {
	t.Helper()
	w, err := fsnotify.NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := w.Add(filepath.Dir(file)); err != nil {
		t.Fatal(err)
	}
	for {
		select {
		case e := <-w.Events:
			if e.Has(fsnotify.Create) && strings.HasPrefix(e.Name, file+".") {
				return
			}
		case err := <-w.Errors:
			t.Fatal(err)
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		}
	}
}

// TestNotify is the service manager.
func TestNotify(t *testing.T) {
	dir := t.TempDir()
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	told := func(want ...string) {
		t.Helper()
		if err := socket.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 1000)
		n, err := socket.Read(b)
		for _, w := range want {
			if !strings.Contains(string(b[:n]), w) {
				t.Errorf("told %q, %v, want %q in it", b[:n], err, w)
			}
		}
	}
	p := start(t, configFile(t), "NOTIFY_SOCKET="+filepath.Join(dir, "notify"))
	told("READY=1")
	p.cmd.Process.Signal(syscall.SIGHUP) //nolint:errcheck // the next line waits for what it does
	told("RELOADING=1", "MONOTONIC_USEC=")
	told("READY=1")
	p.cmd.Process.Signal(syscall.SIGTERM) //nolint:errcheck // likewise
	told("STOPPING=1")
}

// TestConfined starts weir with its sandbox and without. With it, a hosts file that becomes a link out of the directory is not read, and a reload says what to
// do; reloads go on working, with a module that is compiled in a child too.
func TestConfined(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("there is a sandbox on Linux only")
	}
	for _, sandbox := range []bool{true, false} {
		t.Run(fmt.Sprintf("sandbox %v", sandbox), func(t *testing.T) {
			dir, outside := t.TempDir(), filepath.Join(t.TempDir(), "hosts")
			path := filepath.Join(dir, "weir.toml")
			config := func(more string) string {
				return fmt.Sprintf(`[process]
sandbox = %v
[[listener]]
address = "127.0.0.1:0"
chain = "main"
[wasm]
cache_dir = "modules"
[table.hosts]
hostsfile = "hosts"
[filter.hosts.config]
tables = ["hosts"]
%s`, sandbox, more)
			}
			const alone = "[chain.main]\nfilters = [\"hosts\"]\n"
			put(t, path, config(alone))
			put(t, filepath.Join(dir, "hosts"), "192.0.2.1 a.test\n")
			put(t, outside, "192.0.2.2 a.test\n")
			p := start(t, path)
			address := func(want string) {
				t.Helper()
				if m := p.ask("a.test."); m == nil || len(m.Answer) != 1 || m.Answer[0].(*dns.A).A.String() != want {
					t.Errorf("got %v, want %s", m, want)
				}
			}
			address("192.0.2.1")
			status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Contains(string(status), "Seccomp:\t2") && strings.Contains(string(status), "NoNewPrivs:\t1"); got != sandbox {
				t.Errorf("confined: %v, want %v\n%s", got, sandbox, status)
			}

			// A module from outside is compiled in a child of the confined process.
			put(t, filepath.Join(dir, "m.wasm"), string(wat.MustCompile(`(module (memory (export "memory") 2)
				(@custom "weir" "{\"name\":\"m\",\"version\":\"1.0.0\",\"abi\":1}")
				(func (export "weir_abi_1") (result i32) (i32.const 1024)) (func (export "query") (result i64) (i64.const 0)))`)))
			put(t, path, config("[filter.m]\nmodule = \"m.wasm\"\n[chain.main]\nfilters = [\"m\", \"hosts\"]\n"))
			p.cmd.Process.Signal(syscall.SIGHUP) //nolint:errcheck // the next line waits for what it does
			p.wait(`"msg":"reloaded"`)
			address("192.0.2.1")

			if err := os.Remove(filepath.Join(dir, "hosts")); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(outside, filepath.Join(dir, "hosts")); err != nil {
				t.Fatal(err)
			}
			put(t, path, config(alone))
			p.cmd.Process.Signal(syscall.SIGHUP) //nolint:errcheck // likewise
			if !sandbox {
				p.wait(`"msg":"reloaded"`)
				address("192.0.2.2")
				return
			}
			if line := p.wait("not reloaded"); !strings.Contains(line, "restart weir") && !strings.Contains(line, "permission denied") {
				t.Errorf("got %s", line)
			}
			address("192.0.2.1")

			// So does one that wants a socket there.
			if err := os.Remove(filepath.Join(dir, "hosts")); err != nil {
				t.Fatal(err)
			}
			put(t, filepath.Join(dir, "hosts"), "192.0.2.1 a.test\n")
			put(t, path, config(alone+fmt.Sprintf("[[listener]]\naddress = \"unix:%s.sock\"\nchain = \"main\"\n", outside)))
			p.cmd.Process.Signal(syscall.SIGHUP) //nolint:errcheck // likewise
			if line := p.wait("listener[1].address"); !strings.Contains(line, "restart weir") {
				t.Errorf("got %s", line)
			}
		})
	}
}
