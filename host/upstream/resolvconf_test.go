package upstream

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirdns/weir/host/internal/fuzzing"
	"github.com/weirdns/weir/host/upstream/upstreamtest"
)

func TestParseResolvConf(t *testing.T) {
	tests := []struct{ name, text, want, invalid string }{
		{"plain", "nameserver 192.0.2.1\nnameserver 2001:db8::1\n", "192.0.2.1:53 [2001:db8::1]:53", ""},
		{"other lines", "# nameserver 192.0.2.9\n; x\nsearch a b\noptions ndots:5 timeout:1\nnameserver\t192.0.2.1 # c\nnameservers 192.0.2.8", "192.0.2.1:53", ""},
		{"openbsd", "nameserver [127.0.0.53]:15355\nnameserver [2001:db8::1]:5353\nnameserver [2001:db8::2]", "127.0.0.53:15355 [2001:db8::1]:5353 [2001:db8::2]:53", ""},
		{"scope id", "nameserver fe80::1%eth0", "[fe80::1%eth0]:53", ""},
		{"twice", "nameserver 192.0.2.1\nnameserver [192.0.2.1]:53", "192.0.2.1:53", ""},
		{"invalid", "nameserver dns\nnameserver\nnameserver tcp://192.0.2.1\nnameserver 192.0.2.1", "192.0.2.1:53", "dns tcp://192.0.2.1"},
		{"longest", "nameserver [2001:db8:1111:2222:3333:4444:192.168.100.100%interface-names]:65535",
			"[2001:db8:1111:2222:3333:4444:c0a8:6464%interface-names]:65535", ""},
		{"too long", "nameserver " + strings.Repeat("1", 81) + "\nnameserver 192.0.2.1", "192.0.2.1:53", strings.Repeat("1", 80) + "..."},
		{"windows lines", "nameserver 192.0.2.1\r\n", "192.0.2.1:53", ""},
		{"empty", "", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			servers, invalid := parseResolvConf([]byte(tt.text))
			if got := strings.Trim(fmt.Sprint(servers), "[]"); !slices.Equal(parseAll(tt.want), servers) {
				t.Errorf("servers %s, want %s", got, tt.want)
			}
			if got := strings.Join(invalid, " "); got != tt.invalid {
				t.Errorf("invalid %q, want %q", got, tt.invalid)
			}
		})
	}
}

func parseAll(text string) (all []netip.AddrPort) {
	for _, word := range strings.Fields(text) {
		all = append(all, netip.MustParseAddrPort(word))
	}
	return all
}

func FuzzParseResolvConf(f *testing.F) {
	f.Add([]byte("nameserver [127.0.0.53]:15355\nnameserver fe80::1%eth0\n"))
	f.Add([]byte("nameserver f" + strings.Repeat("\xDD", 2000))) // each error about it is quoted: 70 times its size, once
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > maxResolvConf {
			return
		}
		var servers []netip.AddrPort
		fuzzing.Bounded(t, len(text), 8<<10, func() { servers, _ = parseResolvConf(text) })
		for i, s := range servers {
			if !s.IsValid() || s.Port() == 0 || slices.Contains(servers[:i], s) {
				t.Errorf("server %v", s)
			}
		}
	})
}

