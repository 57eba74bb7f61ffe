//go:build !linux

package host

import "time"

var started = time.Now()

// threadTime is the time on the clock, for want of that of the thread.
func threadTime() time.Duration { return time.Since(started) }
