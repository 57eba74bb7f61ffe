// Package rescue has what goes on for the life of the process survive a panic.
//
// A panic is a mistake in weir. What it met has failed; what has to go on goes on: it is counted, told with its stack at a limited rate, and begun anew
// after a moment. What others wait for is not this package's: whoever holds a lock, or owes somebody an answer, sees to that by defer, so that what is begun
// anew finds things as they should be.
package rescue

import (
	"context"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/weirdns/weir/host/due"
)

const (
	// logged is how often a panic is logged with its stack at most; all are counted. A stack is a few kilobytes.
	logged = time.Minute
	// moment is how long what panicked pauses before it begins anew: long enough that one that panics at once costs nothing, and short enough that nobody
	// waits for what it does.
	moment = time.Second
)

// Guard recovers from the panics of a part of weir. It is safe for concurrent use, and not copied.
type Guard struct {
	// Log gets one panic a minute, with its stack; not nil.
	Log *slog.Logger
	// Count is incremented with each panic; nil: nobody counts.
	Count interface{ Inc() }

	seldom due.Seldom
}

// Panicked counts and logs a panic with the value v, which somebody has recovered, and whose stack is that of the caller.
func (g *Guard) Panicked(v any) {
	if g.Count != nil {
		g.Count.Inc()
	}
	if g.seldom.Due(time.Now(), logged) {
		defer func() { _ = recover() }() // the log may be what panics
		g.Log.Error("a panic: what met it has failed; further ones are counted, and logged once a minute", "panic", v, "stack", string(debug.Stack()))
	}
}

// Survive calls f, and reports whether it returned: there was no panic.
func (g *Guard) Survive(f func()) (returned bool) {
	defer func() {
		if v := recover(); v != nil {
			g.Panicked(v)
		}
	}()
	f()
	return true
}

// Keep calls f, which goes on until ctx is done or it has nothing left to do: after a panic, and a moment, it is called again, unless ctx is done.
func (g *Guard) Keep(ctx context.Context, f func(ctx context.Context)) {
	for !g.Survive(func() { f(ctx) }) {
		select {
		case <-time.After(moment):
		case <-ctx.Done():
			return
		}
	}
}
