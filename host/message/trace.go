package message

import (
	"fmt"
	"time"
)

// maxTrace bounds the steps of one trace.
const maxTrace = 256

// Trace collects what happens to one query, for whoever asked to have it explained. The zero value is ready. It is for one query at a time and not
// safe for concurrent use. Code on the query path tests for nil before it formats anything:
//
//	if q.Trace != nil {
//		q.Trace.Add(message.Step{Part: "cache", Event: "hit"}, "%d s old", age)
//	}
type Trace struct {
	Steps []Step
}

// Step is one thing that happened: which part of weir speaks, and what it says, for people in Text and for programs in the fields behind it, which are
// zero where they have nothing to say.
//
// Text may hold places such as {chain.main.upstream}: keys of the configuration that stand for the lines they are on. In the lines of a filter they
// are relative to its configuration. Names in Text are as [NameString] gives them, so that no name can look like a place.
type Step struct {
	Time time.Time // set by Add, unless it is set
	Part string    // "listener", or "chain main": the kind of the part and its name in the configuration
	// Event says what happened. Of a listener: "scope". Of a chain: "default", "answer". Of a filter: "explain", "verdict", "fault", "skip". Of a
	// cache: "hit", "stale", "miss", "stored", "passed". Of an upstream: "query", "response", "failure", "refused".
	Event string
	Text  string

	Chain    string        // scope: that was selected
	Phase    string        // filter: "query" or "response"
	Verdict  string        // verdict: "next", "respond", "forward", "rewrite", "drop", "ask" or "kept"
	Upstream string        // verdict, default: the upstream that is to be asked
	Server   string        // of an upstream: address and port
	Over     string        // of an upstream: "udp", "tcp", "tls", "https", "quic"
	RCODE    string        // response
	Octets   int           // response
	Took     time.Duration // response, failure: since the query to this server
}

// Add appends s with a text, until there are 256 steps.
func (t *Trace) Add(s Step, format string, args ...any) {
	s.Text = fmt.Sprintf(format, args...)
	if s.Time.IsZero() {
		s.Time = time.Now()
	}
	if len(t.Steps) < maxTrace {
		t.Steps = append(t.Steps, s)
	}
}

// String returns the part and its text, for logs and tests.
func (s Step) String() string { return s.Part + ": " + s.Text }
