//go:build linux

package handover

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weirdns/weir/host/inherit"
	"github.com/weirdns/weir/host/internal/fuzzing"
	"github.com/weirdns/weir/host/rescue"
)

// pathVariable has the test binary connect to a path, as whatever user it runs.
const pathVariable = "TEST_HANDOVER_PATH"

func TestMain(m *testing.M) {
	if path := os.Getenv(pathVariable); path != "" {
		u, err := Connect(context.Background(), path)
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(u.Sockets().Left())
		return
	}
	os.Exit(m.Run())
}

// serving is a process that has some sockets, and notes what becomes of them.
type serving struct {
	sockets []syscall.Conn
	files   []string
	refuse  error
	mine    atomic.Bool // the first offer panics

	mu     sync.Mutex // guards following
	events []string
	event  chan string
}

func (p *serving) note(event string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.events = append(p.events, event)
	p.event <- event
}

func (p *serving) Offer(context.Context) (o Offer, err error) {
	if p.refuse != nil {
		return o, p.refuse
	}
	for _, s := range p.sockets {
		f, err := inherit.Duplicate(s)
		if err != nil {
			return o, err
		}
		o.Sockets = append(o.Sockets, f)
	}
	o.Files = p.files
	p.note("offer")
	if p.mine.Swap(false) {
		panic("mine")
	}
	return o, nil
}

func (p *serving) Commit(pid int, kept []string) { p.note(fmt.Sprintf("commit %v", kept)) }
func (p *serving) Abandon()                      { p.note("abandon") }

// quiet is a guard that nobody hears of.
func quiet() *rescue.Guard { return &rescue.Guard{Log: slog.New(slog.DiscardHandler)} }

