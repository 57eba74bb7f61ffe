package upstream

import (
	"time"

	"github.com/weirdns/weir/host/due"
	"github.com/weirdns/weir/host/message"
)

// heed does what an outcome asks for, and reports whether it is the response.
func (x *exchange) heed(t *try, kind outcomeKind, now time.Time) bool {
	if t.over != UDP {
		x.finish(t) // whoever posted has taken it out of its stream
	}
	switch kind {
	case outcomeResponse:
		return x.respond(t, now)

	case outcomeUnreachable:
		x.fail(t, causeUnreachable, now)

	case outcomeHandshake:
		x.fail(t, causeHandshake, now)

	case outcomeStatus:
		x.fail(t, causeStatus, now)

	case outcomeMalformed:
		x.fail(t, causeBroken, now)

	case outcomeBroken:
		x.close(t)
		if t.over == UDP || t.again || !x.follow(t, now, manner{over: t.over, edns: t.edns, again: true, forget: t.forget}) {
			x.fail(t, causeBroken, now)
		}

	case outcomeFlood:
		// Many responses that do not match: somebody guesses (RFC 5452 section 9.3). From now on no guess counts for what this server is said to say. Another
		// one that is being asked may be about to answer; the first message that does not match it ends that as well.
		for i := range x.tries[:x.used] {
			if u := &x.tries[i]; u.over == UDP && u.server == t.server {
				x.close(u)
			}
		}
		x.overTCP = true
		x.askAgain(t, reasonMismatches, now)

	case outcomeCase:
		x.close(t)
		x.askAgain(t, reasonCase, now)

	case outcomeCookie:
		x.close(t)
		if x.query.Trace != nil {
			x.trace(t.step("failure"), "%s over %s: no cookie in the response, and there was one in others", t.server.name, t.over)
		}
		x.askAgain(t, reasonCookie, now)
	}
	return false
}

// askAgain asks the server of t, whose response over UDP won't do, over TCP. If its transport is "udp" there is only the next try, on
// another port. If it is known not to respond over TCP, it is asked only when there is nobody else to ask.
func (x *exchange) askAgain(t *try, reason int, now time.Time) {
	s := t.server
	if s.transport == UDP {
		if reason == reasonCase {
			s.noCase.Store(int64(due.At(now.Add(quirkMemory))))
		}
		x.fail(t, causeBroken, now)
		return
	}
	if s.tcp.down.Load() && x.started < min(x.limit, len(x.servers)) {
		if x.query.Trace != nil {
			x.trace(t.step("failure"), "%s does not respond over TCP, so the next server is asked", s.name)
		}
		x.next = now
		return
	}
	s.metrics.fallbacks[reason].Inc()
	if !x.follow(t, now, manner{over: TCP, edns: t.edns, forget: reason == reasonCookie}) {
		x.fail(t, causeBroken, now)
	}
}

// respond notes a response and reports whether it is the one to return.
func (x *exchange) respond(t *try, now time.Time) bool {
	s, r := t.server, &t.response
	if t.open() { // UDP
		x.finish(t)
	}
	took := unknown
	if !t.dialed {
		took = max(0, now.Sub(t.sent))
		// What a probe for loops takes says nothing about queries that wait, and should not decide how long the next try of one is waited for:
		// it may be answered before that is sent, or after.
		if x.purpose != forLoop {
			s.observe(took, now)
		}
	}
	wantsCookie := r.RCODE == message.BADCOOKIE && t.over == UDP && t.socket.cookies
	if !wantsCookie {
		s.ok(t, r.RCODE, took, now)
	}
	truncated := message.Truncated(r.Message)
	if x.query.Trace != nil {
		step := t.step("response")
		step.RCODE, step.Octets, step.Took = message.RCODEString(r.RCODE), t.size, now.Sub(t.sent)
		text := "%s over %s: %s, %d octets, in %v"
		if truncated {
			text += ", truncated"
		}
		if r.Scope > 0 {
			text += ", for " + t.subnet.Prefix(r.Scope).String()
		}
		x.trace(step, text, s.name, t.over, step.RCODE, t.size, step.Took.Round(time.Microsecond))
	}
	if t.over != UDP && string(r.Message[12:12+len(t.question.Name)]) != string(t.question.Name) {
		// Only what TCP says about the server is remembered, for over UDP it may be forged.
		s.noCase.Store(int64(due.At(now.Add(quirkMemory))))
	}
	if t.forget {
		s.cookies.forget() // it has shown over TCP that it is there, so it is the server that does not want cookies any more
	}
	switch {
	case wantsCookie:
		x.badCookie(t, now)
		return false

	case truncated && t.over == UDP && s.transport != UDP:
		x.truncated = true
		x.askAgain(t, reasonTruncated, now)
		return false

	case x.loop && t.failed && (r.RCODE == message.SERVFAIL || r.RCODE == message.REFUSED):
		return false // what a server in the loop says about it; weir knows better

	case t.subnet.Family != 0 && r.RCODE == message.REFUSED:
		x.held = t
		return !x.untell(t, now)

	case t.baked() && r.RCODE == message.FORMERR && len(r.Message) < t.size:
		// It knows EDNS, for there is an OPT in it, and may not take an option that it does not know, as it should (RFC 6891 section 6.1.2).
		x.held = t
		return !x.follow(t, now, manner{over: UDP, edns: true, bare: true})

	case t.edns && refusesEDNS(r.RCODE) && len(r.Message) == t.size:
		// No OPT in it: a server that knows EDNS has one (RFC 6891 section 7), and then means something else.
		x.held = t
		return !x.follow(t, now, manner{over: t.over})

	case !t.edns && x.held != nil && x.held.server == s && !refusesEDNS(r.RCODE):
		// Two responses that match have shown it. A forger would have to guess both.
		s.noEDNS.Store(int64(due.At(now.Add(quirkMemory))))

	case t.bare && x.held != nil && x.held.server == s && x.held.baked() && r.RCODE != message.FORMERR:
		s.noCookie.Store(int64(due.At(now.Add(quirkMemory)))) // two responses, as above
	}
	return true
}

func refusesEDNS(rcode uint16) bool {
	return rcode == message.FORMERR || rcode == message.NOTIMP || rcode == message.BADVERS
}

// fail notes that t has met an error. The next try is due, if no other is hopeful: at once when there is a server that was not
// asked, else after a moment. A UDP socket stays open.
func (x *exchange) fail(t *try, cause int, now time.Time) { x.failed(t, cause, t.problem, now) }

// failed is fail for a try that is not posted yet: its problem is the reader's.
func (x *exchange) failed(t *try, cause int, problem error, now time.Time) {
	if t.failed {
		return
	}
	t.failed = true
	if x.query.Trace != nil {
		step := t.step("failure")
		step.Took = now.Sub(t.sent)
		x.trace(step, "%s over %s: %s after %v%s", t.server.name, t.over, causeNames[cause], step.Took.Round(time.Microsecond), because(problem))
	}
	t.server.fail(t, cause, problem, 0, now)
	due := now
	if x.started >= len(x.servers) {
		due = now.Add(x.grace(t.server))
	}
	if due.Before(x.next) && !x.hopeful() {
		x.next = due
	}
}

// because returns a problem as the end of a sentence.
func because(problem error) string {
	if problem == nil {
		return ""
	}
	return ": " + problem.Error()
}
