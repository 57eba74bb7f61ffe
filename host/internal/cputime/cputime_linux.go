// Package cputime tells how much a thread has computed, which other processes on the machine hardly change.
package cputime

import (
	"time"

	"golang.org/x/sys/unix"
)

// Thread is the CPU time that this thread has used; 0 where the system does not tell. The goroutine had better be locked to it.
func Thread() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
