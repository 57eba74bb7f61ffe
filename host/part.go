package host

import (
	"context"
	"errors"

	"github.com/weirdns/weir/host/rescue"
	"github.com/weirdns/weir/host/upstream"
)

// part is a piece of a generation that the next one takes over as long as what it was made from stays the same: a table, a group of servers with its
// connections, a cache with what it holds, a filter with its instances.
type part struct {
	name  string                          // for the log: "table home"
	run   func(ctx context.Context) error // background work, until ctx is done; nil if there is none
	close func()                          // after that; nil if there is nothing to close

	holders int                // generations that have it, guarded by Server.mu
	cancel  context.CancelFunc // of run, nil until it is started
	ended   chan struct{}
}

// start begins the background work, which guard keeps going.
func (p *part) start(ctx context.Context, guard *rescue.Guard) {
	if p.run == nil || p.cancel != nil {
		return
	}
	ctx, p.cancel = context.WithCancel(ctx)
	p.ended = make(chan struct{})
	go func() {
		defer close(p.ended)
		guard.Keep(ctx, func(ctx context.Context) {
			if err := p.run(ctx); err != nil && !errors.Is(err, context.Canceled) {
				guard.Log.Error("what runs in the background ended", "error", err)
			}
		})
	}()
}

// end ends the background work, and closes the part.
func (p *part) end() {
	if p.cancel != nil {
		p.cancel()
		<-p.ended
	}
	if p.close != nil {
		p.close()
	}
}

// hold makes g one of the holders of its parts.
func (g *generation) hold() {
	for _, p := range g.parts {
		p.holders++
	}
}

// release takes g out of them, and ends those that nobody else holds. No query is in g.
func (g *generation) release() {
	for i := len(g.parts) - 1; i >= 0; i-- { // what was made last leans on what was made first
		if p := g.parts[i]; p.holders <= 1 {
			p.end()
			p.holders = 0
		} else {
			p.holders--
		}
	}
}

// forget drops the metrics of servers that are in g and not in the generation that serves.
func (g *generation) forget(serving *generation) {
	for name, p := range g.groups {
		var other *upstream.Group
		if o := serving.groups[name]; o != nil {
			other = o.group
		}
		if p.group != other {
			p.group.Forget(other)
		}
	}
}

// discard ends what was made for a generation that is not to be: what others hold stays.
func (g *generation) discard() {
	for i := len(g.parts) - 1; i >= 0; i-- {
		if p := g.parts[i]; p.holders == 0 {
			p.end()
		}
	}
}
