package upstream

import (
	"cmp"
	"slices"
	"time"
)

// policyNames are the values of Config.Policy.
var policyNames = []string{"random", "round_robin", "sequential", "fastest"}

// exploreOneIn is how often "fastest" asks another server first, so that one that became faster is found out. The price is small:
// a try that is overdue leads to the next server anyway.
const exploreOneIn = 32

// order appends to dst the servers for one query, the first to be asked first: those that are up, as the policy wants, or if there are none
// all of them at random (all_down = "spray") or nothing (all_down = "fail"). Behind the only one that is up come those that are down, for the last try
// (all_down = "spray").
func (g *Group) order(dst []*server, servers []*server, r *random, now time.Time) []*server {
	start := len(dst)
	for _, s := range servers {
		if !s.down.Load() {
			dst = append(dst, s)
		}
	}
	up := dst[start:]
	switch {
	case len(up) == 0 && g.failDown:
		return dst
	case len(up) == 0:
		dst = append(dst, servers...)
		shuffle(dst[start:], r)
		return dst
	}
	switch g.policy {
	case "random":
		shuffle(up, r)
	case "round_robin":
		rotate(up, int(g.turn.Add(1)%uint64(len(up))))
	case "fastest":
		slices.SortFunc(up, func(a, b *server) int { return cmp.Compare(a.expectedRTT(now), b.expectedRTT(now)) })
		if len(up) > 1 && r.intN(exploreOneIn) == 0 {
			i := 1 + r.intN(len(up)-1)
			up[0], up[i] = up[i], up[0]
		}
	}
	if len(up) == 1 && len(servers) > 1 && !g.failDown {
		// The only one that is up may have become bad since, and another one good: when it has said nothing twice, the last try is for one of those.
		dst = append(dst, up[0])
		down := len(dst)
		for _, s := range servers {
			if s != up[0] {
				dst = append(dst, s)
			}
		}
		shuffle(dst[down:], r)
	}
	return dst
}

func shuffle(s []*server, r *random) {
	for i := len(s) - 1; i > 0; i-- {
		j := r.intN(i + 1)
		s[i], s[j] = s[j], s[i]
	}
}

// rotate moves the first n elements of s behind the others.
func rotate(s []*server, n int) {
	slices.Reverse(s[:n])
	slices.Reverse(s[n:])
	slices.Reverse(s)
}
