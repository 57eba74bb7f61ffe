package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The test binary is also what tries things, in a process of its own: its working directory has the directories "named", "written", "logs" and "outside".
const childVariable = "WEIR_TEST_SANDBOX" // "confined" or "free"

func TestMain(m *testing.M) {
	if how := os.Getenv(childVariable); how != "" {
		child(how == "confined")
		return
	}
	os.Exit(m.Run())
}

// attempt is something that a process tries, on a thread other than the one that confined it.
type attempt struct {
	name string
	try  func() error
	// allowed says that a confined process can do it; the others fail when it is confined.
	allowed bool
	// root says that a free process needs to be root for it.
	root bool
}

func write(name string) func() error {
	return func() error { return os.WriteFile(name, []byte("x"), 0o600) }
}

func read(name string) func() error {
	return func() error { _, err := os.ReadFile(name); return err }
}

func system(number, a, b, c uintptr) func() error {
	return func() error {
		if _, _, errno := unix.Syscall(number, a, b, c); errno != 0 {
			return errno
		}
		return nil
	}
}

func socket(family, kind int) func() error {
	return func() error {
		fd, err := unix.Socket(family, kind, 0)
		if err == nil {
			err = unix.Close(fd)
		}
		return err
	}
}

var attempts = []attempt{
	{name: "read what is named", try: read("named/file"), allowed: true},
	{name: "read what was put in its place", allowed: true, try: func() error {
		if err := os.Rename("written/other", "written/file"); err != nil {
			return err
		}
		return read("written/file")()
	}},
	{name: "read beside it", try: read("named/beside"), allowed: true},
	{name: "write a snapshot", try: write("written/new"), allowed: true},
	{name: "remove a snapshot", try: func() error { return os.Remove("written/old") }, allowed: true},
	{name: "log", try: write("logs/log"), allowed: true},
	{name: "/proc/self/stat", try: read("/proc/self/stat"), allowed: true},
	{name: "UDP", allowed: true, try: func() error {
		c, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err == nil {
			err = c.Close()
		}
		return err
	}},
	{name: "addresses of interfaces", try: func() error { _, err := net.InterfaceAddrs(); return err }, allowed: true},
	{name: "start itself", try: func() error { return exec.Command("/proc/self/exe", "-test.run=^$").Run() }, allowed: true},

	{name: "read outside", try: read("outside/file")},
	{name: "read outside through a link", try: read("named/link")},
	{name: "list outside", try: func() error { _, err := os.ReadDir("outside"); return err }},
	{name: "write what is only read", try: write("named/file")},
	{name: "make a file outside", try: write("outside/new")},
	{name: "remove a log", try: func() error { return os.Remove("logs/old") }},
	{name: "start another program", try: func() error { return exec.Command("/bin/true").Run() }},
	{name: "raw packets", try: socket(unix.AF_PACKET, unix.SOCK_RAW), root: true},
	{name: "raw IP", try: socket(unix.AF_INET, unix.SOCK_RAW), root: true},
	{name: "memory of a process", try: func() error { return system(unix.SYS_PROCESS_VM_READV, uintptr(os.Getpid()), 0, 0)() }},
	{name: "mount", root: true, try: func() error {
		if err := unix.Mount("none", "outside", "tmpfs", 0, ""); err != nil {
			return err
		}
		return unix.Unmount("outside", 0)
	}},
	{name: "host name", root: true, try: func() error {
		name, err := os.Hostname()
		if err != nil {
			return err
		}
		return unix.Sethostname([]byte(name))
	}},
	{name: "namespace", root: true, try: func() error { return exec.Command("/proc/self/exe", "unshare").Run() }},
	{name: "clock", root: true, try: func() error {
		var now unix.Timex
		now.Modes = unix.ADJ_TICK
		now.Tick = 10000 // what it is
		_, err := unix.Adjtimex(&now)
		return err
	}},
	{name: "io_uring", try: func() error { return system(unix.SYS_IO_URING_SETUP, 0, 0, 0)() }}, // EFAULT or EINVAL when it is free
}

// child tries everything and writes what came of it.
func child(confined bool) {
	if len(os.Args) > 1 && os.Args[1] == "unshare" {
		if unix.Unshare(unix.CLONE_NEWUTS) != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) > 1 && os.Args[1] == "-test.run=^$" {
		os.Exit(0)
	}
	got := struct {
		Report *Report
		Errors map[string]string
	}{Errors: map[string]string{}}
	if confined {
		var p Paths
		p.Add("named/file")
		p.Write, p.Append = []string{"written"}, []string{Place("logs/log")}
		got.Report = Apply(p)
	}
	for _, a := range attempts {
		done := make(chan error)
		go func() { done <- a.try() }()
		if err := <-done; err != nil {
			got.Errors[a.name] = err.Error()
		}
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		got.Errors["status"] = err.Error()
	}
	got.Errors["/proc/self/status"] = string(status)
	if err := json.NewEncoder(os.Stdout).Encode(got); err != nil {
		os.Exit(1)
	}
}

