//go:build linux

package soak

import "time"

// phase is what a second is for. The load is the same in all of them.
type phase uint8

const (
	warming phase = iota // before the first fault, so that caches are full and connections open
	faulty               // something goes wrong
	calm                 // nothing does, so that what weir keeps open can be told from what it has open because of faults
	over                 // the run is
)

// times are how long each phase was. Seconds of the plan may be longer than those of the clock: a reload is waited for.
type times [over]time.Duration

// Seconds of a plan.
const (
	warmFor = 5
	// longest is how long faults are in a row, and least how long even in a short run. Both are multiples of sickEvery, so that each kind has its turn.
	longest, least = 60, 20
	// calmFor is how long it is calm after each stretch of faults; after settles of them weir has nothing open because of a fault: idle connections
	// are closed after 10 s, sockets after 5.
	calmFor, settles = 20, 14
)

// plan is which seconds have faults: stretches of them, with calm after each.
type plan struct{ faulty, stretch int }

// newPlan returns one with faults for a time, a minute in a row, or a third of the time if that is shorter: figures need some stretches to be compared.
func newPlan(faults time.Duration) plan {
	seconds := int((faults + time.Second - 1) / time.Second)
	return plan{faulty: seconds, stretch: min(longest, max(least, seconds/3/sickEvery*sickEvery))}
}

// phase returns what a second is for, from 0 on.
func (p plan) phase(second int) phase {
	if second < warmFor {
		return warming
	}
	second -= warmFor
	cycle := p.stretch + calmFor
	left := p.faulty - second/cycle*p.stretch // faults when this stretch began
	switch in, stretch := second%cycle, min(p.stretch, left); {
	case left <= 0:
		return over
	case in < stretch:
		return faulty
	case in < stretch+calmFor:
		return calm
	}
	return over
}
