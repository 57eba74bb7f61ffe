package upstream

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/weirdns/weir/host/cookie"
	"github.com/weirdns/weir/host/datagram"
	"github.com/weirdns/weir/host/internal/stack"
	"github.com/weirdns/weir/host/message"
)

// A server is asked from one of socketSlots UDP sockets, picked at random for each try, or each batch of them; one is opened when there is none in the slot, or when that
// one has served socketUses tries, is socketAge old, or was told something odd. So a query on a quiet server has a port of its own, as a
// fresh socket for each would give it, and on a busy one, where that costs twice as much as all the rest of the query, a forger
// who has found a port has found that of one query in 16, for some tenths of a second (RATIONALE.md has the figures).
const (
	socketSlots = 16
	socketUses  = 256
	socketAge   = 5 * time.Second
)

// readSize is what a UDP response may have. Some servers exceed what was offered.
const readSize = 4096

// socket is a connected UDP socket with up to socketUses queries in it. The goroutine of run reads it and closes it.
//
// A try is in the table from its sending until whoever takes it out: the reader, because it is answered or the socket is broken, who then posts
// exactly one outcome; or the exchange, which does not want to wait any more. Its ID stays for the life of the socket: it is not used
// again, so what comes late, or twice, is no answer to anything and no sign of a forger. What comes late may say that the server is there, see late.go.
type socket struct {
	server *server
	conn   net.Conn
	out    *datagram.Socket // conn, if it is one of the system
	opened time.Time
	batch  message.Batch // of the reader
	single bool          // for one query only

	cookies bool                    // its queries show them
	client  [cookie.ClientSize]byte // cookie

	mu      sync.Mutex // guards following
	uses    int        // tries there have been
	waiting int        // those that wait
	retired bool       // takes no more queries, ends when nobody waits
	ended   bool
	random  random                // of IDs: two octets from here are next to the last ones, and those of an exchange are far away
	tries   [socketUses]*try      // in the order of their sending; nil is one that doesn't wait any more
	late    []late                // dropped tries, an answer to which is still news
	table   [2 * socketUses]place // by ID, the next free place if there is another: half of it stays free, so there is always one
}

// place is one of the table: an ID that was sent. It is small, for each query looks at a place, at random, of one socket of many, and each of those is
// likely to be far from the processor. The tries lie where those before and after them do, which have just been looked at.
type place struct {
	id  uint16
	nth uint16 // of the tries, counted from 1; 0 in a place that is free
}

// find returns the place of an ID, or the free one where it would be. mu is held.
func (k *socket) find(id uint16) *place {
	for i := int(id); ; i++ {
		if p := &k.table[i%len(k.table)]; p.nth == 0 || p.id == id {
			return p
		}
	}
}

// add chooses the ID of t, random and new to the socket, and has its response waited for. From now on t will be posted one final outcome, unless drop
// takes it out before. It reports false when the socket is spent.
func (k *socket) add(t *try, now time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.retired || k.ended || k.uses >= socketUses || now.Sub(k.opened) > socketAge {
		return false
	}
	id := k.random.uint16()
	p := k.find(id)
	for p.nth != 0 {
		id = k.random.uint16()
		p = k.find(id)
	}
	t.id, t.socket, t.nth = id, k, k.uses
	k.tries[k.uses] = t
	k.uses++
	k.waiting++
	*p = place{id: id, nth: uint16(k.uses)}
	t.showCookie(k)
	k.retired = k.single
	binary.BigEndian.PutUint16(t.out[2:], id)
	return true
}

// Send implements message.Sender: it writes tries that were put off.
func (k *socket) Send(held []any) {
	if k.out == nil {
		for _, h := range held {
			t := h.(*try)
			t.exchange.sent(t, t.write())
		}
		return
	}
	lot := datagram.GetLot()
	for len(held) > 0 {
		n := min(len(held), datagram.Size)
		for _, h := range held[:n] {
			lot.Add(h.(*try).out[2:])
		}
		k.out.Write(lot)
		for i, h := range held[:n] {
			t := h.(*try)
			t.exchange.sent(t, lot.Err(i))
		}
		lot.Reset()
		held = held[n:]
	}
	lot.Put()
}