// TestApply has a process try what weir needs, and what it has no use for, once confined and once not. What is refused to the one, the other can do: the
// sandbox is what refuses it.
func TestApply(t *testing.T) {
	if v, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, 1); errno != 0 || v < 3 {
		t.Skipf("no Landlock here: %v, version %d", errno, v)
	}
	run := func(how string) (errs map[string]string, report *Report) {
		dir := t.TempDir()
		for _, name := range []string{"named/file", "named/beside", "written/other", "written/old", "logs/old", "outside/file"} {
			path := filepath.Join(dir, name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte("y"), 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink("../outside/file", filepath.Join(dir, "named/link")); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		c := exec.CommandContext(ctx, "/proc/self/exe")
		c.Dir, c.Env = dir, append(os.Environ(), childVariable+"="+how)
		var said bytes.Buffer
		c.Stderr = &said
		out, err := c.Output()
		var got struct {
			Report *Report
			Errors map[string]string
		}
		if err := errors.Join(err, json.Unmarshal(out, &got)); err != nil {
			t.Fatalf("%s: %v\n%s%s", how, err, out, &said)
		}
		return got.Errors, got.Report
	}
	free, _ := run("free")
	confined, report := run("confined")
	if report.Err != nil {
		t.Errorf("%v", report.Err)
	}
	for _, a := range attempts {
		if err, failed := free[a.name]; failed && !a.root && a.name != "io_uring" {
			t.Errorf("%s: fails without the sandbox: %s", a.name, err)
		}
		err, failed := confined[a.name]
		switch {
		case a.allowed && failed:
			t.Errorf("%s: %s, but weir needs it", a.name, err)
		case !a.allowed && !failed:
			t.Errorf("%s: the sandbox lets it happen", a.name)
		}
	}
	if free["io_uring"] == confined["io_uring"] || !strings.Contains(confined["io_uring"], "not permitted") {
		t.Errorf("io_uring: %q with the sandbox, %q without", confined["io_uring"], free["io_uring"])
	}
	status := confined["/proc/self/status"]
	for _, line := range []string{"NoNewPrivs:\t1", "Seccomp:\t2", "CapInh:\t0000000000000000", "CapAmb:\t0000000000000000"} {
		if !strings.Contains(status, line) {
			t.Errorf("%q is not in the status:\n%s", line, status)
		}
	}
	if os.Geteuid() == 0 {
		for _, line := range []string{"CapPrm:\t0000000000000400", "CapEff:\t0000000000000400", "CapBnd:\t0000000000000400"} {
			if !strings.Contains(status, line) {
				t.Errorf("%q is not in the status:\n%s", line, status)
			}
		}
	}
	t.Logf("%+v", report)
}

func TestAllows(t *testing.T) {
	dir := t.TempDir()
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	for _, d := range []string{"a/b", "c"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(dir, "c"), filepath.Join(dir, "a/link")); err != nil {
		t.Fatal(err)
	}
	r := &Report{allowed: []string{filepath.Join(dir, "a"), "/"}[:1]}
	for _, tt := range []struct {
		path string
		want bool
	}{
		{"a/x", true}, {"a", true}, {"a/b/x", true}, {"a/none/x", true}, {"ab", false}, {"c/x", false}, {"a/link/x", false}, {"a/../c/x", false}, {"", true},
	} {
		path := tt.path
		if path != "" {
			path = filepath.Join(dir, path)
		}
		if got := r.Allows(path); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.path, got, tt.want)
		}
	}
	if !(*Report)(nil).Allows("/x") || !(&Report{}).Allows("/x") {
		t.Error("without a sandbox, something is refused")
	}
	var p Paths
	p.Add("/resolv.conf")
	p.Add("/dev/stdout")
	p.Add(filepath.Join(dir, "a/link")) // a directory
	if want := []string{"/resolv.conf", "/dev/stdout"}; !slices.Equal(p.Read[:2], want) || slices.Contains(p.Read, "/") || slices.Contains(p.Read, "/dev") {
		t.Errorf("got %q, want %q first, and neither / nor /dev", p.Read, want)
	}
}

// TestFilter: every number is there once, and no jump is too long for its octet.
func TestFilter(t *testing.T) {
	seen := make(map[uintptr]bool)
	for _, n := range refused {
		if seen[n] {
			t.Errorf("system call %d is there twice", n)
		}
		seen[n] = true
	}
	for i, f := range filter() {
		if end := i + 1 + int(max(f.Jt, f.Jf)); f.Code&7 == unix.BPF_JMP && end >= len(filter()) {
			t.Errorf("instruction %d jumps to %d", i, end)
		}
	}
}
