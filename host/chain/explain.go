package chain

import "github.com/weirdns/weir/host/message"

// trace explains a verdict. q has a trace.
func (c *Chain) trace(q *message.Query, f *member, phase int, v Verdict, err error) {
	s := message.Step{Part: "filter " + f.Name(), Event: "verdict", Phase: phaseNames[phase]}
	if err != nil {
		s.Event = "fault"
		q.Trace.Add(s, "%v", err)
		return
	}
	s.Verdict = v.Action.String()
	if v.Action == Forward && uint(v.Upstream) < uint(len(c.upstreams)) {
		s.Upstream = c.upstreams[v.Upstream].Name()
		q.Trace.Add(s, "forward to upstream %s", s.Upstream)
		return
	}
	q.Trace.Add(s, "%s", phrases[min(int(v.Action), len(phrases)-1)])
}

// phrases say verdicts to a person, by Action.
var phrases = [...]string{"next", "respond", "forward", "rewrite the question", "drop: the client gets no response", "ask a question of its own", "the response kept before",
	"a verdict that does not exist"}

// traceSkip explains why a filter is not called. q has a trace.
func (c *Chain) traceSkip(q *message.Query, f *member) {
	q.Trace.Add(message.Step{Part: "filter " + f.Name(), Event: "skip", Phase: "query"},
		"not called: an upstream is chosen already, and {chain.%s.precedence} has that count", c.name)
}

// traceSettled explains why a filter is not called for an answer. q has a trace.
func (c *Chain) traceSettled(q *message.Query, f *member) {
	q.Trace.Add(message.Step{Part: "filter " + f.Name(), Event: "skip", Phase: phaseNames[phaseResponse]}, "not called: an answer, for which it settles")
}

// traceBottom explains which upstream is asked at the end of the way down, where no filter said so. The query of l has a trace.
func (c *Chain) traceBottom(l *level) {
	q := l.query
	s := message.Step{Part: "chain " + c.name, Event: "default"}
	switch {
	case l.target < 0:
		s.Event, s.RCODE = "answer", message.RCODEString(message.REFUSED)
		q.Trace.Add(s, "no filter answered, and {chain.%s} has no upstream: REFUSED", c.name)
	case !l.forwarded:
		s.Upstream = c.upstreams[l.target].Name()
		q.Trace.Add(s, "no filter chose an upstream: {chain.%s.upstream} says %s", c.name, s.Upstream)
	}
}
