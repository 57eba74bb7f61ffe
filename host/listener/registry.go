package listener

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirdns/weir/host/due"
)

// registry knows the open connections of a listener and keeps them below two limits: of all, and of one client. When there are as many, the
// one that has been idle longest makes room: a new client is more likely to have a query than one that has not had any for
// a while, and a client that opens connections without a query in them only takes room from itself. A query that does not come whole, or whose response the client does
// not take, is none: otherwise whoever has as many connections as there is room for, with one such query on each, would keep all others out.
type registry struct {
	max, perClient int

	mu       sync.Mutex // guards following
	open     map[*member]struct{}
	byClient map[netip.Prefix]int
	draining time.Time // when reading ends; zero until the listener ends
}

// member is an open connection, whatever goes over it.
type member struct {
	addr      netip.AddrPort
	client    netip.Prefix        // the zero Prefix until it is known
	names     []string            // of the client, in its certificate
	inFlight  atomic.Int64        // queries; those that the client keeps waiting count as stalled
	idleSince atomic.Int64        // when the last response was written, or the connection came; a due.Moment
	cut       func()              // ends it at once; it never waits
	stop      func(end time.Time) // has it take no queries after end, and end itself when all are answered
}

// begin and end count the queries of a connection.
func (m *member) begin() { m.inFlight.Add(1) }

func (m *member) end() {
	m.idleSince.Store(int64(due.At(time.Now())))
	m.inFlight.Add(-1)
}

// stalled is what a query counts for while it is the client that it waits for: for the rest of it, or to take the response. It is more than a connection has queries, so that
// one number tells how many there are of each.
const stalled = 1 << 32

// stall begins such a time for a query that has begun, and proceed ends it.
func (m *member) stall() { m.inFlight.Add(stalled - 1) }

func (m *member) proceed() { m.inFlight.Add(1 - stalled) }

// respond is stall for a query whose response is written from now on. The client is not idle: one that takes responses makes room last.
func (m *member) respond() {
	m.idleSince.Store(int64(due.At(time.Now())))
	m.stall()
}

// busy reports whether there is a query that weir works for.
func (m *member) busy() bool { return m.inFlight.Load()%stalled > 0 }

// memberKey is what HTTP has a connection under, in the contexts of its requests.
type memberKey struct{}

// idle waits until the connection has no queries, or ctx is done.
func (m *member) idle(ctx context.Context) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for m.inFlight.Load() > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// clientOf is what counts as one client: an IPv4 address, or an IPv6 /64, of which any host has all addresses (RFC 7934).
func clientOf(addr netip.Addr) netip.Prefix {
	bits := 32
	if addr.Is6() {
		bits = 64
	}
	p, _ := addr.Prefix(bits)
	return p
}

// add takes c in, if need be for another one, which is then closed. It reports whether there was room.
func (r *registry) add(c *member) (ok bool, evicted *member) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.admit(c)
}

// identify is add for a connection that is there, and turns out to be a client's: one that has no client yet counts among all only.
func (r *registry) identify(c *member, client netip.Prefix) (ok bool, evicted *member) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, open := r.open[c]; !open { // it had to make room
		return false, nil
	}
	r.delete(c)
	c.client = client
	return r.admit(c)
}

func (r *registry) admit(c *member) (ok bool, evicted *member) {
	if r.open == nil {
		r.open, r.byClient = map[*member]struct{}{}, map[netip.Prefix]int{}
	}
	switch {
	case c.client.IsValid() && r.byClient[c.client] >= r.perClient:
		evicted = r.idleLongest(func(o *member) bool { return o.client == c.client })
	case len(r.open) >= r.max:
		evicted = r.idleLongest(func(*member) bool { return true })
	default:
		r.insert(c)
		return true, nil
	}
	if evicted == nil {
		return false, nil
	}
	r.delete(evicted)
	evicted.cut()
	r.insert(c)
	return true, evicted
}

// makeRoom closes the connection that has been idle longest and reports whether there was one.
func (r *registry) makeRoom() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.idleLongest(func(*member) bool { return true })
	if c == nil {
		return false
	}
	r.delete(c)
	c.cut()
	return true
}

func (r *registry) insert(c *member) {
	r.open[c] = struct{}{}
	r.byClient[c.client]++
	if !r.draining.IsZero() {
		c.stop(r.draining)
	}
}

// idleLongest looks at every connection. That happens only at a limit, when a new connection costs more than the look.
func (r *registry) idleLongest(among func(*member) bool) (oldest *member) {
	var since int64
	for c := range r.open {
		if t := c.idleSince.Load(); !c.busy() && (oldest == nil || t < since) && among(c) {
			oldest, since = c, t
		}
	}
	return oldest
}

// remove forgets a connection that has ended.
func (r *registry) remove(c *member) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.open[c]; ok {
		r.delete(c)
	}
}

func (r *registry) delete(c *member) {
	delete(r.open, c)
	if r.byClient[c.client]--; r.byClient[c.client] == 0 {
		delete(r.byClient, c.client)
	}
}

// drain has every connection stop reading at end.
func (r *registry) drain(end time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.draining = end
	for c := range r.open {
		c.stop(end)
	}
}

// gone waits until there are no connections, or for d, or until ctx is done.
func (r *registry) gone(ctx context.Context, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		r.mu.Lock()
		n := len(r.open)
		r.mu.Unlock()
		if n == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// isDraining reports whether drain was called.
func (r *registry) isDraining() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.draining.IsZero()
}

// abort closes every connection.
func (r *registry) abort() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.open {
		c.cut()
	}
}
