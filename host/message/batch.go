package message

import (
	"sync/atomic"
	"time"
)

// Batch is what one goroutine puts off until it has looked at everything that it has read at once: messages that are to be sent. What goes to one
// socket is sent with one system call then. And sent one after the other, the first of them wakes the one who reads them, and the others find it
// awake; with other work between them, each of them may have to wake it, which is a good part of what sending costs. It also has the time, since
// to look at the clock for each thing that a query does is a good part of what that costs; and what is counted, for the same reason: an atomic addition takes
// as long as twenty others. The zero value is empty.
type Batch struct {
	// Choice is for those who share a batch and choose at random where to send from: what the first of them has chosen, not 0, is good for all of
	// them, so that there is something to send together. It ends with Flush.
	Choice uint16

	now     time.Time // since the last Flush, if anybody has asked
	lots    []lot
	flushed int // of lots

	counts [maxCounts]count
	used   int // of counts
	turn   int // which of them is likely to be next: one query counts the same as the one before, in the same order
}

// maxCounts is how many numbers a batch keeps apart. A query that waits counts some ten.
const maxCounts = 24

// count is what is to be added to a number.
type count struct {
	to *atomic.Uint64
	n  uint64
}

// lot is what is for one sender.
type lot struct {
	sender Sender
	held   []any
}

// Sender sends messages. Several at once cost less than one after the other.
type Sender interface {
	// Send sends what was put off for it, in this order. It does not block, and does not keep held.
	Send(held []any)
}

// Now is the time at which somebody asked first since the last Flush: some hundred microseconds ago at most, if the goroutine of b does
// not wait for anything between. Without a batch, b is nil and it is the time.
func (b *Batch) Now() time.Time {
	if b == nil {
		return time.Now()
	}
	if b.now.IsZero() {
		b.now = time.Now()
	}
	return b.now
}

// Count adds n to a number, by the next Flush at the latest, and before that sends anything: who has got an answer finds it counted. Without a batch it is added
// at once.
func (b *Batch) Count(to *atomic.Uint64, n uint64) {
	if b == nil {
		to.Add(n)
		return
	}
	if c := &b.counts[b.turn]; c.to == to {
		c.n += n
		if b.turn++; b.turn >= b.used {
			b.turn = 0
		}
		return
	}
	b.count(to, n)
}

// count is Count for a number that is not the one expected.
func (b *Batch) count(to *atomic.Uint64, n uint64) {
	at := 0
	for at < b.used && b.counts[at].to != to {
		at++
	}
	if at == maxCounts {
		b.settle()
		at = 0
	}
	if at == b.used {
		b.counts[at] = count{to: to}
		b.used++
	}
	b.counts[at].n += n
	if b.turn = at + 1; b.turn == b.used {
		b.turn = 0
	}
}

// settle adds up what has been counted.
func (b *Batch) settle() {
	for i := range b.counts[:b.used] {
		c := &b.counts[i]
		c.to.Add(c.n)
		*c = count{}
	}
	b.used, b.turn = 0, 0
}

// Add puts h off, for s. It is for the goroutine of b, which calls Flush soon.
func (b *Batch) Add(s Sender, h any) {
	for i := len(b.lots) - 1; i >= b.flushed; i-- {
		if l := &b.lots[i]; l.sender == s {
			l.held = append(l.held, h)
			return
		}
	}
	if len(b.lots) < cap(b.lots) {
		b.lots = b.lots[:len(b.lots)+1]
	} else {
		b.lots = append(b.lots, lot{})
	}
	l := &b.lots[len(b.lots)-1]
	l.sender, l.held = s, append(l.held[:0], h)
}

// Flush has everything counted, and sent, sender by sender in the order in which they came. What is added meanwhile is, too.
func (b *Batch) Flush() {
	for b.flushed < len(b.lots) {
		b.settle()
		l := b.lots[b.flushed]
		b.flushed++ // a lot that is being sent takes nothing more
		l.sender.Send(l.held)
		clear(l.held)
		b.lots[b.flushed-1].sender = nil
	}
	b.settle()
	b.lots, b.flushed, b.Choice, b.now = b.lots[:0], 0, 0, time.Time{}
}