// write replaces a file as a careful program does.
func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// TestFollowResolvConf reads the file after each change, in steps.
func TestFollowResolvConf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	write(t, path, "nameserver 192.0.2.1\n")
	refuse := Policy{MaxServers: 3, Refuse: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}}
	steps := []struct {
		name   string
		change func() error
		want   string
	}{
		{"at first", func() error { return nil }, "192.0.2.100:53 192.0.2.1:53"},
		{"rewritten", func() error { write(t, path, "nameserver 192.0.2.2\n"); return nil }, "192.0.2.100:53 192.0.2.2:53"},
		{"emptied", func() error { return os.Truncate(path, 0) }, "192.0.2.100:53 192.0.2.2:53"},
		{"broken", func() error { write(t, path, "nameserver x\n\x00"); return nil }, "192.0.2.100:53 192.0.2.2:53"},
		{"removed", func() error { return os.Remove(path) }, "192.0.2.100:53 192.0.2.2:53"},
		{"back", func() error { write(t, path, "nameserver 192.0.2.3\n"); return nil }, "192.0.2.100:53 192.0.2.3:53"},
		{"refused", func() error { write(t, path, "nameserver 203.0.113.1\n"); return nil }, "192.0.2.100:53 192.0.2.3:53"},
		{"too many", func() error {
			write(t, path, "nameserver 192.0.2.4\nnameserver 203.0.113.1\nnameserver 192.0.2.5\nnameserver 192.0.2.6\n")
			return nil
		}, "192.0.2.100:53 192.0.2.4:53 192.0.2.5:53"},
		{"also configured", func() error { write(t, path, "nameserver 192.0.2.100\n"); return nil }, "192.0.2.100:53"},
	}
	synctest.Test(t, func(t *testing.T) {
		g, err := New("test", Config{Servers: []string{"192.0.2.100"}, ResolvConf: path}, Env{Policy: refuse, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		for i, s := range steps {
			first := (*g.servers.Load())[0]
			if err := s.change(); err != nil {
				t.Fatal(err)
			}
			switch changes := make(chan struct{}); {
			case i%2 == 0: // by notification
				go g.follow(t.Context(), changes)
				changes <- struct{}{}
				synctest.Wait()
			default: // by looking
				go g.follow(t.Context(), changes)
				<-time.After(watchInterval)
				synctest.Wait()
			}
			var got []netip.AddrPort
			for _, s := range g.Stats() {
				got = append(got, s.Server)
			}
			if !slices.Equal(got, parseAll(s.want)) {
				t.Errorf("%s: servers %v, want %s", s.name, got, s.want)
			}
			if (*g.servers.Load())[0] != first {
				t.Errorf("%s: a server that stayed was made anew", s.name)
			}
		}
	})
}

// TestWatchResolvConf edits the real file: the next queries go to the new server, and none is lost.
func TestWatchResolvConf(t *testing.T) {
	one := upstreamtest.Start(t, "127.0.0.1:0 udp: * A -> NOERROR 192.0.2.1")
	two := upstreamtest.Start(t, "127.0.0.1:0 udp: * A -> NOERROR 192.0.2.2")
	line := func(s *upstreamtest.Server) string {
		return fmt.Sprintf("nameserver [%s]:%d\n", s.Addr.Addr(), s.Addr.Port())
	}
	path := filepath.Join(t.TempDir(), "resolv.conf")
	write(t, path, line(one))
	g := group(t, Config{ResolvConf: path}, Env{})
	if got := askName(t, g, "www.test."); got != "NOERROR 192.0.2.1" {
		t.Fatalf("got %q, want the first server", got)
	}
	write(t, path, line(two))
	for end := time.Now().Add(2 * watchInterval); ; {
		got := askName(t, g, "www.test.")
		if got == "NOERROR 192.0.2.2" {
			break
		}
		if got != "NOERROR 192.0.2.1" || time.Now().After(end) {
			t.Fatalf("got %q, want the second server", got)
		}
	}
}

// A file that is not there is a mistake; one without servers is a machine without a network.
func TestResolvConfAtLoad(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty")
	write(t, empty, "search example\n")
	absent := empty + ".absent"
	if _, err := New("host", Config{ResolvConf: absent}, Env{}); err == nil || !strings.Contains(err.Error(), "upstream host: resolv_conf: ") || !strings.Contains(err.Error(), absent) {
		t.Errorf("absent: got error %v, want one with the key and the path", err)
	}
	g := group(t, Config{ResolvConf: empty}, Env{})
	if got := askName(t, g, "www.test."); got != ErrNoServers.Error() {
		t.Errorf("empty: got %q, want %q", got, ErrNoServers)
	}
	one := upstreamtest.Start(t, "127.0.0.1:0 udp: * A -> NOERROR 192.0.2.1")
	write(t, empty, "nameserver ["+one.Addr.Addr().String()+"]:"+strconv.Itoa(int(one.Addr.Port()))+"\n")
	for end := time.Now().Add(2 * watchInterval); askName(t, g, "www.test.") != "NOERROR 192.0.2.1"; {
		if time.Now().After(end) {
			t.Fatal("the server that the file names now is not asked")
		}
	}
}