// serve serves p at a path until the test ends. ended is closed when Serve has returned.
func serve(t *testing.T, p *serving) (path string, ended chan struct{}) {
	t.Helper()
	path, ended = filepath.Join(t.TempDir(), "s"), make(chan struct{})
	s, err := Listen(path, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	p.sockets, p.event = append(p.sockets, s.Socket()), make(chan string, 100)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer close(ended)
		s.Serve(ctx, p, quiet())
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return path, ended
}

func (p *serving) wants(t *testing.T, want ...string) {
	t.Helper()
	for _, w := range want {
		if got := <-p.event; got != w {
			t.Errorf("got %q, want %q", got, w)
		}
	}
}

// listenMany binds so many sockets.
func listenMany(t *testing.T, n int) (all []syscall.Conn) {
	t.Helper()
	for range n {
		c, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		all = append(all, c.(*net.UDPConn))
	}
	return all
}

// TestHandOver has two processes take over, one after the other, more sockets than go into a message. The second one comes by the socket that the first took over.
func TestHandOver(t *testing.T) {
	first := &serving{sockets: listenMany(t, 3*perMessage-1)}
	path, ended := serve(t, first)
	first.files = []string{path}
	u, err := Connect(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := len(u.Sockets().Left()), 3*perMessage; got != want {
		t.Errorf("%d sockets came, want %d", got, want)
	}
	next, err := Listen(path, u.Sockets(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := u.Ready(t.Context(), []string{path}); err != nil {
		t.Fatal(err)
	}
	u.Close()
	next.OwnFile()
	<-ended
	first.wants(t, "offer", fmt.Sprintf("commit [%s]", path))

	second := &serving{sockets: []syscall.Conn{next.Socket()}, event: make(chan string, 10)}
	ended = make(chan struct{})
	go func() {
		defer close(ended)
		next.Serve(t.Context(), second, quiet())
	}()
	if u, err = Connect(t.Context(), path); err != nil {
		t.Fatalf("the one that took over: %v", err)
	}
	defer u.Close()
	if err := u.Ready(t.Context(), nil); err != nil { // it has no use for the file
		t.Fatal(err)
	}
	<-ended
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file was left behind: %v", err)
	}
}

// packet sends octets to a server, and returns what it gets until the server hangs up.
func packet(t *testing.T, path string, octets []byte) (got []message) {
	t.Helper()
	conn, err := net.Dial("unixpacket", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := channel{conn.(*net.UnixConn)}
	if _, err := conn.Write(octets); err != nil {
		t.Fatal(err)
	}
	for {
		m, files, err := c.receive(2 * helloTimeout)
		closeAll(files)
		if err != nil {
			return got
		}
		got = append(got, m)
	}
}

// TestServerSurvives: whatever comes to the socket, nothing is committed, the file stays, and whoever comes afterwards is served.
func TestServerSurvives(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(t *testing.T, path string)
		want []string
	}{
		{"hangs up at once", func(t *testing.T, path string) {
			conn, err := net.Dial("unixpacket", path)
			if err != nil {
				t.Fatal(err)
			}
			conn.Close()
		}, nil},
		{"garbage", func(t *testing.T, path string) { packet(t, path, []byte("GET / HTTP/1.1\r\n\r\n")) }, nil},
		{"too large", func(t *testing.T, path string) {
			packet(t, path, []byte(`{"weir":1,"hello":true}`+strings.Repeat(" ", maxMessage)))
		}, nil},
		{"another version", func(t *testing.T, path string) { packet(t, path, []byte(`{"weir":2,"hello":true}`)) }, nil},
		{"ready without hello", func(t *testing.T, path string) { packet(t, path, []byte(`{"weir":1,"ready":true}`)) }, nil},
		{"gives up", func(t *testing.T, path string) {
			u, err := Connect(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			u.Close()
		}, []string{"offer", "abandon"}},
		{"says something else", func(t *testing.T, path string) {
			u, err := Connect(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			defer u.Close()
			if err := u.channel.send(message{Hello: true}, helloTimeout); err != nil {
				t.Fatal(err)
			}
			if _, _, err := u.channel.receive(readyTimeout); err == nil {
				t.Error("got an answer")
			}
		}, []string{"offer", "abandon"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := &serving{}
			path, _ := serve(t, p)
			tt.do(t, path)
			p.wants(t, tt.want...)
			u, err := Connect(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			defer u.Close()
			p.wants(t, "offer")
			if got := u.Sockets().Left(); !slices.Equal(got, []string{"unixpacket " + path}) {
				t.Errorf("got %q", got)
			}
		})
	}
}

// TestReady: once the new process has said that it is ready, it serves, unless it is told that it can't.
func TestReady(t *testing.T) {
	for _, tt := range []struct {
		name string
		says string // nothing: it dies
		want string
	}{
		{"yours", `{"weir":1,"yours":true}`, ""},
		{"dies", "", ""},
		{"refuses", `{"weir":1,"error":"it took too long"}`, "does not let go: it took too long"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET, 0)
			if err != nil {
				t.Fatal(err)
			}
			var conns [2]net.Conn
			for i := range pair {
				f := os.NewFile(uintptr(pair[i]), "")
				if conns[i], err = net.FileConn(f); err != nil {
					t.Fatal(err)
				}
				f.Close()
				defer conns[i].Close()
			}
			go func() {
				defer conns[1].Close()
				m, _, err := channel{conns[1].(*net.UnixConn)}.receive(helloTimeout)
				if err != nil || !m.Ready {
					t.Errorf("got %+v, %v", m, err)
				}
				if tt.says != "" {
					conns[1].Write([]byte(tt.says))
				}
			}()
			u := &Upgrade{channel: channel{conns[0].(*net.UnixConn)}}
			err = u.Ready(t.Context(), nil)
			if got := fmt.Sprint(err); tt.want == "" && err != nil || !strings.Contains(got, tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// TestConnectErrors: what the new process says when nothing comes of it.
func TestConnectErrors(t *testing.T) {
	nobody := filepath.Join(t.TempDir(), "s")
	dead := filepath.Join(t.TempDir(), "s")
	ln, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: dead, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	ln.Close()
	refusing, _ := serve(t, &serving{refuse: errors.New("it is stopping")})
	for _, tt := range []struct{ name, path, want string }{
		{"no file", nobody, "nobody listens at " + nobody + ": start without --upgrade"},
		{"a dead one", dead, "nobody listens at " + dead + ": start without --upgrade"},
		{"refused", refusing, "hands nothing over: it is stopping"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if u, err := Connect(t.Context(), tt.path); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, %v, want %q", u, err, tt.want)
			}
		})
	}
}

// TestListen: the file is for this user alone; that of a dead process is replaced, and that of a living one is not.
func TestListen(t *testing.T) {
	p := &serving{}
	path, _ := serve(t, p)
	if info, err := os.Lstat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v, want permissions 0600", info, err)
	}
	if _, err := Listen(path, nil, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "belongs to a process that listens") {
		t.Errorf("a second one: got %v", err)
	}
}

// TestOtherUser: another user gets no sockets, though the permissions of the file let it in, and one with the same user does.
func TestOtherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can be somebody else")
	}
	dir, err := os.MkdirTemp("", "handover") //nolint:usetesting // t.TempDir is inside of one that is closed to others
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	binary := filepath.Join(dir, "test")
	octets, err := os.ReadFile(os.Args[0])
	if err == nil {
		err = os.WriteFile(binary, octets, 0o755)
	}
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	p := &serving{event: make(chan string, 10)}
	path := filepath.Join(dir, "s")
	s, err := Listen(path, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	p.sockets = []syscall.Conn{s.Socket()}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.Serve(ctx, p, quiet())
	}()
	defer func() { cancel(); <-ended }()
	for _, tt := range []struct {
		name string
		uid  uint32
		want string
	}{
		{"somebody else", 65534, "hands nothing over"},
		{"the same", 0, "unixpacket " + path},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), binary)
			cmd.Env = append(os.Environ(), pathVariable+"="+path)
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: tt.uid, Gid: tt.uid}}
			if out, err := cmd.CombinedOutput(); !strings.Contains(string(out), tt.want) {
				t.Errorf("got %v, %s, want %q in it", err, out, tt.want)
			}
		})
	}
	p.wants(t, "offer", "abandon")
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.events) != 2 {
		t.Errorf("got %q, want an offer for the same user only", p.events)
	}
}

