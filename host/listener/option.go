package listener

import (
	"time"

	"github.com/weirdns/weir/host/cookie"
	"github.com/weirdns/weir/host/message"
)

// optional is what there is for those queries only that ask for it, by an EDNS option.
type optional struct {
	jar     *cookie.Jar // nil: cookies are ignored
	require bool        // who shows no good cookie gets no answer
	nsid    []byte      // empty: there is none
}

// asked is what a query has asked for. The zero value is for one that asks for nothing.
type asked struct {
	room   int // octets that the answers to the options take, over UDP
	nsid   bool
	empty  bool         // there is no question, which is no mistake with a cookie
	cookie bool         // has one
	state  cookie.State // of that
	answer [cookie.Size]byte
}

// proven reports whether the client has shown that its address is its own.
func (a *asked) proven() bool { return a.cookie && a.state == cookie.Good }

// readOptions looks at the options of a query, for which Parse has said rcode.
func (e *entrance) readOptions(j *job, rcode uint16) {
	if e.optional.jar == nil && len(e.optional.nsid) == 0 || rcode == message.Ignore {
		return
	}
	q, a := &j.exchange.Query, &j.asked
	a.empty = rcode == message.FORMERR && e.optional.jar != nil && q.ParseEmpty(j.query)
	for number, data, rest, ok := message.NextOption(q.Options); ok; number, data, rest, ok = message.NextOption(rest) {
		switch {
		case number == message.OptionNSID && len(e.optional.nsid) > 0:
			a.nsid = true
		case number == message.OptionCookie && e.optional.jar != nil && !a.cookie: // of several the first one counts (RFC 7873 section 5.2)
			a.cookie = true
			a.state = e.optional.jar.Answer(&a.answer, data, q.Client.Addr(), j.start)
			e.counters.cookie(j, a.state)
		}
	}
	if a.cookie && a.state != cookie.Malformed {
		a.room = 4 + cookie.Size
	}
	if a.nsid = a.nsid && (!e.optional.require || a.proven()); a.nsid { // who is not proven gets little more than what was sent
		a.room += 4 + len(e.optional.nsid)
	}
}

// answerOptions returns the response and true, when there is no more to do for a query than what its options ask for.
func (e *entrance) answerOptions(j *job) (out []byte, done bool) {
	a := &j.asked
	switch {
	case a.cookie && a.state == cookie.Malformed: // RFC 7873 section 5.2.2
		e.counters.malformed.Inc()
		return e.refuse(j, message.FORMERR, nil), true
	case a.empty && a.state == cookie.Bad: // RFC 7873 section 5.4
		return e.refuse(j, message.BADCOOKIE, nil), true
	case a.empty:
		return e.refuse(j, message.NOERROR, nil), true
	}
	return nil, false
}

// demandCookie answers a query over UDP whose client has to show a good cookie and does not: with BADCOOKIE and one if it knows cookies (RFC 7873 section
// 5.2.3), else with TC, since over TCP no address is forged.
func (e *entrance) demandCookie(j *job) []byte {
	if j.asked.cookie {
		return e.refuse(j, message.BADCOOKIE, nil)
	}
	return e.sendToTCP(j)
}

// paddingBlock is what responses over encrypted transports are padded to, in octets (RFC 8467 section 4.1).
const paddingBlock = 468

// addOptions answers the options of a query whose response is out. Padding is the last one, since it counts the others.
func (e *entrance) addOptions(j *job, out []byte) []byte {
	q, r, a := &j.exchange.Query, &j.exchange.Response, &j.asked
	if a.cookie && a.state != cookie.Malformed {
		out = r.AddOption(out, message.OptionCookie, a.answer[:])
	}
	if a.nsid {
		out = r.AddOption(out, message.OptionNSID, e.optional.nsid)
	}
	if e.transport == message.UDP {
		return out
	}
	if e.transport <= message.TLS && q.HasOption(message.OptionKeepalive) { // RFC 7828 section 3.3.2
		units := uint16(time.Duration(e.idle.Load()) / (100 * time.Millisecond))
		out = r.AddOption(out, message.OptionKeepalive, []byte{byte(units >> 8), byte(units)})
	}
	if e.transport >= message.TLS && q.HasOption(message.OptionPadding) { // RFC 7830 section 4
		out = r.Pad(out, paddingBlock)
	}
	return out
}
