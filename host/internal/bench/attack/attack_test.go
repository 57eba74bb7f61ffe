//go:build linux

package attack

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/quic-go/quic-go"

	"github.com/weirdns/weir/host/internal/testcert"
)

// attacking runs an attack until seen is closed, and returns what became of it.
func attacking(t *testing.T, name string, target Target, scale string, seen <-chan struct{}) map[string]Tally {
	t.Helper()
	in, end := io.Pipe()
	go func() {
		select {
		case <-seen:
		case <-t.Context().Done():
		}
		end.Close()
	}()
	var out bytes.Buffer
	if err := Run(append([]string{name, "-scale", scale}, target.Args()...), in, &out); err != nil {
		t.Fatal(err)
	}
	said, ok := bytes.CutPrefix(out.Bytes(), []byte("\n"))
	if !ok {
		t.Errorf("got %q, want an empty line first, when all are in place", out.Bytes())
	}
	var tallies map[string]Tally
	if err := json.Unmarshal(said, &tallies); err != nil {
		t.Fatal(err)
	}
	return tallies
}

// TestRunRefuses: there are no other attacks.
func TestRunRefuses(t *testing.T) {
	for _, args := range [][]string{nil, {"nothing"}} {
		if err := Run(args, strings.NewReader(""), io.Discard); err == nil {
			t.Errorf("%q: got no error", args)
		}
	}
}

// TestSlowContents: each attacker holds a request whose content does not come, for as long as the server lets it.
func TestSlowContents(t *testing.T) {
	const clients = 3 // of 3,000
	var mu sync.Mutex
	got := map[string]bool{}
	seen := make(chan struct{})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.Method != "POST" || r.URL.Path != "/dns-query" || r.Header.Get("Content-Type") != "application/dns-message" {
			t.Errorf("got %s %s %v", r.Method, r.URL, r.Header)
		}
		host, _, err := net.SplitHostPort(r.RemoteAddr)
		if err != nil || !strings.HasPrefix(host, "127.1.") {
			t.Errorf("the attacker has the address %s", r.RemoteAddr)
		}
		mu.Lock()
		got[r.Proto+r.RemoteAddr] = true
		if len(got) == clients {
			close(seen)
		}
		mu.Unlock()
		if _, err := io.ReadAll(r.Body); err == nil { // it ends with the connection
			t.Error("the content came")
		}
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	tallies := attacking(t, "contents", Target{HTTPS: portOf(server.Listener.Addr())}, "0.001", seen)
	if c := tallies["HTTPS"]; len(tallies) != 1 || c.Begun != clients || c.Ended+c.Failed != 0 || c.Most > clients {
		t.Errorf("got %+v", tallies)
	}
	protocols := map[string]bool{}
	for client := range got {
		protocols[client[:8]] = true
	}
	if len(protocols) != 2 {
		t.Errorf("got %v, want HTTP/1.1 and HTTP/2", got)
	}
}

// TestSlow: a client that is thrown out comes again.
func TestSlow(t *testing.T) {
	t.Parallel() // an attacker has its turn after 3 s
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	seen := make(chan struct{})
	var accepted atomic.Int64
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
			if accepted.Add(1) == 4 { // one over TCP, one over TLS and one over HTTPS, and one of them again
				close(seen)
			}
		}
	}()
	port := portOf(l.Addr())
	tallies := attacking(t, "slow", Target{UDP: port, TLS: port, HTTPS: port}, "0.0001", seen)
	var ended int64
	for _, c := range tallies {
		ended += c.Ended + c.Failed
	}
	if len(tallies) != 3 || ended == 0 {
		t.Errorf("got %+v", tallies)
	}
}

