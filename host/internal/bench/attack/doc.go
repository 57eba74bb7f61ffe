// Package attack is what clients do to a server who want others to be kept out, and what new clients notice of it meanwhile. Each runs as a process of
// the bench, which starts it beside a weir of its own:
//
//	attackers, from many addresses of 127.0.0.0/8 ──► weir ◄── new clients, one after the other on each transport
//
// An attacker does only what anybody could do who has that many addresses. Only who forges responses of an upstream needs a privilege: a raw socket.
package attack
