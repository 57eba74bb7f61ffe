package listener

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirdns/weir/host/due"
	"github.com/weirdns/weir/host/message"
)

const (
	readSize  = 2048     // octets of a connection's buffer; it grows for a larger message and shrinks again
	writeSize = 16 << 10 // octets of responses that are collected before they are written
	// A connection that weir ends is read a little longer, and what comes is thrown away: closing with octets unread would send an RST,
	// and that takes the last responses away from the client (RFC 7766 section 6.2.4, RFC 1122 section 4.2.2.13).
	lingerTime   = 500 * time.Millisecond
	lingerOctets = 64 << 10
)

var errLengthZero = errors.New("a message of no octets")

// connection is a TCP connection of a client, with TLS or without. One goroutine reads; whoever has a response writes.
type connection struct {
	member
	conn     net.Conn // what messages go over: the socket, or TLS
	socket   net.Conn // TCP, which the deadlines are of
	in       *entrance
	listener *Listener
	done     sync.WaitGroup // queries in flight

	drainAt atomic.Pointer[time.Time] // when reading ends; nil until the listener ends
	handed  atomic.Bool               // somebody else has it, with deadlines of its own

	// Of the reading goroutine.
	buf     []byte // what has been read is at buf[from:to]
	from    int
	to      int
	started bool // the deadline of the message that is being read is set

	mu  sync.Mutex // guards following
	out []byte     // responses, each behind its length, that are still to be written
	bad bool       // a write failed
}

func newConnection(l *Listener, e *entrance, nc net.Conn, addr netip.AddrPort) *connection {
	c := &connection{conn: nc, socket: nc, in: e, listener: l}
	c.addr, c.client = addr, clientOf(addr.Addr())
	c.idleSince.Store(int64(due.At(time.Now())))
	c.cut, c.stop = func() { nc.Close() }, c.drain
	return c
}

// serveStreams accepts connections until the deadline of the socket, which Serve sets, and serves each with use. config is that of TLS, nil for
// none.
func (l *Listener) serveStreams(ctx context.Context, all *sync.WaitGroup, e *entrance, config *tls.Config, use func(*connection)) {
	l.env.Guard.Keep(ctx, func(ctx context.Context) {
		for {
			l.willAccept("tcp")
			nc, addr, err := l.accept(ctx, e)
			if err != nil {
				return
			}
			l.serveStream(all, e, nc, addr, config, use)
		}
	})
}

// serveStream serves a connection on a goroutine of its own, if there is room for it.
func (l *Listener) serveStream(all *sync.WaitGroup, e *entrance, nc net.Conn, addr netip.AddrPort, config *tls.Config, use func(*connection)) {
	defer e.survive()
	c := newConnection(l, e, nc, addr)
	proxied := l.isProxy(addr.Addr())
	if proxied {
		c.client = netip.Prefix{}
	}
	if !l.enter(e, &c.member) {
		nc.Close()
		return
	}
	all.Go(func() {
		defer e.survive()
		defer l.leave(e, &c.member)
		defer nc.Close()
		if (!proxied || c.introduce()) && (config == nil || c.handshake(config)) {
			use(c)
		}
		c.linger()
	})
}

// accept returns the next TCP connection. An error means that there will be none.
func (l *Listener) accept(ctx context.Context, e *entrance) (net.Conn, netip.AddrPort, error) {
	for {
		nc, err := l.tcp.Accept()
		switch {
		case err == nil:
			from, ok := nc.RemoteAddr().(*net.TCPAddr)
			if !ok { // the Unix domain has no addresses for clients
				return nc, netip.AddrPort{}, nil
			}
			addr := from.AddrPort()
			return nc, netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()), nil
		case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, net.ErrClosed):
			return nil, netip.AddrPort{}, err
		}
		// Too many open files, as a rule.
		if l.clients.makeRoom() {
			e.counters.evicted.Inc()
		}
		e.warn("a connection can't be accepted", err)
		pause(ctx)
	}
}

// enter takes a connection among those that are open, and reports whether there was room. leave is its end.
func (l *Listener) enter(e *entrance, m *member) bool {
	ok, evicted := l.clients.add(m)
	if evicted != nil {
		e.counters.evicted.Inc()
	}
	if !ok {
		e.counters.refused.Inc()
		return false
	}
	e.counters.connections.Inc()
	return true
}

func (l *Listener) leave(e *entrance, m *member) {
	l.clients.remove(m)
	e.counters.connections.Dec()
}

// serve answers the queries of a connection until one side ends it, and returns when all of them are answered.
func (c *connection) serve(work context.Context) {
	defer c.done.Wait() // a client that has closed its side only still gets its responses
	for {
		msg, err := c.next()
		if err != nil {
			break
		}
		c.handle(work, msg)
	}
	c.flush()
}

// handle answers a query, or leaves it to a goroutine when it has to wait. Without a place for that the connection waits itself, so that
// no more is read from it: TCP tells the client.
func (c *connection) handle(work context.Context, msg []byte) {
	e := c.in
	j := e.jobs.get()
	j.names = c.names
	c.begin()
	out, done := e.begin(j, msg, true, c.addr, e.now())
	if done {
		c.collect(out)
		c.finished(j)
		return
	}
	if c.inFlight.Load() <= int64(c.listener.config.TCPMaxInFlight) {
		if s, ok := e.waiting.take(j); ok {
			c.done.Go(func() {
				defer e.survive()
				defer e.waiting.release(s)
				c.complete(work, j)
			})
			return
		}
	}
	c.flush()
	c.complete(work, j)
}

