package upstream

import (
	"github.com/weirdns/weir/host/message"
	"github.com/weirdns/weir/host/share"
)

// squeeze lets t into what is left of the room, where so many wait with it, or makes it final.
func (g *Group) squeeze(t *message.Transaction, waiting int64) (s share.Share, ok bool) {
	s, ok = g.shares.Take(t.Query.Client.Addr(), waiting, g.maxConcurrent)
	switch {
	case ok:
	case waiting > g.maxConcurrent:
		t.Response, t.Err = g.refuse(t.Query, t.Dst)
	default:
		t.Response, t.Err = g.refuseGreedy(t.Query, t.Dst)
	}
	return s, ok
}

// overShareEDE goes with the REFUSED for queries of a client that has its share.
var overShareEDE = message.AppendEDE(nil, message.EDEOther, "too many queries of this client wait for the upstream")

// refuseGreedy answers a query of a client that has its share.
func (g *Group) refuseGreedy(q *message.Query, dst []byte) (message.Response, error) {
	g.overShare.Inc()
	if q.Trace != nil {
		q.Trace.Add(message.Step{Part: "upstream " + g.name, Event: "refused"},
			"more than half of the room that {upstream.%s.max_concurrent} gives is taken, and queries of this client wait in more places of it than are free", g.name)
	}
	return g.turnAway(q, dst, overShareEDE)
}
