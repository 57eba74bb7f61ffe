// Package wallclock sets clocks, for tests of what a process does when the administrator or NTP sets that of its machine.
//
// A [time.Time] from time.Now has two readings: of the wall clock, which people and certificates go by and which may be set, and of the monotonic clock,
// which goes on whatever happens to the other. Package time has no way to make one whose readings differ by something else than they do now, and a
// process can't be shown another clock than the system's, so [Set] changes the octets of a value.
package wallclock

import (
	"time"
	"unsafe"
)

// Set returns t as it would read if the wall clock had been put forward by some whole seconds, or back. Its monotonic reading stays. A t without one
// comes back as it was: there is nothing to tell apart.
//
//	| 1 | seconds since 1885, 33 bits | nanoseconds, 30 bits |   the first word of a time.Time with a monotonic reading
func Set(t time.Time, by time.Duration) time.Time {
	if t == t.Round(0) { //nolint:staticcheck // SA6005 is about other things: the question is whether there is a monotonic reading
		return t
	}
	*(*uint64)(unsafe.Pointer(&t)) += uint64(by/time.Second) << 30
	return t
}