// drop takes t out of those that wait and reports whether it was among them. If not, an outcome has been posted or will be at once. The socket
// is retired: that no response came may be its own fault, such as a firewall that has forgotten about it.
func (k *socket) drop(t *try) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.tries[t.nth] != t {
		return false
	}
	k.take(t)
	k.retired = true
	if t.overdue {
		k.expect(t)
	}
	k.endIfIdle()
	return true
}

// take takes t, which waits, out. mu is held.
func (k *socket) take(t *try) {
	k.tries[t.nth] = nil
	k.waiting--
}

// waits returns those who wait. mu is held.
func (k *socket) waits() []*try {
	var all []*try
	for _, t := range k.tries[:k.uses] {
		if t != nil {
			all = append(all, t)
		}
	}
	return all
}

// retire lets the queries that wait have their answers, and takes no more.
func (k *socket) retire() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.retired = true
	k.endIfIdle()
}

// endIfIdle ends a retired socket on which nobody waits: at once, or when what comes late would come too late. mu is held.
func (k *socket) endIfIdle() {
	switch {
	case !k.retired || k.waiting > 0 || k.ended:
	case len(k.late) > 0:
		_ = k.conn.SetReadDeadline(k.lateUntil()) // fails when it is closed, and that is as good
	default:
		k.stop()
	}
}

// stop has the reader return, which closes the socket. It does not close it itself: Close waits for the reader, who may wait for the caller's locks.
// mu is held.
func (k *socket) stop() {
	k.retired, k.ended = true, true
	_ = k.conn.SetReadDeadline(past) // fails when it is closed, and that is as good
}

var past = time.Unix(1, 0)

// end ends the socket and tells all who wait.
func (k *socket) end() {
	k.mu.Lock()
	k.stop()
	waiting := k.waits()
	for _, t := range waiting {
		k.take(t)
	}
	k.mu.Unlock()
	for _, t := range waiting {
		t.post(outcomeBroken, true, nil)
	}
}

// run reads responses until the socket ends.
func (k *socket) run(context.Context) {
	stack.Deepen() // the whole way of a query follows here, when another server is asked
	defer k.server.forget(k)
	defer k.conn.Close()
	defer k.end() // whatever ends this, a panic too: nobody waits here in vain
	if batch := newBatch(k); batch != nil {
		batch.read()
	} else {
		k.read()
	}
	k.batch.Flush()
}

// read reads one by one.
func (k *socket) read() {
	buf := make([]byte, readSize)
	for {
		n, err := k.conn.Read(buf)
		switch {
		case err == nil:
			if !k.deliver(buf[:n]) {
				return
			}
			k.batch.Flush()
		case isUnreachable(err):
			k.unreachable()
			k.batch.Flush()
		default:
			return
		}
	}
}

// isUnreachable reports whether an error is that of an ICMP message, which is reported once.
func isUnreachable(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.ENETUNREACH)
}

// deliver gives a message to the try that waits for it. It reports false when the socket has ended.
func (k *socket) deliver(msg []byte) bool {
	t, kind, forged := k.sort(msg)
	switch {
	case forged:
		k.mismatch(t)
	case t != nil:
		t.post(kind, true, &k.batch)
	case kind == outcomeLate:
		k.hearLate(msg)
	default:
		return kind != outcomeBroken
	}
	return true
}

// sort finds out whose a message is. The try is taken out and gets the outcome, unless the message is forged, or malformed: then the try, if there is one, goes
// on waiting. Without either the message is of no matter, or the socket has ended: outcomeBroken; or it may be an answer that is late: outcomeLate.
func (k *socket) sort(msg []byte) (t *try, kind outcomeKind, forged bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ended {
		return nil, outcomeBroken, false
	}
	var p *place
	if len(msg) >= 2 {
		p = k.find(binary.BigEndian.Uint16(msg))
	}
	if p == nil || p.nth == 0 {
		return nil, outcomeNothing, true
	}
	if t = k.tries[p.nth-1]; t == nil { // late, or a duplicate, and not forged
		if len(k.late) > 0 {
			return nil, outcomeLate, false
		}
		return nil, outcomeNothing, false
	}
	if kind = t.take(msg); kind == outcomeNothing {
		return t, kind, true
	}
	k.take(t)
	if kind == outcomeCase {
		k.retired = true
	}
	k.endIfIdle()
	return t, kind, false
}

