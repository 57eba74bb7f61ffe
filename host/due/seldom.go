package due

import (
	"sync/atomic"
	"time"
)

// Seldom says whether something is to be done that would be too much each time, such as a line of a log. The zero value is good for use; it is safe for
// concurrent use.
type Seldom struct{ last atomic.Int64 }

// Due reports whether the last time that it said so is so long ago, or there was none. Of several who ask at a time it says so to one.
func (s *Seldom) Due(now time.Time, every time.Duration) bool {
	last, at := s.last.Load(), int64(At(now))
	return (last == 0 || at-last >= int64(every)) && s.last.CompareAndSwap(last, at)
}
