// Package chain walks a query down a list of filters to an upstream, and the response back up.
//
//	           ┌──────────┐  query   ┌──────────┐  query   ┌───────────┐         ┌──────────┐
//	client ──► │ filter 0 │ ───────► │ filter 1 │ ───────► │ filter 2  │ ──────► │ upstream │
//	       ◄── │          │ ◄─────── │          │ ◄─────── │           │ ◄────── │          │
//	           └──────────┘ response └──────────┘ response └───────────┘         └──────────┘
//
// A filter may answer on the way down (then only those above see the response), choose the upstream, change the question for what is below,
// ask a question of its own through what is below, and on the way up replace the response or ask another upstream.
//
// The package decides nothing itself, and knows nothing of WebAssembly, sockets or caches.
package chain

import (
	"errors"
	"slices"
	"time"

	"github.com/weirdns/weir/host/message"
)

// Roles of filters that the chain knows, abi/README.md section 8.
const (
	RoleAccess    = "access"
	RoleAnswer    = "answer"
	RoleAuthority = "authority"
	RoleRoute     = "route"
	RoleRetry     = "retry"
)

// Faults of filters that the chain finds.
var (
	errVerdict  = errors.New("chain: the verdict does not exist or is not allowed in this phase")
	errUpstream = errors.New("chain: the verdict names an upstream that does not exist")
	errQuestion = errors.New("chain: the verdict has a malformed question")
	errAsked    = errors.New("chain: the message answers what the filter asked, so it can be neither passed on nor kept")
	errKept     = errors.New("chain: the verdict is Kept, but no response was kept")
	errRounds   = errors.New("chain: too many verdicts Ask and Forward for one query")
	errDepth    = errors.New("chain: questions that filters ask nest too deep")
)

var edeNoUpstream = message.AppendEDE(nil, message.EDENotAuthoritative, "no upstream for this name")

// Chain is an ordered list of filters before a default upstream. It is immutable and safe for concurrent use.
type Chain struct {
	name      string
	filters   []member
	upstreams []Upstream
	fallback  int  // the default upstream, -1 none
	retries   bool // some filter looks at SERVFAIL, so that an upstream may not spend all the time of a query
	now       func() time.Time
	queries   *tallies // nil: nothing is counted
}

var _ Handler = (*Chain)(nil)

// member is a filter in its place.
type member struct {
	Filter
	interest          Interest
	skipWhenForwarded bool
	metrics           *memberMetrics // nil: nothing is counted
}

// New makes a chain. upstreams are all upstreams of the host, by the indexes that verdicts of the filters name; fallback is the index of the default one,
// or -1. routesFirst is for precedence = "rules": filters that choose an upstream are called before those that answer from their tables,
// and once an upstream is chosen, those are not called. now is the clock; nil is that of the system, and faster than giving that.
func New(name string, filters []Filter, upstreams []Upstream, fallback int, routesFirst bool, now func() time.Time) *Chain {
	c := &Chain{name: name, upstreams: upstreams, fallback: fallback, now: now}
	if routesFirst {
		filters = routesBeforeAuthorities(filters)
	}
	for _, f := range filters {
		m := member{Filter: f, interest: f.Interest(), skipWhenForwarded: routesFirst && f.Role() == RoleAuthority}
		c.filters = append(c.filters, m)
		c.retries = c.retries || m.interest.Classes>>message.SERVFAIL&1 != 0
	}
	return c
}

// routesBeforeAuthorities moves the filters that choose an upstream to before the first one that answers. The others keep their order.
func routesBeforeAuthorities(filters []Filter) []Filter {
	var ordered, routes []Filter
	first := len(filters)
	for i, f := range filters {
		if f.Role() == RoleAuthority {
			first = i
			break
		}
	}
	for i, f := range filters {
		if i > first && f.Role() == RoleRoute {
			routes = append(routes, f)
		} else {
			ordered = append(ordered, f)
		}
	}
	return slices.Concat(ordered[:first], routes, ordered[first:])
}

// Name is the name of the chain in the configuration.
func (c *Chain) Name() string { return c.name }

// failure gives the Extended DNS Error for an upstream that gave no response: what the error says of itself, as those of package upstream do.
func failure(err error) (code uint16, text string) {
	if f, ok := errors.AsType[interface {
		error
		EDE() uint16
	}](err); ok {
		return f.EDE(), f.Error()
	}
	return message.EDENoReachable, "no upstream gave a response"
}
