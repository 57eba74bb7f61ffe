package message

import "time"

// Batch is what one goroutine puts off until it has looked at everything that it has read at once: messages that are to be sent. What goes to one
// socket is sent with one system call then. And sent one after the other, the first of them wakes the one who reads them, and the others find it
// awake; with other work between them, each of them may have to wake it, which is a good part of what sending costs. It also has the time, since
// to look at the clock for each thing that a query does is a good part of what that costs. The zero value is empty.
type Batch struct {
	// Choice is for those who share a batch and choose at random where to send from: what the first of them has chosen, not 0, is good for all of
	// them, so that there is something to send together. It ends with Flush.
	Choice uint16

	now     time.Time // since the last Flush, if anybody has asked
	lots    []lot
	flushed int // of lots
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

// Flush has everything sent, sender by sender in the order in which they came. What is added meanwhile is sent, too.
func (b *Batch) Flush() {
	for b.flushed < len(b.lots) {
		l := b.lots[b.flushed]
		b.flushed++ // a lot that is being sent takes nothing more
		l.sender.Send(l.held)
		clear(l.held)
		b.lots[b.flushed-1].sender = nil
	}
	b.lots, b.flushed, b.Choice, b.now = b.lots[:0], 0, 0, time.Time{}
}