// TestFaultX24HandOver: a panic costs a process its hand-over. The one that is asked serves on, has nothing open, and hands over to who asks next.
func TestFaultX24HandOver(t *testing.T) {
	p := &serving{sockets: listenMany(t, 1)}
	p.mine.Store(true)
	path, ended := serve(t, p)
	if _, err := Connect(t.Context(), path); err == nil {
		t.Error("a process got sockets from one that panicked")
	}
	p.wants(t, "offer") // which did not end well, so that nothing follows it
	u, err := Connect(t.Context(), path)
	if err != nil {
		t.Fatalf("the next one: %v", err)
	}
	defer u.Close()
	if err := u.Ready(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	<-ended
	p.wants(t, "offer", "commit []")
}

// FuzzReceive: whatever comes, with whatever descriptors, there is a message or an error, and no descriptor is left open.
func FuzzReceive(f *testing.F) {
	for _, m := range []message{
		{Weir: version, Hello: true}, {Weir: version, Sockets: 1, Files: []string{"/run/weir/dns.sock"}}, {Weir: version, Ready: true, Kept: []string{"/a"}},
		{Weir: version, Yours: true}, {Weir: version, Error: "it is stopping"}, {Weir: 2},
	} {
		text, err := json.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text, uint8(1))
	}
	f.Add([]byte{}, uint8(0))
	f.Add([]byte("null"), uint8(200))
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET, 0)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { unix.Close(pair[0]) })
	file := os.NewFile(uintptr(pair[1]), "")
	conn, err := net.FileConn(file)
	if err := errors.Join(err, file.Close()); err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { conn.Close() })
	null, err := os.Open(os.DevNull)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { null.Close() })
	var fds [253]int // Linux takes no more at once
	for i := range fds {
		fds[i] = int(null.Fd())
	}
	f.Fuzz(func(t *testing.T, octets []byte, count uint8) {
		if len(octets) > 2*maxMessage || int(count) > len(fds) {
			return
		}
		var m message
		var files []*os.File
		var err error
		fuzzing.Bounded(t, len(octets), 2*maxMessage+int(count)<<10, func() { // the buffer, and what Go has for each file
			closeAll(files)
			if err = unix.Sendmsg(pair[0], octets, unix.UnixRights(fds[:count]...), nil, 0); err == nil {
				m, files, err = channel{conn.(*net.UnixConn)}.receive(helloTimeout)
			}
		})
		if err != nil && len(files) > 0 || err == nil && m.Weir != version {
			t.Errorf("got %+v, %d files, %v", m, len(files), err)
		}
		closeAll(files)
	})
}
