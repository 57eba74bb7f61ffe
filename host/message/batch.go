package message

// Batch is what one goroutine puts off until it has looked at everything that it has read at once: messages that are to be sent. Sent one after the
// other, the first of them wakes the one who reads them, and the others find it awake; with other work between them, each of them may
// have to wake it, which is a good part of what sending costs. The zero value is empty.
type Batch struct{ held []Held }

// Held is something in a batch.
type Held interface {
	// Release does what was put off. It does not block.
	Release()
}

// Add puts h off. It is for the goroutine of b, which calls Flush soon.
func (b *Batch) Add(h Held) { b.held = append(b.held, h) }

// Flush releases everything, in the order in which it was added.
func (b *Batch) Flush() {
	for i := 0; i < len(b.held); i++ { // there may be more meanwhile
		h := b.held[i]
		b.held[i] = nil
		h.Release()
	}
	b.held = b.held[:0]
}
