//go:build linux

package soak

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"
)

// lookBack is how long before a failure what happened then may have to do with it: twice the time of a query, since one may wait for what another one began.
const lookBack = 4 * time.Second

// history is what happened when, so that a failure can be told from its circumstances. It is safe for concurrent use.
type history struct {
	mu      sync.Mutex // guards following
	changes []change   // in the order of time
}

// change is what somebody did from then on.
type change struct {
	at        time.Time
	who, what string
}

// note adds a change, unless that is what who did before.
func (h *history) note(at time.Time, who, what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range slices.Backward(h.changes) {
		if c.who == who {
			if c.what == what {
				return
			}
			break
		}
	}
	h.changes = append(h.changes, change{at, who, what})
}

// during returns what everybody did at begin, and what changed from then to end.
func (h *history) during(begin, end time.Time) []change {
	h.mu.Lock()
	defer h.mu.Unlock()
	var found []change
	for _, c := range h.changes {
		switch {
		case c.at.After(end):
			return found
		case !c.at.After(begin):
			found = slices.DeleteFunc(found, func(old change) bool { return old.who == c.who })
		}
		found = append(found, c)
	}
	return found
}

// tell prints the circumstances of a failure: what was wrong with whom when it was asked and lookBack before, and what weir logged. Times are in seconds since
// it was asked.
func (f *failure) tell(out io.Writer, h *history, log []byte) {
	begin := f.at.Add(-lookBack)
	for _, c := range h.during(begin, f.end) {
		when := "before "
		if c.at.After(begin) {
			when = fmt.Sprintf("%+6.3f ", c.at.Sub(f.at).Seconds())
		}
		fmt.Fprintf(out, "    %s %s: %s\n", when, c.who, c.what)
	}
	const most = 20
	lines := logDuring(log, begin, f.end)
	for _, l := range lines[max(0, len(lines)-most):] {
		fmt.Fprintf(out, "    %+6.3f  weir: %s\n", l.at.Sub(f.at).Seconds(), l.what)
	}
}

// logDuring returns the lines of a log in JSON from begin to end.
func logDuring(log []byte, begin, end time.Time) []change {
	var found []change
	for line := range bytes.Lines(log) {
		var head struct {
			Time time.Time `json:"time"`
		}
		if json.Unmarshal(line, &head) != nil || head.Time.Before(begin) || head.Time.After(end) {
			continue // what is no JSON is of a panic, and that is counted otherwise
		}
		found = append(found, change{at: head.Time, what: string(bytes.TrimSpace(line))})
	}
	return found
}
