package message

import "fmt"

// maxTrace bounds the lines of one trace.
const maxTrace = 256

// Trace collects what happens to one query, for whoever asked to have it explained. It is for one query at a time and not safe for
// concurrent use. Code on the query path tests for nil before it formats anything:
//
//	if q.Trace != nil {
//		q.Trace.Add("cache", "hit, %d s old", age)
//	}
type Trace struct {
	Steps []Step
}

// Step is one line of a trace: which part of weir speaks, and what it says.
type Step struct {
	Part, Text string
}

// Add appends a line, until there are 256.
func (t *Trace) Add(part, format string, args ...any) {
	if len(t.Steps) < maxTrace {
		t.Steps = append(t.Steps, Step{part, fmt.Sprintf(format, args...)})
	}
}
