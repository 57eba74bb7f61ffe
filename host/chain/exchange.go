package chain

import (
	"context"
	"sync/atomic"

	"github.com/weirdns/weir/host/message"
)

// Upstream is where a chain ends: a group of servers with a cache in front of it.
type Upstream interface {
	message.Starter
	// Cached answers without waiting, or reports that it can't. It appends to dst like Resolve.
	Cached(q *message.Query, dst []byte) (message.Response, bool)
	// Name is the name of the upstream in the configuration.
	Name() string
}

// Shards is how many sets of counters there are of what is counted for each query, so that those who count at a time do not wait for each other.
const Shards = 16

// Exchange is one query and its answer, with the buffers for both. A listener keeps a bounded number of them and uses each again and again;
// between Begin and the end nobody else touches it.
//
//  1. The listener reads octets into a buffer of its own and calls x.Query.Parse.
//  2. Begin goes down and up the chain as far as it can without waiting.
//  3. If that was not the end, Complete does the rest, on a goroutine that may wait. Or Start goes on as far as it gets, and
//     Wake is called when it is to be called again.
//  4. x.Response is the answer, unless x.Dropped. The listener calls x.Response.Finish and writes.
type Exchange struct {
	Query    message.Query    // the client's
	Response message.Response // valid when done and not Dropped; its octets are in a buffer of the exchange
	Dropped  bool             // a filter said that the client gets no response
	Wake     func()           // for Start; set once, before the first of the exchange's queries
	Batch    *message.Batch   // for Begin and Start: that of the goroutine which calls it, nil for none; when Wake is called, that of the one which does
	Shard    uint8            // where this exchange counts; those that are at work at a time had better have different ones, see Shards

	// Lease is for the handler that hands x to a chain: where it counts that x is under way. Nobody else touches it.
	Lease *atomic.Int64

	walk walk
}

// ChainName is the name of the chain that x is in, or was in last; "" before it was in any.
func (x *Exchange) ChainName() string {
	if x.walk.chain == nil {
		return ""
	}
	return x.walk.chain.name
}

// UpstreamName is the name of the upstream whose answer x.Response is; "" for none. x is done.
func (x *Exchange) UpstreamName() string {
	c := x.walk.chain
	if c == nil || int(x.Response.Upstream) >= len(c.upstreams) {
		return ""
	}
	return c.upstreams[x.Response.Upstream].Name()
}

// Handler is what a listener hands its exchanges to.
type Handler interface {
	// Begin takes x, whose Query has been parsed, as far as it goes without waiting, and reports whether it is done.
	Begin(x *Exchange) (done bool)
	// Complete goes on where Begin stopped. It returns when x is done, which is at the query's deadline at the latest.
	Complete(ctx context.Context, x *Exchange)
}

// Starter is a Handler that can do without a goroutine for each query that waits.
type Starter interface {
	Handler
	// Start goes on where Begin or Start stopped, and reports whether x is done. If it is not, x.Wake will be called, once, when there is
	// something to go on with, and then Start is to be called again. Wake may be called, on another goroutine, before Start
	// returns: without having been told that it is done, the caller does not touch x any more. Who calls Wake serves other
	// queries too, so Wake must not block. x is done at its deadline at the latest.
	Start(x *Exchange) (done bool)
}