// TestResets: requests are whole and good, are reset, and come at the rate that was asked for.
func TestResets(t *testing.T) {
	seen := make(chan struct{})
	var requests atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		wire, err := base64.RawURLEncoding.DecodeString(r.FormValue("dns"))
		var query dns.Msg
		if err == nil {
			err = query.Unpack(wire)
		}
		if err != nil || len(query.Question) != 1 || r.ProtoMajor != 2 || !strings.HasSuffix(query.Question[0].Name, ".example.test.") {
			t.Errorf("got %s %s, %v", r.Proto, r.URL, err)
		}
		<-r.Context().Done() // it is given up
		if requests.Add(1) == 20 {
			close(seen)
		}
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	tallies := attacking(t, "reset", Target{HTTPS: portOf(server.Listener.Addr())}, "0.01", seen)
	if sent, conns := tallies["HTTPS, requests"], tallies["HTTPS, connections"]; sent.Begun < 20 || conns.Begun != resetConnections {
		t.Errorf("got %+v", tallies)
	}
}

// TestStreams: each connection holds as many streams as it may, with an octet on each, and opens the next when one ends.
func TestStreams(t *testing.T) {
	config := &tls.Config{Certificates: []tls.Certificate{testcert.New(t).Pair("dns.example")}, NextProtos: []string{"doq"}}
	l, err := quic.ListenAddr("127.0.0.1:0", config, &quic.Config{MaxIncomingStreams: 100})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	seen := make(chan struct{})
	go func() {
		conn, err := l.Accept(t.Context())
		if err != nil {
			return
		}
		for i := range 120 {
			s, err := conn.AcceptStream(t.Context())
			if err != nil {
				t.Error(err)
				break
			}
			buf := make([]byte, 2)
			if n, err := s.Read(buf); n != 1 || buf[0] != 0 || err != nil {
				t.Errorf("got %x, %v", buf[:n], err)
			}
			if i < 20 {
				s.CancelRead(0)
				s.CancelWrite(0)
			}
		}
		close(seen)
	}()
	tallies := attacking(t, "streams", Target{QUIC: portOf(l.Addr())}, "0.01", seen)
	if s := tallies["QUIC, streams"]; s.Begun != 120 || s.Ended != 20 || tallies["QUIC, connections"].Begun != 1 {
		t.Errorf("got %+v", tallies)
	}
}

// TestProbe: what new clients notice is counted by what it was.
func TestProbe(t *testing.T) {
	good := func(q *dns.Msg) *dns.Msg {
		m := new(dns.Msg).SetReply(q)
		m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.IPv4(192, 0, 2, 1)}}
		return m
	}
	for _, tt := range []struct {
		name   string
		answer func(*dns.Msg) *dns.Msg
		good   bool
	}{
		{"good", good, true},
		{"SERVFAIL", func(q *dns.Msg) *dns.Msg { return new(dns.Msg).SetRcode(q, dns.RcodeServerFailure) }, false},
		{"another question", func(q *dns.Msg) *dns.Msg {
			m := good(q)
			m.Question[0].Name = "other."
			return m
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pc, err := net.ListenPacket("udp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			server := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) { w.WriteMsg(tt.answer(q)) })} //nolint:errcheck // the client tells
			go server.ActivateAndServe()                                                                                                         //nolint:errcheck // as above
			defer server.Shutdown()                                                                                                              //nolint:errcheck // as above
			target := Target{UDP: pc.LocalAddr().(*net.UDPAddr).Port}
			p := probe(target.plainly("udp", target.UDP, nil), time.Millisecond)
			want := Probed{Asked: 1}
			if tt.good {
				want.Answered = 1
			}
			if p.Asked != want.Asked || p.Answered != want.Answered || (p.P50 > 0) != tt.good || (p.Errors[errOther.Error()] == 1) == tt.good {
				t.Errorf("got %+v", p)
			}
		})
	}
}

func portOf(a net.Addr) int {
	switch a := a.(type) {
	case *net.TCPAddr:
		return a.Port
	case *net.UDPAddr:
		return a.Port
	}
	panic(errors.New("an address without a port"))
}
