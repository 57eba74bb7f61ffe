package listener

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/quic-go/quic-go"

	"github.com/weirdns/weir/host/internal/testcert"
	mt "github.com/weirdns/weir/host/message/messagetest"
	"github.com/weirdns/weir/host/rescue"
)

// spoil leaves among the idle jobs what only a mistake could: whoever takes it panics, where nothing that is about one query can recover.
func (r *running) spoil() {
	r.jobs.mu.Lock()
	defer r.jobs.mu.Unlock()
	r.jobs.free = append(r.jobs.free, nil)
}

// wantPanics waits until so many are counted: that is the last thing that a goroutine does.
func (r *running) wantPanics(t *testing.T, n float64, transport string) {
	t.Helper()
	for end := time.Now().Add(limit); r.metric(t, "panics_total", transport) < n && time.Now().Before(end); {
		runtime.Gosched()
	}
	r.wantMetric(t, n, "panics_total", transport)
}

// A panic in a goroutine of a connection ends that connection, or that stream of it; one in the reader of a UDP socket loses the query that it was at. Others
// are answered, each is counted, the first is logged, and nothing is left behind. The requests of HTTP are in TestHTTPPanic.
func TestFaultX24Connections(t *testing.T) {
	canary := func(t *testing.T, c net.Conn) {
		t.Helper()
		if got := unpack(t, exchange(t, c, mt.Canary())); got.Rcode != 0 {
			t.Errorf("the canary got %v", got)
		}
	}
	const times = 3
	for _, tt := range []struct {
		name  string
		start func(t *testing.T) (r *running, connect func() net.Conn)
	}{
		{"tcp", func(t *testing.T) (*running, func() net.Conn) {
			r := start(t, nil, Config{Protocols: []string{"tcp"}})
			return r, func() net.Conn { return r.dial(t, "tcp") }
		}},
		{"tls", func(t *testing.T) (*running, func() net.Conn) {
			r := startSecured(t, nil, overTLS())
			return r.running, func() net.Conn { return r.dialTLS(t, r.client("dot")) }
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, connect := tt.start(t)
			other := connect()
			for range times {
				canary(t, other)
				c := connect()
				for _, c := range []net.Conn{other, c} {
					c.SetDeadline(time.Now().Add(time.Minute)) // a slow machine must not end the read that waits for the panic
				}
				canary(t, c)
				r.spoil()
				send(t, c, mt.Canary())
				if n, err := c.Read(make([]byte, 1)); err == nil {
					t.Errorf("got %d octets, want the end of the connection", n)
				}
				canary(t, other)
			}
			r.wantPanics(t, times, tt.name)
			r.stop()
			if got := strings.Count(r.log.String(), "a panic"); got != 1 || !strings.Contains(r.log.String(), "handle") {
				t.Errorf("%d panics are in the log, want the first, with its stack:\n%s", got, r.log)
			}
		})
	}
	t.Run("quic", func(t *testing.T) {
		r := startSecured(t, nil, overQUIC())
		c := r.dialQUIC(t, r.client("doq"))
		for range times {
			r.spoil()
			s := open(t, c, framed(mt0()), true)
			if _, err := s.Read(make([]byte, 1)); err == nil {
				t.Error("a stream with a response")
			}
			if got := unpack(t, exchangeQUIC(t, c, mt0())); got.Rcode != 0 { // on the same connection
				t.Errorf("the canary got %v", got)
			}
		}
		r.wantPanics(t, times, "quic")
	})
	t.Run("udp", func(t *testing.T) {
		r := start(t, nil, Config{Protocols: []string{"udp"}})
		c := r.dial(t, "udp")
		// The reader takes its next job when it hands over that of a query which waits.
		send(t, c, query(1, "slow.1", false))
		r.wantWaiting(t, "slow.1.")
		canary(t, c)
		r.spoil()
		send(t, c, query(2, "slow.2", false))
		r.wantWaiting(t, "slow.2.")
		// Whoever asks next on the socket of that reader meets it, and asks again. That may be another socket than c's: one whose reader begins only now took it as
		// its first. New clients reach all of them.
		for met := false; !met; met = r.metric(t, "panics_total", "udp") > 0 {
			next := r.dial(t, "udp")
			send(t, next, mt.Canary())
			next.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			next.Read(make([]byte, 512)) //nolint:errcheck // it may have been lost
		}
		c.SetDeadline(time.Now().Add(limit))
		r.open("slow.1.")
		r.open("slow.2.")
		fresh := r.dial(t, "udp")
		for range 20 {
			canary(t, fresh)
		}
		for id := range 2 { // what was waiting has its responses
			for got := unpack(t, receive(t, c)); int(got.Id) != id+1 && int(got.Id) != 2-id; got = unpack(t, receive(t, c)) {
			}
		}
	})
}

// mine panics at the first line of the log with each of some texts.
type mine struct {
	slog.Handler
	texts map[string]*atomic.Int32 // how often each was logged
	told  chan string              // each of them
}

func (m mine) Enabled(context.Context, slog.Level) bool { return true }

func (m mine) Handle(ctx context.Context, r slog.Record) error {
	if n := m.texts[r.Message]; n != nil {
		first := n.Add(1) == 1
		m.told <- r.Message
		if first {
			panic("mine")
		}
	}
	return m.Handler.Handle(ctx, r)
}

func (m mine) WithAttrs([]slog.Attr) slog.Handler { return m }

