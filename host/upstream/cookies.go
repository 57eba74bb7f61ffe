package upstream

import (
	"encoding/binary"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/weirdns/weir/host/cookie"
	"github.com/weirdns/weir/host/message"
)

// The cookies of a group that shows some (RFC 7873 section 5.3). Each UDP socket has the client cookie for its local address and its server, and what the server
// gives back is kept with the server. Over TCP, and encrypted, there is nothing that a cookie would add.
//
//	query     | OPTION-CODE 10, 2 | OPTION-LENGTH, 2 | client cookie, 8 | server cookie, 8 to 32, if one is known |
//	response  | the same, with a server cookie |

const (
	// maxCookies is how many server cookies are kept for each server: it gives one for each address from which it is asked.
	maxCookies    = 8
	maxServerSize = 32 // RFC 7873 section 4.2
)

// serverCookie is what a server has given for a client cookie. It does not change.
type serverCookie struct {
	client [cookie.ClientSize]byte
	octets [maxServerSize]byte
	size   int
}

// cookieJar has the server cookies of one server, by client cookie. Two that have the same place drive each other out, which costs no more than to learn them
// again.
type cookieJar [maxCookies]atomic.Pointer[serverCookie]

func (j *cookieJar) place(client [cookie.ClientSize]byte) *atomic.Pointer[serverCookie] {
	return &j[client[0]%maxCookies]
}

// find returns the server cookie for a client cookie, nil if there is none.
func (j *cookieJar) find(client [cookie.ClientSize]byte) *serverCookie {
	if c := j.place(client).Load(); c != nil && c.client == client {
		return c
	}
	return nil
}

// learn keeps a server cookie. It allocates only when it is another one than that before.
func (j *cookieJar) learn(client [cookie.ClientSize]byte, server []byte) {
	if c := j.find(client); c != nil && string(c.octets[:c.size]) == string(server) {
		return
	}
	c := &serverCookie{client: client}
	c.size = copy(c.octets[:], server)
	j.place(client).Store(c)
}

// forget drops all server cookies.
func (j *cookieJar) forget() {
	for i := range j {
		j[i].Store(nil)
	}
}

// bake gives a new socket its client cookie, if the group shows cookies.
func (k *socket) bake(now time.Time) {
	secret := k.server.group.secret
	if secret == nil {
		return
	}
	var local netip.AddrPort
	if addr, ok := k.conn.LocalAddr().(*net.UDPAddr); ok {
		local = addr.AddrPort()
	}
	k.cookies, k.client = true, secret.Client(local, k.server.addr, now)
}

// showCookie appends the cookies to the query of t, after what build has made of it, in the place of those for another socket.
func (t *try) showCookie(k *socket) {
	if !k.cookies || !t.edns || t.bare {
		return
	}
	t.out = binary.BigEndian.AppendUint16(t.out[:t.plain], message.OptionCookie)
	known := k.server.cookies.find(k.client)
	size := cookie.ClientSize
	if known != nil {
		size += known.size
	}
	t.out = binary.BigEndian.AppendUint16(t.out, uint16(size))
	t.out = append(t.out, k.client[:]...)
	if known != nil {
		t.out = append(t.out, known.octets[:known.size]...)
	}
	t.shown = known != nil
	binary.BigEndian.PutUint16(t.out[t.options-2:], uint16(len(t.out)-t.options))
	binary.BigEndian.PutUint16(t.out, uint16(len(t.out)-2))
}

// baked reports whether the query shows a cookie.
func (t *try) baked() bool { return len(t.out) > t.plain }

// checkCookie looks at the cookie in a UDP response that is right otherwise. One that is malformed, or has not our client cookie, is no response
// (RFC 7873 section 5.3). One without a cookie, from a server that had one for us, may be forged.
func (t *try) checkCookie() outcomeKind {
	k := t.socket
	if !t.baked() {
		return outcomeResponse
	}
	option, ok := findCookie(t.in[len(t.response.Message):t.size])
	switch {
	case !ok && t.shown:
		return outcomeCookie
	case !ok:
		return outcomeResponse
	case !cookie.WellFormed(option) || string(option[:cookie.ClientSize]) != string(k.client[:]):
		return outcomeNothing
	case len(option) > cookie.ClientSize:
		k.server.cookies.learn(k.client, option[cookie.ClientSize:])
	}
	return outcomeResponse
}

// headOPT is the size of an OPT record before its options: the root, TYPE, CLASS, TTL and RDLENGTH.
const headOPT = 1 + 2 + 2 + 4 + 2

// findCookie returns the data of the first cookie option of an OPT record, which is what tail begins with if it has one. Those after the first are
// ignored (RFC 7873 section 5.2).
func findCookie(tail []byte) (option []byte, ok bool) {
	if len(tail) < headOPT || tail[0] != 0 || binary.BigEndian.Uint16(tail[1:]) != message.TypeOPT {
		return nil, false
	}
	size := int(binary.BigEndian.Uint16(tail[headOPT-2:]))
	tail = tail[headOPT:]
	tail = tail[:min(size, len(tail))]
	for len(tail) >= 4 {
		code, end := binary.BigEndian.Uint16(tail), 4+int(binary.BigEndian.Uint16(tail[2:]))
		if end > len(tail) {
			return nil, false
		}
		if code == message.OptionCookie {
			return tail[4:end], true
		}
		tail = tail[end:]
	}
	return nil, false
}

// badCookie is for a response of a server that wants another cookie, and has given it: it is asked once more with that, and then over TCP (RFC 7873 section
// 5.3).
func (x *exchange) badCookie(t *try, now time.Time) {
	if !t.again && t.server.cookies.find(t.socket.client) != nil && x.follow(t, now, manner{over: UDP, edns: true, again: true}) {
		return
	}
	x.askAgain(t, reasonCookie, now)
}
