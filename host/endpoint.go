package host

import (
	"context"

	"github.com/weirdns/weir/host/chain"
	"github.com/weirdns/weir/host/message"
)

// endpoint is an upstream as chains see it: its cache, and what must hold before a query gets there whatever the filters say.
type endpoint struct {
	name  string
	cache resolver
	// private are the zones that only private upstreams may be asked for; nil if this is one. Canonical names.
	private *zoneSet
	// snoop: queries with RD clear are let through. They tell anybody what others have asked before (cache snooping).
	snoop bool
}

// resolver is what a cache offers.
type resolver interface {
	message.Starter
	Cached(q *message.Query, dst []byte) (message.Response, bool)
}

var _ chain.Upstream = (*endpoint)(nil)

var (
	edePrivate   = message.AppendEDE(nil, message.EDEProhibited, "private zone: not for this upstream")
	edeNoRecurse = message.AppendEDE(nil, message.EDEProhibited, "recursion was not asked for")
)

// Name implements chain.Upstream.
func (e *endpoint) Name() string { return e.name }

// Cached implements chain.Upstream.
func (e *endpoint) Cached(q *message.Query, dst []byte) (message.Response, bool) {
	if ede := e.refuses(q); ede != nil {
		return refuse(q, dst, ede), true
	}
	return e.cache.Cached(q, dst)
}

// Resolve implements message.Resolver.
func (e *endpoint) Resolve(ctx context.Context, q *message.Query, dst []byte) (message.Response, error) {
	if ede := e.refuses(q); ede != nil {
		return refuse(q, dst, ede), nil
	}
	return e.cache.Resolve(ctx, q, dst)
}

// Start implements message.Starter.
func (e *endpoint) Start(t *message.Transaction) bool {
	if ede := e.refuses(t.Query); ede != nil {
		t.Response, t.Err = refuse(t.Query, t.Dst, ede), nil
		return true
	}
	return e.cache.Start(t)
}

// refuses returns why the query may not go to this upstream, as an Extended DNS Error, or nil.
func (e *endpoint) refuses(q *message.Query) []byte {
	switch {
	case e.private != nil && e.private.holds(q.Key):
		if q.Trace != nil {
			q.Trace.Add(message.Step{Part: "upstream " + e.name, Event: "refused", RCODE: "REFUSED"},
				"%s is in one of {private_zones}, and {upstream.%s} is not private: REFUSED", message.NameString(q.Name), e.name)
		}
		return edePrivate
	case !e.snoop && !q.RD():
		if q.Trace != nil {
			q.Trace.Add(message.Step{Part: "upstream " + e.name, Event: "refused", RCODE: "REFUSED"},
				"RD is clear, and {upstream.%s.norecurse} is \"refuse\": REFUSED", e.name)
		}
		return edeNoRecurse
	}
	return nil
}

func refuse(q *message.Query, dst, ede []byte) message.Response {
	var r message.Response
	r.SetRCODE(dst, q, message.REFUSED)
	r.EDE = ede
	return r
}

// zoneSet is a set of zones. The zero value holds nothing.
type zoneSet struct{ zones map[string]bool }

// newZoneSet makes a set of canonical names.
func newZoneSet(zones [][]byte) *zoneSet {
	s := &zoneSet{zones: make(map[string]bool, len(zones))}
	for _, z := range zones {
		s.zones[string(z)] = true
	}
	return s
}

// holds reports whether the canonical name is in one of the zones or below. It does not allocate.
func (s *zoneSet) holds(name []byte) bool {
	if len(s.zones) == 0 {
		return false
	}
	for len(name) > 0 {
		if s.zones[string(name)] {
			return true
		}
		name = name[min(int(name[0])+1, len(name)):]
	}
	return false
}
