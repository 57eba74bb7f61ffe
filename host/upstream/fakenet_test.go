package upstream

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirdns/weir/host/message"
)

// fakeNet is a network in memory, for tests in a synctest bubble, where time passes only when everybody waits. A pipe stands for a UDP
// socket: it keeps the boundaries of packets.
type fakeNet struct {
	mu      sync.Mutex // guards following
	servers map[netip.AddrPort]*fakeServer
	removed map[netip.Addr]bool // source addresses that the host does not have
}

// fakeServer answers A queries with its IP, after a delay.
type fakeServer struct {
	ip string

	mu      sync.Mutex // guards following
	delay   time.Duration
	silent  bool
	refused bool                        // TCP connections, and UDP by ICMP; with a delay, that was forged, and an answer follows
	opening time.Duration               // of a TCP connection
	noTCP   bool                        // TCP connections only
	lose    int                         // packets to lose from now on
	answer  func(query []byte) [][]byte // instead of the IP
	forward func(query []byte) []byte   // the same over UDP, on a goroutine for each query
	stream  func(end net.Conn, nth int) // instead of everything, for TCP connections, of which it is told the number
	streams int
	queries []time.Time
	probes  int // for loops, which are not among the queries, and are not lost
	sources []netip.Addr
}

func newFakeNet(ips ...string) *fakeNet {
	n := &fakeNet{servers: map[netip.AddrPort]*fakeServer{}, removed: map[netip.Addr]bool{}}
	for _, ip := range ips {
		n.servers[netip.AddrPortFrom(netip.MustParseAddr(ip), 53)] = &fakeServer{ip: ip}
	}
	return n
}

func (n *fakeNet) server(ip string) *fakeServer {
	return n.servers[netip.AddrPortFrom(netip.MustParseAddr(ip), 53)]
}

// set changes what the server does.
func (s *fakeServer) set(f func(s *fakeServer)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
}

// seen returns how many queries came.
func (s *fakeServer) seen() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.queries)
}

// fakeConn is the client's end of a pipe, on which ICMP errors may come.
type fakeConn struct {
	net.Conn

	mu       sync.Mutex // guards following
	deadline time.Time
	refused  int // ICMP errors that were not read
}

func (c *fakeConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	if c.refused > 0 {
		t = time.Unix(1, 0)
	}
	return c.Conn.SetReadDeadline(t)
}

// refuse has the present or the next Read return the error of an ICMP "port unreachable".
func (c *fakeConn) refuse() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused++
	c.Conn.SetReadDeadline(time.Unix(1, 0))
}

func (c *fakeConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil || c.refused == 0 {
		return n, err
	}
	c.refused--
	c.Conn.SetReadDeadline(c.deadline)
	return 0, &net.OpError{Op: "read", Err: syscall.ECONNREFUSED}
}

func (n *fakeNet) dial(ctx context.Context, network string, source netip.Addr, server netip.AddrPort) (net.Conn, error) {
	n.mu.Lock()
	removed, s := n.removed[source], n.servers[server]
	n.mu.Unlock()
	if removed {
		return nil, &net.OpError{Op: "dial", Err: syscall.EADDRNOTAVAIL}
	}
	s.mu.Lock()
	opening := s.opening
	s.mu.Unlock()
	if network == "tcp" && opening > 0 {
		select {
		case <-time.After(opening):
		case <-ctx.Done():
			return nil, &net.OpError{Op: "dial", Err: ctx.Err()}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if network == "tcp" && s.noTCP {
		s.streams++
		return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	}
	if network == "tcp" && s.refused {
		return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	}
	client, end := net.Pipe()
	conn := &fakeConn{Conn: client}
	if network == "tcp" && s.stream != nil {
		s.streams++
		go func(nth int) {
			defer end.Close()
			s.stream(end, nth)
		}(s.streams)
		return conn, nil
	}
	go s.serve(network, end, conn, source)
	return conn, nil
}

func (s *fakeServer) serve(network string, end net.Conn, client *fakeConn, source netip.Addr) {
	defer end.Close()
	buf := make([]byte, 4096)
	for {
		var query []byte
		if network == "tcp" {
			msg, err := readMessage(end, nil)
			if err != nil {
				return
			}
			query = msg
		} else {
			k, err := end.Read(buf)
			if err != nil {
				return
			}
			query = append(query, buf[:k]...)
		}
		s.mu.Lock()
		probe := bytes.Contains(query, []byte(loopPrefix))
		if probe {
			s.probes++
		} else {
			s.queries = append(s.queries, time.Now())
			s.sources = append(s.sources, source)
		}
		delay, quiet := s.delay, s.silent || s.lose > 0 && !probe
		if s.lose > 0 && !probe {
			s.lose--
		}
		refused, answers, forward := s.refused, s.answer, s.forward
		s.mu.Unlock()
		switch {
		case refused && delay == 0:
			client.refuse()
			continue
		case refused:
			client.refuse()
		case quiet:
			continue
		}
		if forward != nil {
			go func() {
				if msg := forward(query); msg != nil {
					end.Write(msg)
				}
			}()
			continue
		}
		messages := [][]byte{answer(query, s.ip)}
		if answers != nil {
			messages = answers(query)
		}
		send := func() {
			for _, msg := range messages {
				if network == "tcp" {
					msg = frame(msg)
				}
				end.Write(msg)
			}
		}
		if delay == 0 {
			send()
			continue
		}
		time.AfterFunc(delay, send)
	}
}

// bubble runs f in a bubble with a group that asks the servers of n.
func bubble(t *testing.T, n *fakeNet, c Config, f func(t *testing.T, g *Group)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		t.Cleanup(func() { <-time.After(time.Minute) }) // in which the servers see that their connections are closed
		g := group(t, c, Env{Dial: n.dial})
		f(t, g)
	})
}

// timed asks for a name and returns the answer and the time it took.
func timed(t *testing.T, r message.Resolver) (string, time.Duration) {
	t.Helper()
	start := time.Now()
	q := query(t, "www.test.", message.TypeA)
	q.Deadline = start.Add(budget)
	got := ask(t, r, q)
	return got, time.Since(start)
}

// budget is what a query has for all its tries.
const budget = 1800 * time.Millisecond
