// Package stack has the stacks of goroutines grow in time.
package stack

// Deepen has the stack of a new goroutine grow at once, by as much as the way of a query to a filter needs. It grows by being copied, each frame on it looked
// up and adjusted: when it has to twice or more, with all of that way on it, that takes up to a tenth of all the time for a query over HTTP, and a hundredth
// of that for one that two upstreams are asked, whose sockets have a goroutine for some hundred queries. Called where there are few frames, it costs 0.1 µs.
//
//go:noinline
func Deepen() byte {
	var room [depth]byte
	return room[ground]
}

const depth = 12 << 10

var ground int // a variable, so that there is an array to look into