// What follows the files of a listener begins anew after a panic.
func TestFaultX24Background(t *testing.T) {
	t.Parallel() // what begins anew does so after a second of the clock
	const certificate, secrets = "a new certificate is used", "new cookie secrets are used"
	m := mine{slog.DiscardHandler, map[string]*atomic.Int32{certificate: {}, secrets: {}}, make(chan string, 10)}
	dir, authority := t.TempDir(), testcert.New(t)
	config := Config{Address: "127.0.0.1:0", Chain: "main", Protocols: []string{"tls", "quic"}, Cookies: CookiesOn, CookieSecret: filepath.Join(dir, "secret")}
	write := func(n int) {
		t.Helper()
		config.Certificate, config.Key = authority.Write(dir, fmt.Sprintf("dns%d.example", n))
		if err := os.WriteFile(config.CookieSecret, []byte(fmt.Sprintf("%032x\n", n)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(1)
	guard := &rescue.Guard{Log: slog.New(slog.DiscardHandler), Count: prometheus.NewCounter(prometheus.CounterOpts{Name: "panics"})}
	l, err := New(config, 0, newScript(), Env{Log: slog.New(m), Guard: guard})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Serve(ctx) }()
	for n := range 2 {
		write(2 + n)
		for range 2 {
			<-m.told
		}
	}
	if got := testutil.ToFloat64(guard.Count.(prometheus.Counter)); got != 2 {
		t.Errorf("%v panics are counted, want 2", got)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Serve ended with %v", err)
	}
}

// The loops that take connections begin anew after a panic. Those that there are go on meanwhile.
func TestFaultX24Accepting(t *testing.T) {
	for _, tt := range []struct {
		name, loop string
		config     Config
		connect    func(t *testing.T, r *secured) (ask func())
	}{
		{"tls", "tcp", overTLS(), func(t *testing.T, r *secured) func() {
			c := r.dialTLS(t, r.client("dot"))
			return func() { exchange(t, c, mt.Canary()) }
		}},
		{"HTTP/2.0", "http", overHTTPS(), overVersion("HTTP/2.0")},
		{"HTTP/3.0", "quic", overHTTPS(), overVersion("HTTP/3.0")},
		{"quic", "quic", overQUIC(), func(t *testing.T, r *secured) func() {
			c := r.dialQUIC(t, r.client("doq"))
			return func() { exchangeQUIC(t, c, mt0()) }
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel() // what begins anew does so after a second of the clock
			panics := prometheus.NewCounter(prometheus.CounterOpts{Name: "panics"})
			var turns atomic.Int32
			r := startSecured(t, func(l *Listener) {
				l.env.Guard.Count = panics
				l.accepting = func(loop string) {
					if loop == tt.loop && turns.Add(1) == 2 { // when it has taken the first
						panic("mine")
					}
				}
			}, tt.config)
			first := tt.connect(t, r)
			first()
			for end := time.Now().Add(limit); testutil.ToFloat64(panics) == 0 && time.Now().Before(end); {
				runtime.Gosched()
			}
			first()
			tt.connect(t, r)()
			first()
			if got := testutil.ToFloat64(panics); got != 1 {
				t.Errorf("%v panics are counted, want 1", got)
			}
		})
	}
}

func overVersion(version string) func(t *testing.T, r *secured) func() {
	return func(t *testing.T, r *secured) func() {
		c := r.http(t, version)
		return func() {
			if got := do(t, c, request(t, "GET", r.url(encoded(mt.Canary())), nil)); got.StatusCode != 200 {
				t.Errorf("got %s", got.Status)
			}
		}
	}
}

// A panic of net/http with a connection that it does not serve yet closes that, and takes no other with it.
func TestFaultX24Accepted(t *testing.T) {
	server := &http.Server{ConnContext: func(context.Context, net.Conn) context.Context { panic("mine") }}
	ready := &secureConns{conns: make(chan net.Conn), done: make(chan struct{})}
	for range 2 {
		client, conn := net.Pipe()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			defer func() { recover() }() //nolint:errcheck // it is the test's own
			new(Listener).acceptHTTP(server, ready)
		}()
		if !ready.put(conn) {
			t.Fatal("nobody takes a connection")
		}
		<-ended
		if _, err := client.Read(make([]byte, 1)); err != io.EOF { //nolint:errorlint // it is the very one
			t.Errorf("the connection has %v, want its end", err)
		}
	}
}

// A panic about a connection over QUIC in whose handshake has begun refuses that one. It is in the goroutine that reads the socket.
func TestFaultX24Entering(t *testing.T) {
	for _, tt := range []struct {
		name, transport string
		config          Config
		ask             func(t *testing.T, r *secured)
	}{
		{"quic", "quic", overQUIC(), func(t *testing.T, r *secured) { exchangeQUIC(t, r.dialQUIC(t, r.client("doq")), mt0()) }},
		{"HTTP/3.0", "https", overHTTPS(), func(t *testing.T, r *secured) { overVersion("HTTP/3.0")(t, r)() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.config.TCPMaxClients = 2
			r := startSecured(t, nil, tt.config)
			other := &member{cut: func() {}, stop: func(time.Time) {}}
			other.idleSince.Store(1)
			r.clients.add(other)
			r.clients.add(new(member)) // which makes room first, and can't be cut
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			if c, err := quic.DialAddr(ctx, r.addr, r.client("doq", "h3"), nil); err == nil { // by a further packet of the handshake
				c.CloseWithError(0, "")
			}
			r.wantPanics(t, 1, tt.transport)
			tt.ask(t, r)
		})
	}
}
