package upstreamtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// Server is a running server. Its methods are safe for concurrent use.
type Server struct {
	Addr netip.AddrPort // where it listens, on UDP and TCP alike

	spec     Spec
	servers  []*dns.Server
	serving  sync.WaitGroup
	done     chan struct{}
	once     sync.Once
	udp, tcp atomic.Int64
}

// Listen starts a server. The caller has to close it.
func Listen(spec Spec) (*Server, error) {
	// A port that is free on UDP may be taken on TCP, so when the system chooses, it gets a few chances.
	for chance := 0; ; chance++ {
		s, err := listen(spec)
		if err == nil || chance == 10 || !strings.HasSuffix(spec.Address, ":0") {
			return s, err
		}
	}
}

func listen(spec Spec) (*Server, error) {
	s := &Server{spec: spec, done: make(chan struct{})}
	address := spec.Address
	if slices.Contains(spec.Protocols, "udp") {
		conn, err := net.ListenPacket("udp", address)
		if err != nil {
			return nil, fmt.Errorf("upstreamtest: %w", err)
		}
		address = conn.LocalAddr().String()
		s.serve(&dns.Server{PacketConn: conn, Handler: s.handler(nil)})
	}
	if slices.Contains(spec.Protocols, "tcp") {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			s.Close()
			return nil, fmt.Errorf("upstreamtest: %w", err)
		}
		address = listener.Addr().String()
		connections := &connections{Listener: listener, open: make(map[string]net.Conn)}
		s.serve(&dns.Server{Listener: connections, Handler: s.handler(connections), MaxTCPQueries: -1})
	}
	s.Addr = netip.MustParseAddrPort(address)
	return s, nil
}

// Start starts the server that line describes (see [Parse]) and closes it when the test ends.
func Start(t testing.TB, line string) *Server {
	t.Helper()
	spec, err := ParseLine(line)
	if err != nil {
		t.Fatalf("upstreamtest: %v", err)
	}
	s, err := Listen(spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// UDP returns how many queries came over UDP.
func (s *Server) UDP() int64 { return s.udp.Load() }

// TCP returns how many queries came over TCP.
func (s *Server) TCP() int64 { return s.tcp.Load() }

// Close stops the server, closes its connections, and returns after its last goroutine has ended.
func (s *Server) Close() {
	s.once.Do(func() {
		close(s.done)
		for _, server := range s.servers {
			// An error says that it is not running any more, which is what is wanted.
			_ = server.ShutdownContext(context.Background())
		}
		s.serving.Wait()
	})
}

// serve returns when the server runs, so that Close can stop it.
func (s *Server) serve(server *dns.Server) {
	started := make(chan struct{})
	server.NotifyStartedFunc = func() { close(started) }
	s.servers = append(s.servers, server)
	s.serving.Go(func() {
		if err := server.ActivateAndServe(); err != nil && !errors.Is(err, net.ErrClosed) {
			panic(fmt.Sprintf("upstreamtest: %v", err)) // in a test, louder is better
		}
	})
	<-started
}

// connections is a listener that knows the connections of its clients.
type connections struct {
	net.Listener

	mu   sync.Mutex // guards following
	open map[string]net.Conn
}

// Accept notes the connection.
func (c *connections) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.open[conn.RemoteAddr().String()] = conn
	}
	return conn, err
}

// write sends a response with its length before it. The ResponseWriter of a TCP query is of no use once its handler has returned.
func (c *connections) write(client net.Addr, response *dns.Msg) {
	octets, err := response.Pack()
	if err != nil {
		panic(fmt.Sprintf("upstreamtest: %v", err))
	}
	c.mu.Lock()
	conn := c.open[client.String()]
	c.mu.Unlock()
	_, _ = conn.Write(append([]byte{byte(len(octets) >> 8), byte(len(octets))}, octets...)) // the client may be gone
}

// handler answers queries over TCP, or over UDP when there are no connections.
func (s *Server) handler(tcp *connections) dns.HandlerFunc {
	count := &s.udp
	if tcp != nil {
		count = &s.tcp
	}
	return func(w dns.ResponseWriter, query *dns.Msg) {
		count.Add(1)
		response, delay := s.spec.respond(query, tcp != nil)
		if response == nil {
			return
		}
		if delay == 0 {
			_ = w.WriteMsg(response) // the client may be gone
			return
		}
		// Later queries on the same connection are not held up by this one.
		client := w.RemoteAddr()
		s.serving.Go(func() {
			timer := time.NewTimer(delay)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-s.done:
				return
			}
			if tcp != nil {
				tcp.write(client, response)
			} else {
				_ = w.WriteMsg(response) // the client may be gone
			}
		})
	}
}
