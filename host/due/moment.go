package due

import "time"

// Moment is a time as a number, for atomics: nanoseconds since the process began, by the monotonic clock. A clock that is set while a Moment is kept, by an
// hour or by years, moves nothing that depends on it. It means nothing to another process. Who needs a value for "never" may take 0: nothing happens in
// the nanosecond in which a process begins.
type Moment int64

var began = time.Now()

// At is the Moment of t. A t without a monotonic reading is taken by its wall clock.
func At(t time.Time) Moment { return Moment(t.Sub(began)) }

// Time is the time of m, with a monotonic reading.
func (m Moment) Time() time.Time { return began.Add(time.Duration(m)) }
