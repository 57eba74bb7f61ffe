package upstream

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// mine has a network panic: at the nth call, counted from when it is set, on the goroutine of weir that makes it.
type mine struct{ dial, read, write atomic.Int32 }

func step(n *atomic.Int32) {
	if n.Load() > 0 && n.Add(-1) == 0 {
		panic("mine")
	}
}

type minedConn struct {
	net.Conn
	mine *mine
}

func (c *minedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	step(&c.mine.read)
	return n, err
}

func (c *minedConn) Write(b []byte) (int, error) {
	step(&c.mine.write)
	return c.Conn.Write(b)
}

func (m *mine) over(dial DialFunc) DialFunc {
	return func(ctx context.Context, network string, source netip.Addr, server netip.AddrPort) (net.Conn, error) {
		step(&m.dial)
		conn, err := dial(ctx, network, source, server)
		if err != nil {
			return nil, err
		}
		return &minedConn{conn, m}, nil
	}
}

// minedSession is a session whose carrier panics.
type minedSession struct{ asks atomic.Int32 }

func (c *minedSession) ask(_ context.Context, query []byte) ([]byte, uint32, error) {
	step(&c.asks)
	return answer(query, ip1), 0, nil
}
func (c *minedSession) room() bool            { return true }
func (c *minedSession) gone() <-chan struct{} { return nil }
func (c *minedSession) close()                {}

// A panic in any goroutine that works for a query fails that query, by SERVFAIL, unless another try has the answer. It is counted, the first is logged with its
// stack, who asks next is answered, and no goroutine is left: see group.
func TestFaultX24Upstream(t *testing.T) {
	for _, tt := range []struct {
		name string
		c    Config
		set  func(m *mine, s *fakeServer)
	}{
		{"the caller, who opens a socket", Config{Servers: []string{ip1}}, func(m *mine, _ *fakeServer) { m.dial.Store(1) }},
		{"the caller, who sends", Config{Servers: []string{ip1}}, func(m *mine, _ *fakeServer) { m.write.Store(1) }},
		{"the timer, which sends again", Config{Servers: []string{ip1}}, func(m *mine, s *fakeServer) {
			s.lose = 1
			m.write.Store(2)
		}},
		{"the reader of a socket", Config{Servers: []string{ip1}}, func(m *mine, _ *fakeServer) { m.read.Store(1) }},
		{"the goroutine of a connection, which opens it", Config{Servers: []string{ip1}, Transport: "tcp"}, func(m *mine, _ *fakeServer) { m.dial.Store(1) }},
		{"the reader of a connection", Config{Servers: []string{ip1}, Transport: "tcp"}, func(m *mine, _ *fakeServer) { m.read.Store(1) }},
		{"the writer of a connection", Config{Servers: []string{ip1}, Transport: "tcp"}, func(m *mine, _ *fakeServer) { m.write.Store(1) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				t.Cleanup(func() { <-time.After(time.Minute) }) // in which the server sees that its connections are closed
				n, m, log, metrics := newFakeNet(ip1), new(mine), new(bytes.Buffer), NewMetrics(nil)
				g := group(t, tt.c, Env{Dial: m.over(n.dial), Log: slog.New(slog.NewTextHandler(log, nil)), Metrics: metrics})
				n.server(ip1).set(func(s *fakeServer) { tt.set(m, s) })
				for i := range 2 { // the second time too
					synctest.Wait()
					switch got, took := timed(t, g); {
					case took > budget:
						t.Errorf("it took %v", took)
					case got != "NOERROR "+ip1 && !strings.Contains(got, ErrPanic.Error()):
						t.Errorf("got %q", got)
					}
					if got, _ := timed(t, g); got != "NOERROR "+ip1 {
						t.Errorf("who asks next got %q", got)
					}
					synctest.Wait() // who waits is told before the panic is logged
					if got := testutil.ToFloat64(metrics.panics.WithLabelValues("test")); got != float64(i+1) {
						t.Errorf("%v panics are counted, want %d", got, i+1)
					}
					n.server(ip1).set(func(s *fakeServer) { tt.set(m, s) })
					for _, s := range *g.servers.Load() {
						s.retireAll() // so that what is asked next opens anew
					}
				}
				m.dial.Store(0)
				m.read.Store(0)
				m.write.Store(0)
				if got := strings.Count(log.String(), "a panic"); got != 1 || !strings.Contains(log.String(), "panic_test.go") {
					t.Errorf("%d panics are in the log, want the first, with its stack:\n%s", got, log)
				}
			})
		})
	}
}

// retireAll has what is open used no more.
func (s *server) retireAll() {
	for _, k := range s.sockets.all(false) {
		k.retire()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.connections {
		c.retire()
	}
}

// The same of the goroutines that libraries wait on, for HTTPS and QUIC.
func TestFaultX24Session(t *testing.T) {
	for _, tt := range []struct {
		name string
		open func(context.Context, *server) (carrier, error)
	}{
		{"which opens", func(context.Context, *server) (carrier, error) { panic("mine") }},
		{"which asks", func(context.Context, *server) (carrier, error) {
			c := new(minedSession)
			c.asks.Store(1)
			return c, nil
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				metrics := NewMetrics(nil)
				g := group(t, Config{Servers: []string{ip1}, Transport: "tcp"}, Env{Dial: newFakeNet(ip1).dial, Metrics: metrics})
				s := (*g.servers.Load())[0]
				c := newSession(s, tt.open)
				s.mu.Lock()
				s.connections = append(s.connections, c)
				s.mu.Unlock()
				g.start(c.run)
				q := query(t, "www.test.", dns.TypeA)
				q.Deadline = time.Now().Add(budget)
				if _, err := g.Resolve(t.Context(), q, nil); err != nil && !errors.Is(err, ErrPanic) && !errors.Is(err, ErrUnreachable) {
					t.Errorf("got %v", err)
				}
				if got, _ := timed(t, g); got != "NOERROR "+ip1 {
					t.Errorf("who asks next got %q", got)
				}
				synctest.Wait()
				if got := testutil.ToFloat64(metrics.panics.WithLabelValues("test")); got != 1 {
					t.Errorf("%v panics are counted, want 1", got)
				}
				t.Cleanup(func() { <-time.After(time.Minute) })
			})
		})
	}
}

// What a group does in the background begins anew.
func TestFaultX24Background(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		metrics := NewMetrics(nil)
		g := group(t, Config{Servers: []string{ip1}}, Env{Dial: newFakeNet(ip1).dial, Metrics: metrics})
		var calls atomic.Int32
		g.keep(func(context.Context) {
			if calls.Add(1) < 4 {
				panic("mine")
			}
		})
		<-time.After(time.Minute)
		if got := testutil.ToFloat64(metrics.panics.WithLabelValues("test")); got != 3 || calls.Load() != 4 {
			t.Errorf("%v panics are counted of %d calls, want 3 of 4", got, calls.Load())
		}
	})
}

// A message that makes the parser panic is like one that is malformed.
func TestFaultX24Message(t *testing.T) {
	metrics := NewMetrics(nil)
	g := group(t, Config{Servers: []string{ip1}}, Env{Dial: newFakeNet(ip1).dial, Metrics: metrics})
	broken := func() (t *try) { return &try{server: (*g.servers.Load())[0]} } // its exchange is not there
	if got := broken().receive(make([]byte, 4), 0); got != outcomeMalformed {
		t.Errorf("a session: got outcome %d, want malformed", got)
	}
	if got := testutil.ToFloat64(metrics.panics.WithLabelValues("test")); got != 1 {
		t.Errorf("%v panics are counted, want 1", got)
	}
}
