package upstream

import (
	"hash/maphash"
	"net/netip"
	"sync/atomic"

	"github.com/weirdns/weir/host/message"
)

// clientShares keeps one client from taking all of the room that max_concurrent gives, so that others are still let in while an upstream is slow or dead. Up to half of the
// room nobody is counted, and whoever comes is let in. From there on a query is let in only while its client has no more counted ones waiting than there are free
// places: a client alone gets three quarters of the room in all, and however many greedy ones there are, each leaves as many places free as it has taken.
//
// Clients are counted in a table of fixed size that has no names in it: two hashes lead to two numbers, and the smaller one counts (a count-min sketch). Who shares
// both numbers with a greedy client, one in 16,000, is taken for it until weir starts again. The zero value is not ready; see newClientShares.
type clientShares struct {
	seed maphash.Seed
	rows [2][sharePlaces]atomic.Int32
}

const sharePlaces = 128 // in a row; two make 1 KiB

// share is what a query that is waited for has to give back. The zero value is nothing.
type share struct {
	counted       bool
	first, second uint8
}

func newClientShares() *clientShares { return &clientShares{seed: maphash.MakeSeed()} }

// take counts a query of client if it has fewer than so many. Queries without a client's address, such as those of weir's own, are not counted: others bound these.
func (s *clientShares) take(client netip.Addr, most int64) (share, bool) {
	if !client.IsValid() {
		return share{}, true
	}
	octets := client.As16()
	n := len(octets)
	if client.Is6() && !client.Is4In6() {
		n = 8 // any host has all addresses of a /64 (RFC 7934)
	}
	h := maphash.Bytes(s.seed, octets[:n])
	sh := share{true, uint8(h % sharePlaces), uint8(h >> 32 % sharePlaces)}
	if int64(min(s.rows[0][sh.first].Add(1), s.rows[1][sh.second].Add(1))) > most {
		s.give(sh)
		return share{}, false
	}
	return sh, true
}

// give takes back what take has counted.
func (s *clientShares) give(sh share) {
	if sh.counted {
		s.rows[0][sh.first].Add(-1)
		s.rows[1][sh.second].Add(-1)
	}
}

// squeeze lets t into what is left of the room, where so many wait with it, or makes it final.
func (g *Group) squeeze(t *message.Transaction, waiting int64) (sh share, ok bool) {
	if waiting > g.maxConcurrent {
		t.Response, t.Err = g.refuse(t.Query, t.Dst)
		return sh, false
	}
	if sh, ok = g.shares.take(t.Query.Client.Addr(), g.maxConcurrent-waiting+1); !ok {
		t.Response, t.Err = g.refuseGreedy(t.Query, t.Dst)
	}
	return sh, ok
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
