// Command alternate is the filter that asks another upstream when a response is not good enough. README.md beside this file is its
// manual page.
package main

import "github.com/weirdns/weir/sdk"

func init() { sdk.Register(newFilter()) }

func main() {}

func newFilter() sdk.Filter {
	f := new(filter)
	return sdk.Filter{Configure: f.configure, Response: f.response}
}

// filter is a configured filter.
type filter struct{ alternates []alternate }

// alternate is an upstream to ask, and what has to be the case for it to be asked.
type alternate struct {
	classes  sdk.Interest  // of the response, as the bits of an interest
	zones    *sdk.Suffixes // of the QNAME, nil for all
	types    []sdk.Type    // of the question, nil for all
	upstream int
	options  sdk.Option
	name     string // of the upstream, for whoever explains
}

// fits reports whether this alternate is for a response of such a class to such a question.
func (a *alternate) fits(r sdk.Response, class sdk.Interest) bool {
	if a.classes&class == 0 {
		return false
	}
	if a.types != nil {
		found := false
		for _, t := range a.types {
			found = found || t == r.QTYPE()
		}
		if !found {
			return false
		}
	}
	if a.zones == nil {
		return true
	}
	_, _, ok := r.Longest(a.zones)
	return ok
}

// rank says how good a response is; lower is better. An answer beats the statement that there is no data, which beats the
// statement that there is no name, which beats every failure to say anything.
func rank(c sdk.Class) uint8 {
	switch c {
	case sdk.Class(sdk.NOERROR):
		return 0
	case sdk.NODATA:
		return 1
	case sdk.Class(sdk.NXDOMAIN):
		return 2
	}
	return 3
}

// The cookie is what the filter knows of a query from one response to the next:
//
//	bits  0-15  index of the first alternate that was not considered yet
//	bits 16-23  rank of the response that the host keeps
//	bits 24-31  its class, for whoever explains
type cookie uint64

func newCookie(next int, kept sdk.Class) cookie {
	return cookie(next) | cookie(rank(kept))<<16 | cookie(kept)<<24
}

func (c cookie) next() int       { return int(c & 0xFFFF) }
func (c cookie) rank() uint8     { return uint8(c >> 16) }
func (c cookie) kept() sdk.Class { return sdk.Class(c >> 24) }

// maxRounds is how many verdicts Forward the contract allows for a query.
const maxRounds = 8

// response asks the first alternate that fits and was not considered yet; when there is none, the best response wins, and of equals
// the earlier.
func (f *filter) response(r sdk.Response) sdk.Verdict {
	state := cookie(r.Cookie())
	first := r.Attempt() == 0
	if first {
		state = newCookie(0, r.Class()) // the host keeps the first response
	}
	better := !first && rank(r.Class()) < state.rank()
	if class := sdk.Responses(r.Class()); r.Attempt() < maxRounds {
		for i := state.next(); i < len(f.alternates); i++ {
			a := &f.alternates[i]
			if !a.fits(r, class) {
				continue
			}
			options, kept := a.options|sdk.Settle, state.kept() // nothing is better than an answer, and no alternate is for one
			if better {
				options, kept = options|sdk.Keep, r.Class()
			}
			r.SetCookie(uint64(newCookie(i+1, kept)))
			if e := r.Explain(); e != nil {
				describe(e.Text("{alternate[").Int(i).Text("]}: "), r).Text(" -> upstream ").Text(a.name).End()
			}
			return r.Forward(a.upstream, options)
		}
	}
	switch e := r.Explain(); {
	case first:
		describe(e, r).Text(": no alternate fits").End()
		return sdk.Next
	case better:
		describe(e, r).Text(" is better than ").Class(state.kept()).End()
		return sdk.Next
	default:
		describe(e, r).Text(" is no better than ").Class(state.kept()).Text(", which is kept").End()
		return sdk.Kept
	}
}

// describe writes what kind of response r is.
func describe(e *sdk.Line, r sdk.Response) *sdk.Line {
	e.Class(r.Class())
	if r.Silent() {
		e.Text(" (no upstream gave a response)")
	}
	return e
}
