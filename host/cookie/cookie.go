// Package cookie makes and checks the server cookies of DNS (RFC 7873), in the form that all servers share who know the same secret (RFC 9018):
//
//	| client cookie, 8 | version 1 | reserved, 3 | timestamp, 4 | hash, 8 |
//
// The hash is SipHash-2-4 of all before it and the client's address. So a server keeps nothing about its clients: who shows a cookie that fits has
// received one at that address, within the last hour. It is no authentication, and no help against who can read the packets.
//
// What becomes of a query is the listener's to decide. For the other side, [Secret] makes the client cookies that weir shows to upstreams; the server cookies
// that these give are in host/upstream: they are remembered, not made.
package cookie

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// Sizes of what is in the option, in octets.
const (
	ClientSize = 8  // RFC 7873 section 4.1
	serverSize = 16 // RFC 9018 section 4
	Size       = ClientSize + serverSize
	maxSize    = ClientSize + 32 // RFC 7873 section 4.2
	minSize    = ClientSize + 8  // likewise, with a server cookie
)

// Times of RFC 9018 section 4.3.
const (
	// renewAge is the age from which on a cookie that is still good is replaced.
	renewAge = 30 * time.Minute
	maxAge   = time.Hour
	// maxAhead is how far the clocks of servers with the same secret may be apart.
	maxAhead = 5 * time.Minute
)

// State is what a cookie option says about the client.
type State uint8

// The states.
const (
	Malformed  State = iota // no cookie has this size (RFC 7873 section 5.2.2)
	ClientOnly              // it has no server cookie
	Bad                     // it has one that is not ours, too old, or for another address
	Good                    // it has one that was given to this address
	States                  // how many there are
)

// String returns the state as metrics have it.
func (s State) String() string {
	return [States]string{"malformed", "client_only", "bad", "good"}[s]
}

// WellFormed reports whether a cookie option may have these data: a client cookie, and perhaps a server cookie of 8 to 32 octets, which may be another
// server's (RFC 7873 section 4).
func WellFormed(option []byte) bool {
	n := len(option)
	return n == ClientSize || n >= minSize && n <= maxSize
}

// Answer checks the data of a cookie option in a query from a client, and writes those for the response into answer: the client's cookie with a server cookie,
// which is the one that it has while that is young. After Malformed answer is as it was. It allocates nothing.
func (j *Jar) Answer(answer *[Size]byte, option []byte, client netip.Addr, now time.Time) State {
	if !WellFormed(option) {
		return Malformed
	}
	keys := j.keys.Load()
	in := input{time: uint32(now.Unix())}
	in.take(option, client)
	state := ClientOnly
	if len(option) > ClientSize {
		state = Bad
		if age, ok := in.check(option, keys); ok {
			state = Good
			if age < renewAge {
				copy(answer[:], option)
				return state
			}
		}
	}
	copy(answer[:], option[:ClientSize])
	server := answer[ClientSize:]
	server[0], server[1], server[2], server[3] = version, 0, 0, 0
	binary.BigEndian.PutUint32(server[4:], in.time)
	binary.LittleEndian.PutUint64(server[8:], in.hash(server[:8], &keys.list[0]))
	return state
}

const version = 1

// input is what is hashed, in order: client cookie, the first 8 octets of the server cookie, the address in 4 or 16 octets.
type input struct {
	octets [ClientSize + 8 + 16]byte
	size   int
	time   uint32 // now, in seconds
}

// take puts in what does not depend on the server cookie.
func (in *input) take(option []byte, client netip.Addr) {
	copy(in.octets[:], option[:ClientSize])
	if client = client.Unmap(); client.Is4() {
		a := client.As4()
		in.size = ClientSize + 8 + copy(in.octets[ClientSize+8:], a[:])
	} else {
		a := client.As16()
		in.size = ClientSize + 8 + copy(in.octets[ClientSize+8:], a[:])
	}
}

// hash is that of a server cookie that begins with head, by one key.
func (in *input) hash(head []byte, k *key) uint64 {
	copy(in.octets[ClientSize:], head[:8])
	return k.hash(in.octets[:in.size])
}

// check reports whether the server cookie in option is one of ours, and how old it is. The reserved octets count as they came: servers to come may use
// them (RFC 9018 section 4.2).
func (in *input) check(option []byte, keys *keys) (age time.Duration, ok bool) {
	if len(option) != Size || option[ClientSize] != version {
		return 0, false
	}
	server := option[ClientSize:]
	// Serial numbers, RFC 1982: right also when the 32 bits are over.
	age = time.Duration(int32(in.time-binary.BigEndian.Uint32(server[4:]))) * time.Second
	if age > maxAge || age < -maxAhead {
		return 0, false
	}
	got := binary.LittleEndian.Uint64(server[8:])
	for i := range keys.n {
		if in.hash(server, &keys.list[i]) == got {
			return age, true
		}
	}
	return 0, false
}
