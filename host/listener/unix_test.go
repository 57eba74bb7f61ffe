package listener

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirdns/weir/host/message"
)

func TestUnixValidate(t *testing.T) {
	for _, tt := range []struct {
		name   string
		config Config
		want   string // in the error; empty for none
	}{
		{"well", Config{Address: "unix:/run/weir/dns.sock", SocketMode: "0666", SocketOwner: "1:2"}, ""},
		{"stream", Config{Address: "unix:/run/weir/dns.sock", Protocols: []string{"tcp"}}, ""},
		{"relative", Config{Address: "unix:dns.sock"}, "address: \"unix:dns.sock\" does not name a file"},
		{"no path", Config{Address: "unix:"}, "does not name a file"},
		{"directory", Config{Address: "unix:/run/"}, "does not name a file"},
		{"long", Config{Address: "unix:/" + strings.Repeat("a", maxSocketPath)}, "the path has 108 octets: sockets have room for 107"},
		{"datagrams", Config{Address: "unix:/a", Protocols: []string{"udp", "tcp"}}, "protocols: \"udp\" is not for a Unix-domain socket"},
		{"proxies", Config{Address: "unix:/a", ProxyProtocol: []string{"10.0.0.0/8"}}, "proxy_protocol: is not for"},
		{"mode", Config{Address: "unix:/a", SocketMode: "rw"}, "socket_mode: \"rw\" are no permissions"},
		{"large mode", Config{Address: "unix:/a", SocketMode: "4755"}, "socket_mode: \"4755\" are no permissions"},
		{"mode elsewhere", Config{Address: "127.0.0.1:53", SocketMode: "0600"}, "socket_mode: is of no use"},
		{"owner elsewhere", Config{Address: "127.0.0.1:53", SocketOwner: "dns"}, "socket_owner: is of no use"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.config.Chain = "main"
			err := tt.config.Validate()
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// TestUnixClient: a query over a Unix-domain socket is one over TCP from nowhere.
func TestUnixClient(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dns.sock")
	r := start(t, nil, Config{Address: "unix:" + path})
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(framed(query(7, "www.example", false), query(8, "big.example", false))); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, c); idOf(got) != 7 {
		t.Errorf("got %x", got)
	}
	if got := receive(t, c); idOf(got) != 8 || message.Truncated(got) || len(got) < 900 {
		t.Errorf("got %d octets, want a large response", len(got))
	}
	if q := r.last(); q.Client.IsValid() || q.Transport != message.TCP {
		t.Errorf("the client is %v over %v, want none over tcp", q.Client, q.Transport)
	}
	if got := r.Addr(); got.IsValid() {
		t.Errorf("the address is %v, want none", got)
	}
}

// TestUnixOthersFile: what is no socket of a dead process stays.
func TestUnixOthersFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dns.sock")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := New(Config{Address: "unix:" + path, Chain: "main"}, 0, newScript(), Env{})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Listen(t.Context()); err == nil || !strings.Contains(err.Error(), "is no socket") {
		t.Errorf("got %v", err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "precious" {
		t.Errorf("the file has %q, %v", text, err)
	}

	// A file that took the name meanwhile is not removed either.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := l.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "precious" {
		t.Errorf("the file has %q, %v", text, err)
	}
}
