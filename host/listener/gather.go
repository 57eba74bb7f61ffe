package listener

import (
	"net"
	"sync"
	"time"
)

// gathered is how many octets wait at most until the next write has to. The last record may go beyond it, by the size of one.
const gathered = 4 << 10

// gatherer is the writing half of a connection below TLS: a write leaves its octets there, and one goroutine sends them.
//
// HTTP/2 as net/http serves it writes the header fields of a response, and its content when they have gone: two records, and with a write for each two
// system calls, two segments, and two goroutines whose stacks have to grow for the way to the socket. The goroutine that sends is there already, with a
// stack that has grown, and by the time that it runs there is more to send, mostly the whole response and often those of other streams.
type gatherer struct {
	conn    net.Conn
	timeout time.Duration // of sending what there is

	mu      sync.Mutex // guards following
	changed sync.Cond
	out     []byte
	err     error // of sending; then nothing is sent any more
	ended   bool  // nothing more will be written
}

func newGatherer(conn net.Conn, timeout time.Duration) *gatherer {
	g := &gatherer{conn: conn, timeout: timeout}
	g.changed.L = &g.mu
	return g
}

// write takes p, when there is room for it. An error is that of an earlier write, or net.ErrClosed after end.
func (g *gatherer) write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for len(g.out) >= gathered && g.err == nil && !g.ended {
		g.changed.Wait()
	}
	switch {
	case g.err != nil:
		return 0, g.err
	case g.ended:
		return 0, net.ErrClosed
	}
	g.out = append(g.out, p...)
	g.changed.Broadcast()
	return len(p), nil
}

// end has run return when all that was written is sent, or can't be. It may be called more than once.
func (g *gatherer) end() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ended = true
	g.changed.Broadcast()
}

// run sends what is written, until the end.
func (g *gatherer) run() {
	var sending []byte
	for {
		g.mu.Lock()
		for (len(g.out) == 0 || g.err != nil) && !g.ended {
			g.changed.Wait()
		}
		if len(g.out) == 0 || g.err != nil {
			g.mu.Unlock()
			return
		}
		if cap(sending) > 2*gathered {
			sending = nil
		}
		sending, g.out = g.out, sending[:0]
		g.changed.Broadcast() // there is room
		g.mu.Unlock()
		g.conn.SetWriteDeadline(time.Now().Add(g.timeout)) //nolint:errcheck // then the write fails as well
		if _, err := g.conn.Write(sending); err != nil {
			g.mu.Lock()
			g.err = err
			g.changed.Broadcast()
			g.mu.Unlock()
			g.conn.Close() // which ends the reading too
		}
	}
}
