package wasm

import (
	"errors"
	"strings"
)

// cause is why a call failed.
type cause uint8

const (
	causeTrap       cause = iota // unreachable, division by zero, access out of bounds, a panic of a Go program ...
	causeFuel                    // too much work
	causeStack                   // too deep
	causeVerdict                 // a verdict that the ABI does not have, or octets outside the memory
	causeMemory                  // a host function got a pointer outside the memory
	causeHostCalls               // too many calls of host functions, or too many octets
	causeHost                    // a host function was used against the ABI
	causePanic                   // a mistake in weir itself
	causeBusy                    // no instance was free
	causeQuarantine              // the filter is not called for a while
	causes
)

var causeNames = [causes]string{"trap", "fuel", "stack", "verdict", "memory", "host_calls", "host_function", "panic", "busy", "quarantine"}

// Errors that calls give. They are values: a fault on each query must be cheap.
var (
	errFuel        = errors.New("used up its fuel")
	errStack       = errors.New("calls itself too deep")
	errTrap        = errors.New("trapped")
	errBusy        = errors.New("no instance is free")
	errQuarantined = errors.New("is in quarantine, since it kept failing")
	errMemory      = errors.New("gave a host function octets outside its memory")
	errHostCalls   = errors.New("called host functions more often than allowed")
	errHostOctets  = errors.New("had host functions copy more octets than allowed")
	errHostUse     = errors.New("used a host function against the ABI")
	errExit        = errors.New("exited")
	errPanic       = errors.New("made weir panic")
)

// Fault is the error of a call that failed.
type Fault struct {
	Function string // the export that was called
	Cause    string // as in the metric weir_filter_faults_total
	err      error
	detail   string // what the engine says: the trap and the functions it happened in
}

// Error says what happened, on one line.
func (f *Fault) Error() string {
	s := f.Function + " " + f.err.Error()
	if f.detail != "" {
		s += ": " + f.detail
	}
	return s
}

// Unwrap gives the kind of fault.
func (f *Fault) Unwrap() error { return f.err }

// fault finds out why a call failed.
func (i *instance) fault(function string, err error) error {
	f := &Fault{Function: function, err: errTrap}
	c := i.cause
	switch {
	case i.fuel != nil && int64(i.fuel.Get()) < 0:
		c, f.err = causeFuel, errFuel
	case i.depth != nil && int64(i.depth.Get()) < 0:
		c, f.err = causeStack, errStack
	case c == causeTrap && strings.HasSuffix(firstLine(err), "stack overflow"):
		c, f.err = causeStack, errStack
	default:
		for _, known := range []error{errMemory, errHostCalls, errHostOctets, errHostUse, errExit, errPanic} {
			if errors.Is(err, known) {
				f.err = known
			}
		}
		if errors.Is(f.err, errTrap) {
			f.detail = where(err)
		}
	}
	f.Cause = causeNames[c]
	i.cause = c
	return f
}

func firstLine(err error) string {
	s, _, _ := strings.Cut(err.Error(), "\n")
	return s
}

// maxFrames is how many functions of a stack trace are of interest.
const maxFrames = 4

// where makes one line of wazero's report: the trap, and the innermost functions.
func where(err error) string {
	lines := strings.Split(err.Error(), "\n")
	s := strings.TrimPrefix(lines[0], "wasm error: ")
	var in []string
	for _, line := range lines[1:] {
		if frame, ok := strings.CutPrefix(line, "\t"); ok && len(in) < maxFrames {
			name, _, _ := strings.Cut(frame, "(")
			in = append(in, strings.TrimPrefix(name, "."))
		}
	}
	if len(in) > 0 {
		s += " in " + strings.Join(in, " < ")
	}
	return printable([]byte(s))
}