func (c *connection) complete(work context.Context, j *job) {
	defer c.finished(j)
	c.collect(c.in.complete(work, j))
	c.flush()
}

func (c *connection) finished(j *job) {
	c.end()
	c.in.jobs.put(j)
}

// collect puts a response among those to be written; nil is none.
func (c *connection) collect(msg []byte) {
	if msg == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out = binary.BigEndian.AppendUint16(c.out, uint16(len(msg)))
	c.out = append(c.out, msg...)
	if len(c.out) >= writeSize {
		c.write()
	}
}

// flush writes what was collected. A message and its length go out together (RFC 7766 section 8).
func (c *connection) flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.write()
}

// write is flush with c.mu held. A client that does not take its responses holds up only itself, and not for long.
func (c *connection) write() {
	if len(c.out) == 0 {
		return
	}
	if !c.bad {
		c.socket.SetWriteDeadline(time.Now().Add(c.listener.writeTimeout)) //nolint:errcheck // then the write fails as well
		if _, err := c.conn.Write(c.out); err != nil {
			c.bad = true
			c.socket.Close() // which ends the reading too
		}
	}
	if c.out = c.out[:0]; cap(c.out) > 2*writeSize {
		c.out = nil
	}
}

// next returns the next message, which is valid until the call after.
func (c *connection) next() ([]byte, error) {
	for {
		msg, err := frame(c.buf[c.from:c.to])
		if err != nil {
			return nil, err
		}
		if msg != nil {
			c.from += 2 + len(msg)
			c.started = false
			return msg, nil
		}
		if err := c.read(); err != nil {
			return nil, err
		}
	}
}

// await is called before the connection waits for octets: responses that were collected are written, and the time runs.
func (c *connection) await() {
	c.flush()
	switch {
	case c.to == 0:
		c.setReadDeadline(due.Moment(c.idleSince.Load()).Time().Add(c.listener.config.TCPIdleTimeout))
	case !c.started: // one deadline for the whole message, or an octet now and then would hold the connection
		c.started = true
		c.setReadDeadline(time.Now().Add(c.listener.messageTimeout))
	}
}

// frame returns the message at the beginning of b, nil when it is not whole. RFC 1035 section 4.2.2.
//
//	| LENGTH, 2 octets | message, LENGTH octets | LENGTH ...
func frame(b []byte) (msg []byte, err error) {
	if len(b) < 2 {
		return nil, nil
	}
	n := int(binary.BigEndian.Uint16(b))
	if n == 0 {
		return nil, errLengthZero
	}
	if len(b) < 2+n {
		return nil, nil
	}
	return b[2 : 2+n : 2+n], nil
}

// read reads once, behind what there is.
func (c *connection) read() error {
	if c.from > 0 || c.buf == nil {
		c.to = copy(c.buf, c.buf[c.from:c.to])
		c.from = 0
		if c.to == 0 && len(c.buf) != readSize {
			c.buf = make([]byte, readSize)
		}
	}
	if c.to == len(c.buf) { // as octets come, not as the length promises them
		grown := make([]byte, min(2*len(c.buf), 2+message.MaxSize))
		copy(grown, c.buf)
		c.buf = grown
	}
	for {
		idle := c.to == 0
		if c.conn == c.socket { // TLS itself knows when it has to wait
			c.await()
		}
		n, err := c.conn.Read(c.buf[c.to:])
		c.to += n
		if n > 0 {
			return nil
		}
		// A connection with queries in flight is not idle, nor is one that just got a response (RFC 7766 section 6.2.3).
		if idle && errors.Is(err, os.ErrDeadlineExceeded) && c.drainAt.Load() == nil && !c.expired() {
			continue
		}
		if err != nil {
			return err
		}
	}
}

// expired reports whether the connection has been without queries for the idle timeout. If not, the timeout begins anew when it is seen.
func (c *connection) expired() bool {
	now := time.Now()
	if c.inFlight.Load() > 0 {
		c.idleSince.Store(int64(due.At(now)))
		return false
	}
	return now.Sub(due.Moment(c.idleSince.Load()).Time()) >= c.listener.config.TCPIdleTimeout
}

// setReadDeadline sets a deadline, unless that of the listener's end is earlier. drain may come between any two lines.
func (c *connection) setReadDeadline(t time.Time) {
	c.socket.SetReadDeadline(t) //nolint:errcheck // then the read fails as well
	if end := c.drainAt.Load(); end != nil && end.Before(t) {
		c.socket.SetReadDeadline(*end) //nolint:errcheck // as above
	}
}

// drain has the connection stop reading at end.
func (c *connection) drain(end time.Time) {
	c.drainAt.Store(&end)
	c.socket.SetReadDeadline(end) //nolint:errcheck // then the connection is closed already
	if c.handed.Load() {
		c.socket.SetReadDeadline(time.Time{}) //nolint:errcheck // as above
	}
}

// linger ends our side and waits a little for the client to end its own.
func (c *connection) linger() {
	if t, ok := c.conn.(*tls.Conn); ok {
		t.CloseWrite() //nolint:errcheck // then that of TCP fails as well
	}
	tcp, ok := c.socket.(interface{ CloseWrite() error })
	if !ok || tcp.CloseWrite() != nil {
		return
	}
	c.socket.SetReadDeadline(time.Now().Add(lingerTime)) //nolint:errcheck // then the read fails as well
	buf := c.buf
	if buf == nil {
		buf = make([]byte, 512)
	}
	for n := 0; n < lingerOctets; {
		k, err := c.socket.Read(buf)
		if n += k; err != nil {
			return
		}
	}
}
