package upstream

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirdns/weir/host/due"
	"github.com/weirdns/weir/host/message"
	"github.com/weirdns/weir/host/share"
)

const (
	// A server that falls again within calm of having got up stays down for minHold at least, and twice as long each time, up to maxHold: one that
	// responds to some queries and not to others, or to probes and not to queries, would else be up and down many times a second.
	calm    = time.Minute
	minHold = time.Second
	maxHold = 16 * time.Second
	// tcpCheck is how many times as long as between other probes it is between those over TCP alone. A server that has UDP only will have so for long.
	tcpCheck = 10
)

// health is whether a server responds.
type health struct {
	down  atomic.Bool
	fails atomic.Int32 // tries in a row without a healthy response
	held  atomic.Int64 // due.Moment until which it stays down, whatever it says

	mu   sync.Mutex // guards following, and changes of down
	hold time.Duration
	up   time.Time // since when it is up again; zero if it was never down
}

// good notes a healthy response, and reports whether the server was down and is up now.
func (h *health) good(now time.Time) bool {
	if h.fails.Load() != 0 { // no store while all is well: the cache line stays with all cores
		h.fails.Store(0)
	}
	if !h.down.Load() || int64(due.At(now)) < h.held.Load() {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.down.Load() {
		return false
	}
	h.up = now
	h.down.Store(false)
	return true
}

// late is good for a response that came when nobody waited for it any more. A server that responds late, or to a machine that is busy, is not one that is up and down in
// turn: it is held down for minHold at most.
func (h *health) late(now time.Time) bool {
	h.mu.Lock()
	if h.hold > minHold {
		h.held.Add(-int64(h.hold - minHold))
		h.hold = minHold
	}
	h.mu.Unlock()
	return h.good(now)
}

// bad notes a try without a healthy response, and reports whether that makes the server, which was up, go down, as limit in a row do; never if that is
// negative. It stays down for hold at least.
func (h *health) bad(limit int, now time.Time) (hold time.Duration, fell bool) {
	if int(h.fails.Add(1)) < limit || limit < 0 || h.down.Load() {
		return 0, false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.down.Load() {
		return 0, false
	}
	if h.up.IsZero() || now.Sub(h.up) >= calm {
		h.hold = 0
	} else {
		h.hold = min(max(2*h.hold, minHold), maxHold)
	}
	h.held.Store(int64(due.At(now.Add(h.hold))))
	h.down.Store(true)
	return h.hold, true
}

// wakeHealth has servers that are down probed.
func (g *Group) wakeHealth() {
	select {
	case g.healthDue <- struct{}{}:
	default: // it will look at all servers anyway
	}
}

// health probes the servers that are down, each at once and then every health_check, until they are up again. Servers that are up are not
// probed: their queries show how they are. Those that respond over UDP and not over TCP are probed over that, less often.
func (g *Group) health(ctx context.Context) {
	var probes sync.WaitGroup
	defer probes.Wait()
	ended := make(chan *health)
	probing := make(map[*health]bool)
	for {
		select {
		case <-g.healthDue:
		case h := <-ended:
			delete(probing, h) // it may be down again already
		case <-ctx.Done():
			return
		}
		for _, s := range *g.servers.Load() {
			for _, h := range [...]*health{&s.health, &s.tcp} {
				if !h.down.Load() || probing[h] {
					continue
				}
				probing[h] = true
				probes.Go(func() {
					if !g.survive(func(context.Context) { g.probe(ctx, s, h) }) {
						select {
						case <-time.After(time.Second):
						case <-ctx.Done():
						}
					}
					select {
					case ended <- h:
					case <-ctx.Done():
					}
				})
			}
		}
	}
}

// probe asks a server until h, which is one of its, is up or the server not in the group any more.
func (g *Group) probe(ctx context.Context, s *server, h *health) {
	interval, what := g.healthCheck, forQuery
	if h == &s.tcp {
		interval, what = tcpCheck*interval, forTCP
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for h.down.Load() && !s.isRetired() {
		g.ask(s, g.probeQuery, what)
		if !h.down.Load() {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// ask sends a query of weir's own to s, once, and waits for the end of that. The exchange itself notes the outcome.
func (g *Group) ask(s *server, q *message.Query, what purpose) {
	now := time.Now()
	w := g.waiters.Get().(*waiter)
	w.transaction.Query, w.transaction.Batch = q, nil
	x := g.exchange(1)
	x.servers = append(x.servers[:0], s)
	x.purpose = what
	counted := what != forLoop // such probes are made when the room is getting full, which is for clients
	if counted {
		g.entered()
	}
	if !x.start(&w.transaction, 1, now.Add(min(g.readTimeout, probeTimeout)), now) {
		<-w.done // soon after the end of Run, since that ends the exchange
	} else if counted {
		g.left(share.Share{})
	}
	g.waiters.Put(w)
}

// probeTimeout bounds the wait for the response to a probe: a server that takes longer is of no use to a client either.
const probeTimeout = time.Second

func (s *server) isRetired() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.retired
}
