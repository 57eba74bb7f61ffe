package upstream

import (
	"context"
	"sync"
	"time"
)

// wakeHealth has servers that are down probed.
func (g *Group) wakeHealth() {
	select {
	case g.healthDue <- struct{}{}:
	default: // it will look at all servers anyway
	}
}

// health probes the servers that are down, each at once and then every health_check, until they are up again. Servers that are up are not
// probed: their queries show how they are.
func (g *Group) health(ctx context.Context) {
	var probes sync.WaitGroup
	defer probes.Wait()
	ended := make(chan *server)
	probing := make(map[*server]bool)
	for {
		select {
		case <-g.healthDue:
		case s := <-ended:
			delete(probing, s) // it may be down again already
		case <-ctx.Done():
			return
		}
		for _, s := range *g.servers.Load() {
			if s.down.Load() && !probing[s] {
				probing[s] = true
				probes.Go(func() {
					if !g.survive(func(context.Context) { g.probe(ctx, s) }) {
						select {
						case <-time.After(time.Second):
						case <-ctx.Done():
						}
					}
					select {
					case ended <- s:
					case <-ctx.Done():
					}
				})
			}
		}
	}
}

// probe asks a server until it is up or not in the group any more. The outcome of the exchange is not looked at: the exchange
// itself has noted it.
func (g *Group) probe(ctx context.Context, s *server) {
	tick := time.NewTicker(g.healthCheck)
	defer tick.Stop()
	for s.down.Load() && !s.isRetired() {
		now := time.Now()
		w := g.waiters.Get().(*waiter)
		w.transaction.Query, w.transaction.Batch = g.probeQuery, nil
		x := g.exchange()
		x.servers = append(x.servers[:0], s)
		g.entered()
		if !x.start(&w.transaction, 1, now.Add(min(g.readTimeout, probeTimeout)), now) {
			<-w.done // soon after the end of ctx, since that ends the group
		} else {
			g.left()
		}
		g.waiters.Put(w)
		if !s.down.Load() {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// probeTimeout bounds the wait for the response to a probe: a server that takes longer is of no use to a client either.
const probeTimeout = time.Second

func (s *server) isRetired() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.retired
}