// mismatch counts a message that is no response to any of the tries that wait, or only to t, but is malformed. For the others it may be a guess,
// so it counts for each of them, and no more queries go where somebody guesses.
func (k *socket) mismatch(t *try) {
	k.server.metrics.mismatches.Inc()
	k.mu.Lock()
	k.retired = true
	var flooded []*try
	for _, u := range k.waits() {
		if (t == nil || u == t) && u.exchange.mismatches.Add(1) >= maxMismatches {
			k.take(u)
			flooded = append(flooded, u)
		}
	}
	k.endIfIdle()
	k.mu.Unlock()
	for _, t := range flooded {
		t.post(outcomeFlood, true, &k.batch)
	}
}

// unreachable tells all who wait, and who go on waiting: the ICMP error may be forged.
func (k *socket) unreachable() {
	k.mu.Lock()
	waiting := k.waits()
	for _, t := range waiting {
		t.exchange.refs.Add(1) // so that it is still the same when it gets the outcome
	}
	k.mu.Unlock()
	for _, t := range waiting {
		t.post(outcomeUnreachable, false, &k.batch)
	}
}

// sockets are the UDP sockets of a server.
type sockets struct {
	slots [socketSlots]atomic.Pointer[socket]

	mu      sync.Mutex           // guards following
	retired bool                 // those opened from now on are for one query
	open    map[*socket]struct{} // those in slots, and retired ones on which somebody waits
}

// addUDP adds t to a socket. slot is a number of which the remainder counts: a query adds one for each try, so that its tries have
// different ports.
func (s *server) addUDP(ctx context.Context, t *try, slot int, now time.Time) error {
	slot %= socketSlots
	k := s.sockets.slots[slot].Load()
	for k == nil || !k.add(t, now) {
		fresh, err := s.openSocket(ctx, now)
		if err != nil {
			return err
		}
		if !s.sockets.slots[slot].CompareAndSwap(k, fresh) {
			fresh.retire() // somebody else was faster
			k = s.sockets.slots[slot].Load()
			continue
		}
		if k != nil {
			k.retire()
		}
		k = fresh
	}
	return nil
}

// openSocket opens a socket and has it read.
func (s *server) openSocket(ctx context.Context, now time.Time) (*socket, error) {
	conn, err := s.group.dialer.open(ctx, "udp", s.addr)
	if err != nil {
		return nil, err
	}
	k := &socket{server: s, conn: conn, out: datagram.Of(conn), opened: now}
	if k.out != nil && s.group.noTrains {
		k.out.NoTrains()
	}
	k.bake(now)
	s.sockets.mu.Lock()
	defer s.sockets.mu.Unlock()
	k.single = s.sockets.retired // somebody has chosen the server before it was
	if !s.group.start(k.run) {
		_ = conn.Close() // nothing was sent on it
		return nil, ErrClosed
	}
	s.sockets.open[k] = struct{}{}
	return k, nil
}

// forget is for a socket that has ended.
func (s *server) forget(k *socket) {
	s.sockets.mu.Lock()
	defer s.sockets.mu.Unlock()
	s.expected.Add(-int32(len(k.late)))
	delete(s.sockets.open, k)
}

// all returns the sockets that are open, and retires the server if that is wanted.
func (s *sockets) all(retire bool) []*socket {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retired = s.retired || retire
	open := make([]*socket, 0, len(s.open))
	for k := range s.open {
		open = append(open, k)
	}
	return open
}

// sweep retires the sockets that are old, so that none is open without being used.
func (s *sockets) sweep(now time.Time) {
	for _, k := range s.all(false) {
		if now.Sub(k.opened) > socketAge {
			k.retire()
		}
	}
}
