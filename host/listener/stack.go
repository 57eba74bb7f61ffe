package listener

// deepen has the stack of a new goroutine grow at once, by as much as a query over HTTP or QUIC needs. It grows by being copied, each frame on it looked
// up and adjusted: when it has to twice or more, with the whole way to a filter on it, that takes up to a tenth of all the time for a query. Called where
// there are few frames, it costs 0.1 µs.
//
//go:noinline
func deepen() byte {
	var room [4 << 10]byte
	return room[ground]
}

var ground int // a variable, so that there is an array to look into
