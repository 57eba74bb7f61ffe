package chain

import (
	"github.com/weirdns/weir/abi"
	"github.com/weirdns/weir/host/message"
)

// Action is what a filter says to do. The numbers are those of the filter ABI, abi/README.md section 3.
type Action uint8

// The actions.
const (
	Next Action = iota
	Respond
	Forward
	Rewrite
	Drop
	Ask
	Kept
)

var actions = [...]string{"next", "respond", "forward", "rewrite", "drop", "ask", "kept"}

// String is its name.
func (a Action) String() string {
	if int(a) < len(actions) {
		return actions[a]
	}
	return "unknown verdict"
}

// Interest says which calls a filter wants.
type Interest struct {
	Query   bool   // queries on their way down
	Classes uint32 // bit n: responses of class n (message.Response.Class) on their way up
	Final   bool   // every query gets Respond or Drop, so that nothing below is ever reached
}

// Call is one call of a filter: what it sees, and where its words go. The chain owns it and uses it again.
type Call struct {
	Query     *message.Query    // the question at this place of the chain
	Response  *message.Response // the response phase: what it sees; nil in the query phase
	Attempt   uint8             // how often the filter was called before in this phase of this query
	Forwarded bool              // an upstream was chosen above
	Asked     bool              // Response answers what the filter asked
	Limit     uint16            // octets of the largest response the client takes

	Cookie uint64 // in and out: the filter's own

	// Out. Octets is appended to by the filter: the message of Respond, or the question of Rewrite and Ask in wire format.
	// It never aliases the memory of a guest.
	Octets []byte
	EDE    uint16 // INFO-CODE that goes with Respond, or message.None

	// Hint stays as it is from call to call, of all filters and queries that this Call serves. Filters keep in it where they last
	// found a free instance, so that a goroutine tends to get the same one again.
	Hint uint32
}

// Option modifies Forward in the response phase. The numbers are those of the filter ABI.
type Option uint8

// The options.
const (
	Original Option = abi.ForwardOriginal // ask the client's own question
	Keep     Option = abi.ForwardKeep     // keep the present response
	Settle   Option = abi.ForwardSettle   // an answer is the response, without another call
)

// Verdict is what a filter returned. It has four fields, since the compiler keeps a struct of more than that in memory, where copying it
// right after it was written takes longer than all else that is done with it.
type Verdict struct {
	Action   Action
	Options  Option // Forward in the response phase
	RCODE    uint16 // Respond without octets
	Upstream int    // Forward: index of an upstream of the host
}

// Filter is a program in a chain. *wasm.Filter is the one that matters. Its methods are safe for concurrent use, do not block and keep
// nothing of the call. When the filter faults, it returns an error and says in OnError what becomes of the query.
type Filter interface {
	// Name is the name of the filter in the configuration.
	Name() string
	// Role is "authority", "route", "retry" or "" (abi/README.md section 8).
	Role() string
	// Interest does not change during the life of the filter.
	Interest() Interest
	// Call gives a verdict for the query, or for the response when c.Response is set.
	Call(c *Call) (Verdict, error)
	// Skip reports whether a fault counts as Next; otherwise the query gets SERVFAIL.
	Skip() bool
}
