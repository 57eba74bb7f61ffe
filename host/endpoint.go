package host

import (
	"context"

	"github.com/weirdns/weir/host/chain"
	"github.com/weirdns/weir/host/message"
	"github.com/weirdns/weir/host/special"
	"github.com/weirdns/weir/host/upstream"
)

// endpoint is an upstream as chains see it: its cache, and what must hold before a query gets there whatever the filters say.
type endpoint struct {
	name  string
	cache resolver
	// private are the zones that only private upstreams may be asked for; nil if this is one. Canonical names.
	private *zoneSet
	// snoop: queries with RD clear are let through. They tell anybody what others have asked before (cache snooping).
	snoop bool
	// minimal: ANY over UDP is answered here.
	minimal bool
	// ours reports which names set aside by RFCs are answered here.
	ours func(z *special.Zone) bool
}

// ours returns which names that are set aside are answered in front of an upstream.
func ours(c *upstream.Config) func(z *special.Zone) bool {
	near := c.IsNear()
	return func(z *special.Zone) bool {
		switch c.SpecialNames {
		case upstream.SpecialAnswer:
			return true
		case upstream.SpecialForward:
			return z.Kind == special.Neighbour
		}
		return z.Kind != special.Local || !near
	}
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
	if r, ok := e.answer(q, dst); ok {
		return r, true
	}
	return e.cache.Cached(q, dst)
}

// Resolve implements message.Resolver.
func (e *endpoint) Resolve(ctx context.Context, q *message.Query, dst []byte) (message.Response, error) {
	if r, ok := e.answer(q, dst); ok {
		return r, nil
	}
	return e.cache.Resolve(ctx, q, dst)
}

// Start implements message.Starter.
func (e *endpoint) Start(t *message.Transaction) bool {
	if r, ok := e.answer(t.Query, t.Dst); ok {
		t.Response, t.Err = r, nil
		return true
	}
	return e.cache.Start(t)
}

// answer answers what may not go to this upstream, or need not; the response is appended to dst.
func (e *endpoint) answer(q *message.Query, dst []byte) (r message.Response, ok bool) {
	if e.private != nil && e.private.holds(q.Key) {
		if q.Trace != nil {
			q.Trace.Add(message.Step{Part: "upstream " + e.name, Event: "refused", RCODE: "REFUSED"},
				"%s is in one of {private_zones}, and {upstream.%s} is not private: REFUSED", message.NameString(q.Name), e.name)
		}
		return refuse(q, dst, edePrivate), true
	}
	if z := special.Find(&q.Question); z != nil && e.ours(z) {
		r = z.Respond(q, dst)
		if q.Trace != nil {
			q.Trace.Add(message.Step{Part: "upstream " + e.name, Event: "refused", RCODE: message.RCODEString(r.RCODE)},
				"%s is set aside by RFC %d, and {upstream.%s.special_names} has weir answer: %s", z, z.RFC, e.name, message.RCODEString(r.RCODE))
		}
		return r, true
	}
	if !e.snoop && !q.RD() {
		if q.Trace != nil {
			q.Trace.Add(message.Step{Part: "upstream " + e.name, Event: "refused", RCODE: "REFUSED"},
				"RD is clear, and {upstream.%s.norecurse} is \"refuse\": REFUSED", e.name)
		}
		return refuse(q, dst, edeNoRecurse), true
	}
	if e.minimal && q.Type == message.TypeANY && q.Transport == message.UDP && q.Class == message.ClassIN {
		if q.Trace != nil {
			q.Trace.Add(message.Step{Part: "upstream " + e.name, Event: "refused", RCODE: "NOERROR"},
				"ANY over UDP, and {upstream.%s.any} is \"minimal\": HINFO (RFC 8482)", e.name)
		}
		return minimal(q, dst), true
	}
	return r, false
}

// hinfo is the record of RFC 8482 section 4.2 for the QNAME. There is no right TTL; a day keeps who asks from asking again.
var hinfo = []byte("\xc0\x0c\x00\x0d\x00\x01\x00\x01\x51\x80\x00\x09\x07RFC8482\x00")

var edeMinimal = message.AppendEDE(nil, message.EDESynthesized, "minimal response to ANY over UDP")

// minimal answers ANY with a record that is not there, and so with little.
func minimal(q *message.Query, dst []byte) (r message.Response) {
	r.SetRCODE(dst, q, message.NOERROR)
	r.Message = append(r.Message, hinfo...)
	r.Message[7], r.Class, r.EDE = 1, message.NOERROR, edeMinimal // ANCOUNT
	return r
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
