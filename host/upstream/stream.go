package upstream

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

const (
	// maxStreams and maxPending bound the TCP connections to one server and the queries that wait on each.
	maxStreams = 4
	maxPending = 256
	// messageTimeout is the time from the first octet of a message to its last. 64 KiB take a few round trips; a server that takes
	// longer holds up everybody who waits behind it, so it is better to ask again on a new connection.
	messageTimeout = 750 * time.Millisecond
	// writeTimeout is the time to hand a query to the kernel. All that may wait on a connection fits into an ordinary send
	// buffer, so this ends only if the server has stopped reading.
	writeTimeout = 250 * time.Millisecond
	// keepBuffer is the largest read buffer that a connection keeps.
	keepBuffer = 4096
)

// stream is a connection, of TCP or TLS over it, to a server with many queries in it, which are answered in any order (RFC 7766 section 6.2.1.1).
//
// A query is in pending from its sending until whoever takes it out: the reader, because it is answered or the connection has ended,
// who then posts exactly one outcome; or the exchange that does not want to wait any more. The goroutine of run dials, reads, and alone
// closes the connection: saying goodbye over TLS may wait for the server, and must not make those wait who hold or want mu.
type stream struct {
	server *server

	mu       sync.Mutex // guards following
	conn     net.Conn   // nil while it is being dialed
	pending  map[uint16]*try
	writing  bool      // somebody writes, and will take care of backlog; true too while the connection is being dialed
	backlog  []byte    // messages to be written
	spare    []byte    // the other buffer for backlog
	retired  bool      // takes no more queries, ends when nobody waits
	ended    bool      //
	received time.Time // when the last octets came
	sent     time.Time // when the last query was added
}

// hasRoom reports whether one more query can wait here.
func (c *stream) hasRoom() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.retired && !c.ended && len(c.pending) < maxPending
}

// add sends the query of t and reports whether it could. Its ID is chosen here: random, and none that another query on the
// connection has. From now on t will be posted one outcome, unless drop takes it out before.
func (c *stream) add(t *try, r *random) bool {
	c.mu.Lock()
	if c.retired || c.ended || len(c.pending) >= maxPending {
		c.mu.Unlock()
		return false
	}
	t.id = r.uint16()
	for c.pending[t.id] != nil {
		t.id = r.uint16()
	}
	binary.BigEndian.PutUint16(t.out[2:], t.id)
	c.pending[t.id] = t
	c.sent = t.sent
	c.backlog = append(c.backlog, t.out...)
	t.dialed = c.conn == nil
	busy := c.writing
	c.writing = true
	c.mu.Unlock()
	// Not by the caller: it is a goroutine that other queries wait for.
	if !busy && !c.server.group.start(c.flush) {
		return !c.drop(t)
	}
	return true
}

// flush writes the backlog, each message with its length before it in the same write (RFC 7766 section 8), and several messages in one
// write when they come fast. One goroutine does it at a time, until there is nothing to do.
func (c *stream) flush(context.Context) {
	ended := false
	defer onPanic(&ended, func() { c.end(outcomeBroken) })
	for {
		c.mu.Lock()
		if len(c.backlog) == 0 || c.ended {
			c.writing, ended = false, true
			c.mu.Unlock()
			return
		}
		conn, octets := c.conn, c.backlog
		c.backlog, c.spare = c.spare[:0], nil
		c.mu.Unlock()
		err := conn.SetWriteDeadline(time.Now().Add(writeTimeout))
		if err == nil {
			_, err = conn.Write(octets)
		}
		if err != nil {
			ended = true
			c.end(outcomeBroken) // nobody knows how much of the messages the server has
			return
		}
		c.mu.Lock()
		c.spare = octets[:0]
		c.mu.Unlock()
	}
}

// drop takes t out of those that wait and reports whether it was among them. If not, an outcome has been posted or will be at once.
func (c *stream) drop(t *try) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pending[t.id] != t {
		return false
	}
	delete(c.pending, t.id)
	c.endIfIdle()
	return true
}

// suspect retires the connection if nothing came on it since t was sent: it may be dead, and a query is better off on another.
func (c *stream) suspect(t *try) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil && !c.received.After(t.sent) {
		c.retired = true
	}
}

// retire lets the queries that wait have their answers, and takes no more.
func (c *stream) retire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.retired = true
	c.endIfIdle()
}

// endIfIdle ends a retired connection on which nobody waits. Its mu is held.
func (c *stream) endIfIdle() {
	if c.retired && len(c.pending) == 0 {
		c.stop()
	}
}

// stop has run close the connection. mu is held.
func (c *stream) stop() {
	c.ended = true
	if c.conn != nil {
		_ = c.conn.SetReadDeadline(past) // fails on a connection that is closed already
	}
}

