package host

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/weirdns/weir/host/chain"
	"github.com/weirdns/weir/host/explain"
	"github.com/weirdns/weir/host/listener"
	"github.com/weirdns/weir/host/message"
)

// Explain walks a question through the listener it names, as if a client had sent it, and returns what happened. It is a query like any other: it
// is answered from the caches and kept in them, and upstreams are asked. The server needs not be running.
//
// The error is an [explain.QuestionError] when the question is at fault.
func (s *Server) Explain(ctx context.Context, question explain.Question) (*explain.Trail, error) {
	wire, err := question.Wire()
	if err != nil {
		return nil, err
	}
	x := new(chain.Exchange)
	g, leave := s.enter(x)
	defer leave()
	n, err := g.listenerAt(question.Listener)
	if err != nil {
		return nil, err
	}
	client := question.Client.Unmap()
	if !client.IsValid() {
		client = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	q := &x.Query
	rcode, ok := q.Parse(wire)
	config, door := g.file.Listeners[n], g.doors[n]
	run := explain.Run{Exchange: x, Listener: config.Address, Start: time.Now(), Position: g.file.Position}
	q.Client, q.Listener, q.Scope = netip.AddrPortFrom(client, 0), uint16(n), message.None
	q.Transport, q.Path = question.Over, question.Path
	q.Deadline, q.Trace = run.Start.Add(g.file.Budget), new(message.Trace)
	if config.Cookies == listener.CookiesRequire && q.Transport == message.UDP {
		q.Trace.Add(message.Step{Part: "listener", Event: "cookie"},
			"{listener[%d].cookies} is \"require\": this is what a client gets that shows a good cookie; others get BADCOOKIE, or TC", n)
	}
	if limit := config.WithDefaults().RateLimit; limit.Responses > 0 && q.Transport == message.UDP {
		q.Trace.Add(message.Step{Part: "listener", Event: "rate limit"},
			"{listener[%d].rate_limit.responses}: a network gets %d responses a second, and %d at once; this is what a client gets within that", n, limit.Responses, limit.Burst)
	}
	if !ok {
		q.Trace.Add(message.Step{Part: "listener", Event: "refused", RCODE: message.RCODEString(rcode)}, "no query that a proxy can answer: %s", message.RCODEString(rcode))
		x.Response.SetRCODE(nil, q, rcode)
	} else if !door.Begin(x) {
		door.Complete(ctx, x)
	}
	run.Took = time.Since(run.Start)
	if !x.Dropped {
		run.Upstream = x.UpstreamName()
		run.Wire = x.Response.Finish(q, q.Limit(config.WithDefaults().MaxUDPSize))
	}
	return explain.New(run), nil
}

// enter returns the present generation, which stays until leave is called.
func (s *Server) enter(x *chain.Exchange) (g *generation, leave func()) {
	for {
		g = s.present.Load()
		lease := g.users.of(x)
		lease.Add(1)
		if s.present.Load() == g { // else there is another one, and this one may be gone
			return g, func() { lease.Add(-1) }
		}
		lease.Add(-1)
	}
}

// listenerAt returns the index of the listener with this address; the first for the empty address.
func (g *generation) listenerAt(address string) (int, error) {
	if address == "" {
		return 0, nil
	}
	var known []string
	for i, c := range g.file.Listeners {
		if c.Address == address {
			return i, nil
		}
		known = append(known, c.Address)
	}
	return 0, &explain.QuestionError{Text: fmt.Sprintf("there is no listener %q: there is %s", address, strings.Join(known, ", "))}
}
