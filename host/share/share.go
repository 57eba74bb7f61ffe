// Package share keeps one client from taking all of the room that there is for queries that wait, so that others are still let in.
//
// Up to half of the room nobody is counted, and whoever comes is let in. From there on a query is let in only while its client has no more counted ones waiting than
// there are free places: a client alone gets three quarters of the room in all, and however many greedy ones there are, each leaves as many places free as
// it has taken.
//
// It is not a limit of rates, see package rate, and knows nothing about queries that don't wait.
package share

import (
	"hash/maphash"
	"math"
	"net/netip"
	"sync/atomic"
)

// Table counts the queries that wait by their clients: an IPv4 address, or an IPv6 /64, of which any host has all addresses (RFC 7934). It has a fixed size and no
// names in it: a hash leads to a number in each row, and the smallest one counts (a count-min sketch). Who shares all numbers with a greedy client, one in 2,000,000, is
// taken for it, until there is another table. It is made by New, and safe for concurrent use.
type Table struct {
	seed maphash.Seed
	rows [rows][places]atomic.Int32
}

// Three rows make 1.5 KiB. With two of them one client in 16,000 would have the fate of a greedy one.
const (
	rows   = 3
	places = 128 // in a row
)

// Share is what a query has to give back when it waits no more. The zero value is nothing.
type Share struct {
	counted bool
	at      [rows]uint8 // its number in each row
}

// New makes a table for a room. Its seed is random, so that nobody outside can make clients share numbers.
func New() *Table { return &Table{seed: maphash.MakeSeed()} }

// Take lets a query of client into a room of so many places, of which waiting are taken, that of the query included; and counts it where that matters. ok
// is false if there is no place for it; what comes of Take otherwise goes back by Give. Queries without a client's address, such as those of weir's own, are let
// in as long as there is a place: others bound these.
func (t *Table) Take(client netip.Addr, waiting, room int64) (s Share, ok bool) {
	switch {
	case waiting <= room/2:
		return s, true
	case waiting > room:
		return s, false
	case !client.IsValid():
		return s, true
	}
	octets := client.As16()
	n := len(octets)
	if client.Is6() && !client.Is4In6() {
		n = 8
	}
	h := maphash.Bytes(t.seed, octets[:n])
	free := room - waiting
	least := int32(math.MaxInt32)
	s.counted = true
	for row := range t.rows {
		s.at[row] = uint8(h % places)
		least = min(least, t.rows[row][s.at[row]].Add(1))
		h /= places
	}
	if int64(least) > free+1 {
		t.Give(s)
		return Share{}, false
	}
	return s, true
}

// Give takes back what Take has counted.
func (t *Table) Give(s Share) {
	if !s.counted {
		return
	}
	for row, place := range s.at {
		t.rows[row][place].Add(-1)
	}
}

// Len is how many queries are counted.
func (t *Table) Len() (n int) {
	for i := range t.rows[0] {
		n += int(t.rows[0][i].Load())
	}
	return n
}
