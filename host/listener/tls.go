package listener

import (
	"crypto/tls"
	"net"
	"runtime"
	"strings"
	"time"
)

// handshakeTimeout is how long a client may take for a handshake: two round trips, and no more than a message may take.
const handshakeTimeout = messageTimeout

// alpnTLS is the protocol of DNS over TLS (RFC 7858 section 3.1, IANA). Clients that name none are taken as well.
const alpnTLS = "dot"

// turns bound the handshakes that are computed at a time, to one for each processor: a handshake takes as long as hundreds of queries, and however
// many clients come at once, the others are served. What is bounded is computing, not waiting: a client that is slow to say its part holds
// up nobody.
type turns chan struct{}

func newTurns() turns { return make(turns, runtime.GOMAXPROCS(0)) }

// take is for [keeper.server].
func (t turns) take(hello *tls.ClientHelloInfo) {
	b, ok := hello.Conn.(*beneath)
	if !ok {
		return
	}
	t <- struct{}{} // those who have it only compute
	b.turn = t
}

// beneath is the TCP connection below TLS. It knows when TLS has read all that came and waits for more.
type beneath struct {
	net.Conn
	turn turns  // held until then; nil: none is
	wait func() // called before it waits; may be nil

	// Of a connection that was handed over.
	member *member
	out    *gatherer
}

// Close implements net.Conn. What was written to a connection that was handed over is sent first, and who handed it over closes the socket.
func (b *beneath) Close() error {
	if b.out != nil {
		b.out.end()
		return nil
	}
	return b.Conn.Close()
}

// Write implements net.Conn.
func (b *beneath) Write(p []byte) (int, error) {
	if b.out != nil {
		return b.out.write(p)
	}
	return b.Conn.Write(p)
}

// SetDeadline implements net.Conn.
func (b *beneath) SetDeadline(t time.Time) error {
	if b.out != nil {
		return b.SetReadDeadline(t)
	}
	return b.Conn.SetDeadline(t)
}

// SetWriteDeadline implements net.Conn. A connection that was handed over has its own, whenever something is sent.
func (b *beneath) SetWriteDeadline(t time.Time) error {
	if b.out != nil {
		return nil
	}
	return b.Conn.SetWriteDeadline(t)
}

// Read implements net.Conn.
func (b *beneath) Read(p []byte) (int, error) {
	b.release()
	if b.wait != nil {
		b.wait()
	}
	return b.Conn.Read(p)
}

func (b *beneath) release() {
	if b.turn != nil {
		<-b.turn
		b.turn = nil
	}
}

// clientNames are the names in the certificate of a client, which was verified if there is one.
func clientNames(state *tls.ConnectionState) []string {
	if len(state.VerifiedChains) == 0 {
		return nil
	}
	leaf := state.VerifiedChains[0][0]
	var names []string
	for _, name := range append(leaf.DNSNames, leaf.Subject.CommonName) {
		names = append(names, strings.ToLower(name))
	}
	return names
}

// handshake makes c a connection with TLS, and reports whether that succeeded.
func (c *connection) handshake(config *tls.Config) bool {
	below, timeout := &beneath{Conn: c.socket}, c.listener.handshakeTimeout
	t := tls.Server(below, config)
	c.setReadDeadline(time.Now().Add(timeout))
	c.socket.SetWriteDeadline(time.Now().Add(timeout)) //nolint:errcheck // then the write fails as well
	err := t.Handshake()                               // without a context, which would cost a goroutine: there are the deadlines
	below.release()
	if err != nil {
		c.in.counters.failed.Inc()
		return false
	}
	state := t.ConnectionState()
	c.names = clientNames(&state)
	if state.DidResume {
		c.in.counters.resumed.Inc()
	} else {
		c.in.counters.whole.Inc()
	}
	c.conn, below.wait = t, c.await
	return true
}
