package listener

import (
	"context"
	"crypto/tls"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

const (
	// maxHeaders is how many octets the header fields of a request may have. Browsers send less than 1 KB to a resolver.
	maxHeaders = 8 << 10
	// controlStreams is how many unidirectional streams a client of HTTP/3 may open: three that it needs (RFC 9114 section 6.2, RFC 9204
	// section 4.2), and some that mean nothing (RFC 9114 section 6.2.3).
	controlStreams = 10
	// altSvcAge is how long a client may keep in mind that there is HTTP/3, in seconds.
	altSvcAge = 86400

	alpnHTTP1, alpnHTTP2 = "http/1.1", "h2"
)

// serveHTTPS serves DNS over HTTPS: HTTP/1.1 and HTTP/2 over TCP, and HTTP/3 over QUIC.
func (l *Listener) serveHTTPS(ctx, work context.Context) {
	handler := newDoH(l.config, l.httpsIn)
	handler.altSvc = []string{http3.NextProtoH3 + `=":` + strconv.Itoa(int(l.addr.Port())) + `"; ma=` + strconv.Itoa(altSvcAge)}
	handler.read, handler.write = l.messageTimeout, l.env.Budget+l.writeTimeout // from the request on, so that it has the time of the query in it
	var both sync.WaitGroup
	both.Go(func() { l.serveHTTP(ctx, work, handler) })
	both.Go(func() { l.serveHTTP3(ctx, work, handler) })
	both.Wait()
}

// serveHTTP serves what is over TCP. The handshakes are made here, by the rules of all connections with TLS; net/http gets what comes of them.
func (l *Listener) serveHTTP(ctx, work context.Context, handler *doh) {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	server := &http.Server{
		Handler: handler, Protocols: &protocols, MaxHeaderBytes: maxHeaders,
		ReadHeaderTimeout: l.messageTimeout, ReadTimeout: handler.read, IdleTimeout: l.config.TCPIdleTimeout,
		WriteTimeout: handler.write, // of a stream over HTTP/2
		HTTP2: &http.HTTP2Config{ // the time for a write is the gatherer's
			MaxConcurrentStreams: maxStreams, MaxReadFrameSize: 16 << 10, MaxDecoderHeaderTableSize: 4 << 10,
			MaxReceiveBufferPerConnection: 4 * streamWindow, MaxReceiveBufferPerStream: streamWindow,
		},
		// What it has to say is about what clients do wrong.
		ErrorLog: log.New(io.Discard, "", 0),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, memberKey{}, c.(*tls.Conn).NetConn().(*beneath).member)
		},
	}
	ready := &secureConns{conns: make(chan net.Conn), done: make(chan struct{})}
	var all sync.WaitGroup
	all.Go(func() {
		defer close(ready.done)
		l.env.Guard.Keep(ctx, func(context.Context) { l.acceptHTTP(server, ready) })
	})
	config := l.keeper.server(l.turns.take, alpnHTTP2, alpnHTTP1)
	l.serveStreams(ctx, &all, l.httpsIn, config, func(c *connection) {
		if below := c.handOver(); ready.put(c.conn) {
			below.out.run()
		}
	})
	if l.leaving.Load() {
		l.clients.gone(work, l.env.Grace) // those who are in the middle of a handshake have a request yet
	}
	server.Shutdown(work) //nolint:errcheck // when work ends, so does what is left, by Close
	server.Close()        //nolint:errcheck // as above
	all.Wait()
}

// handOver leaves the connection to who has its own way with it, until it is closed. What is written is sent by who handed it over.
func (c *connection) handOver() *beneath {
	below := c.conn.(*tls.Conn).NetConn().(*beneath)
	below.wait, below.member, below.out = nil, &c.member, newGatherer(c.socket, c.listener.writeTimeout)
	c.handed.Store(true)
	c.socket.SetDeadline(time.Time{}) //nolint:errcheck // then what comes fails as well
	return below
}

// acceptHTTP has server take connections until it is told to end. A panic leaves it as it was but for the connection that nobody serves yet.
func (l *Listener) acceptHTTP(server *http.Server, ready *secureConns) {
	turn := &secureListener{from: ready, listener: l, closed: make(chan struct{})}
	defer func() {
		if turn.last != nil {
			turn.last.Close()
		}
	}()
	server.Serve(turn) //nolint:errcheck // it ends when it is told to
}

// secureConns are connections whose handshake is done, on their way to who serves them.
type secureConns struct {
	conns chan net.Conn
	done  chan struct{} // closed when nobody takes any more
}

// put gives a connection to who accepts, and reports whether somebody took it.
func (s *secureConns) put(c net.Conn) bool {
	select {
	case s.conns <- c:
		return true
	case <-s.done:
		return false
	}
}

// secureListener is a net.Listener of secureConns. net/http closes it when it returns, by a panic too, so it is made anew each time.
type secureListener struct {
	from     *secureConns
	listener *Listener
	closed   chan struct{}
	once     sync.Once
	last     net.Conn // what Accept has returned, until it is called again
}

func (s *secureListener) Accept() (net.Conn, error) {
	s.last = nil
	s.listener.willAccept("http")
	select {
	case s.last = <-s.from.conns:
		return s.last, nil
	case <-s.closed:
		return nil, net.ErrClosed
	}
}

func (s *secureListener) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

func (s *secureListener) Addr() net.Addr { return s.listener.tcp.Addr() }

// serveHTTP3 serves what is over QUIC.
func (l *Listener) serveHTTP3(ctx, work context.Context, handler *doh) {
	server := &http3.Server{
		Handler: handler, MaxHeaderBytes: maxHeaders, IdleTimeout: l.config.TCPIdleTimeout, Logger: slog.New(slog.DiscardHandler),
		ConnContext: func(ctx context.Context, c *quic.Conn) context.Context {
			return context.WithValue(ctx, memberKey{}, &ctx.Value(guestKey{}).(*guest).member)
		},
	}
	told := make(chan struct{})
	go func() {
		defer l.httpsIn.survive()
		defer close(told)
		<-ctx.Done()
		server.Shutdown(work) //nolint:errcheck // it tells clients to go away, and returns when they have gone
	}()
	q := &quicServer{listener: l, in: l.httpsIn, code: quic.ApplicationErrorCode(http3.ErrCodeNoError)}
	q.serve(ctx, l.keeper.server(nil, http3.NextProtoH3), controlStreams, func(conn *quic.Conn, g *guest) {
		served := make(chan struct{})
		go func() {
			defer q.in.survive()
			defer close(served)
			server.ServeQUICConn(conn) //nolint:errcheck // clients end as they like
		}()
		select {
		case <-served:
		case <-g.ending.Done():
			g.idle(work)
			part(conn, q.code)
			<-served
		}
	})
	<-told
}