// readUntil gives the reader until t, and none if the connection has ended. That is looked at after the deadline is set, so that either stop's is
// the last one or this sees that there was a stop.
func (c *stream) readUntil(conn net.Conn, t time.Time) error {
	if err := conn.SetReadDeadline(t); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return net.ErrClosed
	}
	return nil
}

// end stops the connection and tells all who wait.
func (c *stream) end(why outcomeKind) { c.tell(why, nil) }

// tell is end, with what there is to say about it.
func (c *stream) tell(why outcomeKind, problem error) {
	c.mu.Lock()
	c.stop()
	pending := c.pending
	c.pending = nil
	c.mu.Unlock()
	for _, t := range pending {
		t.problem = problem
		t.post(why, true, nil)
	}
}

// run is the life of the connection.
func (c *stream) run(ctx context.Context) {
	defer c.server.remove(c)
	defer c.end(outcomeBroken) // whatever ends this, a panic too
	var conn net.Conn
	err := c.server.dial(ctx, func(ctx context.Context) (err error) {
		conn, err = c.server.connect(ctx)
		return err
	})
	if err != nil {
		c.tell(outcomeOf(err, outcomeUnreachable), err)
		return
	}
	defer conn.Close() // the error does not matter: nobody is interested in what it has to say
	c.mu.Lock()
	c.conn, c.received = conn, time.Now()
	ended := c.ended
	c.mu.Unlock()
	if ended {
		return // nobody waits any more
	}
	// Reading must not wait for writing: a server may not read on before its answers are.
	if c.server.group.start(c.flush) {
		err = c.read(conn)
	}
	c.tell(outcomeBroken, err)
}

var errShort = errors.New("upstream: message without a whole header")

// read reads messages until the connection ends, has been idle for too long, or does not keep to the protocol, and returns why.
func (c *stream) read(conn net.Conn) error {
	reader := bufio.NewReaderSize(conn, keepBuffer)
	var buf []byte
	for {
		if err := c.readUntil(conn, time.Now().Add(c.server.group.expire)); err != nil {
			return err
		}
		if _, err := reader.Peek(1); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) && c.inUse() {
				continue
			}
			return err
		}
		if err := c.readUntil(conn, time.Now().Add(messageTimeout)); err != nil {
			return err
		}
		var err error
		if buf, err = readMessage(reader, buf); err != nil {
			return err
		}
		c.deliver(buf)
		if cap(buf) > keepBuffer {
			buf = nil
		}
	}
}

// inUse reports whether a query was sent within the time after which an idle connection is closed; otherwise the connection is
// closed to further queries in the same moment, so that none is lost between the two.
func (c *stream) inUse() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ended && len(c.pending) > 0 && time.Since(c.sent) < c.server.group.expire {
		return true
	}
	c.ended = true
	return false
}

// readMessage reads one message with its length before it (RFC 1035 section 4.2.2) into buf or a larger one.
func readMessage(r io.Reader, buf []byte) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return buf, err
	}
	n := int(binary.BigEndian.Uint16(size[:]))
	if n < 12 {
		return buf, errShort
	}
	if cap(buf) < n {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	_, err := io.ReadFull(r, buf)
	return buf, err
}

// deliver gives a message to the query that waits for it. Duplicates, answers that come too late and those to nobody are ignored.
func (c *stream) deliver(msg []byte) {
	t := c.sort(msg)
	if t == nil {
		return
	}
	t.post(t.read(msg), true, nil)
}

// read takes a message that answers t.
func (t *try) read(msg []byte) (kind outcomeKind) {
	defer t.malformed(&kind, outcomeMalformed)
	t.in, t.size = append(t.in[:0], msg...), len(msg)
	if t.parse(t.in) != nil {
		return outcomeMalformed
	}
	return outcomeResponse
}

// sort takes out the try that a message answers, if there is one.
func (c *stream) sort(msg []byte) *try {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.received = time.Now()
	t := c.pending[binary.BigEndian.Uint16(msg)]
	if t == nil {
		return nil
	}
	// TCP's own state stands for the server, so the case of the name is not needed as a proof. The rest of the question is.
	if !t.matches(msg, anyCase) {
		t.server.metrics.mismatches.Inc()
		t.exchange.mismatches.Add(1)
		return nil
	}
	delete(c.pending, t.id)
	c.endIfIdle()
	return t
}

// connect opens a connection.
func (s *server) connect(ctx context.Context) (net.Conn, error) {
	conn, err := s.group.dialer.open(ctx, "tcp", s.addr)
	if err != nil || s.tls == nil {
		return conn, err
	}
	secret, err := secure(ctx, conn, s.tls)
	if err != nil {
		return nil, err // not secret, which would be a net.Conn that is not nil
	}
	return secret, nil
}
