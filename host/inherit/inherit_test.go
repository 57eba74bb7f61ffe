package inherit

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// listen binds what net.Listen does for network and address, and returns a duplicate of its descriptor and what it is bound to.
func listen(t *testing.T, network, address string) (f *os.File, addr string) {
	t.Helper()
	var s interface {
		syscall.Conn
		Close() error
	}
	if network[:3] == "udp" {
		c, err := net.ListenPacket(network, address)
		if err != nil {
			t.Skipf("%s %s: %v", network, address, err)
		}
		s, addr = c.(*net.UDPConn), c.LocalAddr().String()
	} else {
		ln, err := net.Listen(network, address)
		if err != nil {
			t.Skipf("%s %s: %v", network, address, err)
		}
		s, addr = ln.(Stream), ln.Addr().String()
	}
	t.Cleanup(func() { s.Close() })
	f, err := Duplicate(s)
	if err != nil {
		t.Fatal(err)
	}
	return f, addr
}

// TestTake binds a socket as one listener does, and asks for it as another would that binds the same, or something else.
func TestTake(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sock")
	for _, tt := range []struct {
		name             string
		network, address string // bound
		ask, at          string // asked for; PORT is the port that was bound
		want             bool
	}{
		{"udp", "udp4", "127.0.0.1:0", "udp4", "127.0.0.1:PORT", true},
		{"tcp", "tcp4", "127.0.0.1:0", "tcp4", "127.0.0.1:PORT", true},
		{"without family", "tcp", "127.0.0.1:0", "tcp", "127.0.0.1:PORT", true},
		{"by name", "tcp", "127.0.0.1:0", "tcp4", "localhost:PORT", true},
		{"IPv6", "udp6", "[::1]:0", "udp6", "[::1]:PORT", true},
		{"other protocol", "udp4", "127.0.0.1:0", "tcp4", "127.0.0.1:PORT", false},
		{"other address", "udp4", "127.0.0.1:0", "udp4", "127.0.0.2:PORT", false},
		{"other port", "udp4", "127.0.0.1:0", "udp4", "127.0.0.1:1", false},
		{"port 0", "udp4", "127.0.0.1:0", "udp4", "127.0.0.1:0", false},
		{"all", "udp", ":0", "udp", ":PORT", true},
		{"all, written out", "tcp", ":0", "tcp", "[::]:PORT", true},
		{"all of IPv4", "udp4", "0.0.0.0:0", "udp4", "0.0.0.0:PORT", true},
		{"all of IPv6", "udp6", "[::]:0", "udp6", "[::]:PORT", true},
		{"all, asked for IPv6", "udp", ":0", "udp6", "[::]:PORT", false},
		{"all of IPv6, asked for all", "udp6", "[::]:0", "udp", ":PORT", false},
		{"all of IPv4, asked for all", "udp4", "0.0.0.0:0", "udp", ":PORT", false},
		{"one, asked for all", "udp4", "127.0.0.1:0", "udp4", "0.0.0.0:PORT", false},
		{"unix", "unix", file, "unix", file, true},
		{"unix elsewhere", "unix", file, "unix", file + "2", false},
		{"unixpacket", "unixpacket", file, "unixpacket", file, true},
		{"unix, asked for packets", "unix", file, "unixpacket", file, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, addr := listen(t, tt.network, tt.address)
			s, err := Of([]*os.File{f}, []string{"its name"})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			port := addr[strings.LastIndexByte(addr, ':')+1:]
			at := strings.ReplaceAll(tt.at, "PORT", port)
			take := func() bool {
				if tt.ask[:3] == "udp" {
					conns := s.Packets(tt.ask, at)
					for _, c := range conns {
						c.Close()
					}
					return len(conns) == 1
				}
				ln := s.Stream(tt.ask, at)
				if ln != nil {
					ln.Close()
				}
				return ln != nil
			}
			if got := take(); got != tt.want {
				t.Errorf("%s %s: taken: %v, want %v", tt.ask, at, got, tt.want)
			}
			if got := s.Left(); tt.want && len(got) != 0 || !tt.want && (len(got) != 1 || !strings.HasSuffix(got[0], " (its name)")) {
				t.Errorf("left: %q", got)
			}
			if take() {
				t.Error("it was taken twice, or taken though it was bound elsewhere")
			}
			if strings.HasPrefix(tt.network, "unix") {
				if _, err := os.Stat(file); err != nil {
					t.Errorf("the file went with the duplicate: %v", err)
				}
			}
		})
	}
}

// TestOfRefuses: what is no bound socket is an error, and the descriptors are closed.
func TestOfRefuses(t *testing.T) {
	plain, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[1]) //nolint:errcheck // the test's end
	for _, tt := range []struct {
		name string
		file *os.File
		want string
	}{
		{"a directory", plain, `socket 2 of 2 "odd": is no socket`},
		{"a connection", os.NewFile(uintptr(pair[0]), ""), `socket 2 of 2 "odd": does not listen: it may be a connection`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			good, _ := listen(t, "tcp", "127.0.0.1:0")
			s, err := Of([]*os.File{good, tt.file}, []string{"good", "odd"})
			if err == nil || !strings.Contains(err.Error(), tt.want) || s != nil {
				t.Errorf("got %v, %v, want %q", s, err, tt.want)
			}
			if err := tt.file.Close(); err == nil {
				t.Error("the descriptor was not closed")
			}
		})
	}
}

// TestModeStays: another process that has the socket, and counts on its not blocking, must not block because this one has a look.
func TestModeStays(t *testing.T) {
	f, _ := listen(t, "udp", "127.0.0.1:0")
	dup, err := Duplicate(f)
	if err != nil {
		t.Fatal(err)
	}
	defer dup.Close()
	mode := func() int {
		c, err := dup.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		flags := 0
		if err := c.Control(func(fd uintptr) { flags, _ = unix.FcntlInt(fd, unix.F_GETFL, 0) }); err != nil {
			t.Fatal(err)
		}
		return flags & unix.O_NONBLOCK
	}
	if mode() == 0 {
		t.Fatal("the socket was blocking from the beginning")
	}
	s, err := Of([]*os.File{f}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	if mode() == 0 {
		t.Error("the socket is blocking now")
	}
}

// TestFromEnvironment: what is meant for another process is left alone, and no child finds the variables.
func TestFromEnvironment(t *testing.T) {
	t.Setenv("LISTEN_PID", "1")
	t.Setenv("LISTEN_FDS", "1")
	t.Setenv("LISTEN_FDNAMES", "a")
	s, err := FromEnvironment()
	if s != nil || err != nil {
		t.Errorf("got %v, %v, want nothing", s, err)
	}
	for _, e := range os.Environ() {
		if strings.HasPrefix(e, "LISTEN_") {
			t.Errorf("%s is still there", e)
		}
	}
	if left := s.Left(); left != nil || s.Owns("a") || s.Stream("tcp", "127.0.0.1:1") != nil || s.Packets("udp", "127.0.0.1:1") != nil {
		t.Error("nil Sockets have some")
	}
}

// TestOwn: files are seen to by who takes a socket only if they go with it.
func TestOwn(t *testing.T) {
	s := &Sockets{}
	s.Own([]string{"/a"})
	if got := []bool{s.Owns("/a"), s.Owns("/b")}; !slices.Equal(got, []bool{true, false}) {
		t.Errorf("got %v", got)
	}
}
