package upstream

import (
	"errors"

	"github.com/weirdns/weir/host/message"
)

// Error says why there is no response. All errors of Resolve are of this type, except that of an ended context.
type Error struct {
	text string
	ede  uint16
}

// Error returns the reason, for a log.
func (e *Error) Error() string { return e.text }

// EDE returns the INFO-CODE of the Extended DNS Error (RFC 8914 section 4) for a client that gets no answer because of it.
func (e *Error) EDE() uint16 { return e.ede }

// What Resolve returns when there is no response.
var (
	// ErrTimeout: no server responded in time.
	ErrTimeout = &Error{"upstream: no response in time", message.EDENoReachable}
	// ErrUnreachable: every try met an error of the network, such as a refused connection.
	ErrUnreachable = &Error{"upstream: no server can be reached", message.EDENetworkError}
	// ErrMismatch: there were responses, but none to the query that was sent. Somebody may be forging.
	ErrMismatch = &Error{"upstream: only responses that do not match the query", message.EDENoReachable}
	// ErrTruncated: the answer does not fit into UDP, and TCP failed.
	ErrTruncated = &Error{"upstream: answer truncated over UDP, none over TCP", message.EDENetworkError}
	// ErrLoop: what the servers are asked comes back to weir, since one of them, or one behind it, forwards to weir.
	ErrLoop = &Error{"upstream: forwarding loop, the query comes back to weir", message.EDEOther}
	// ErrNoServers: the group has no server.
	ErrNoServers = &Error{"upstream: no servers", message.EDENoReachable}
	// ErrDown: all servers are down, and the group is set to fail then.
	ErrDown = &Error{"upstream: all servers are down", message.EDENoReachable}
	// ErrBusy: max_concurrent queries wait already, and over_limit is "stale".
	ErrBusy = &Error{"upstream: too many queries wait", message.EDEOther}
	// ErrPanic: a mistake in weir, that the query has met.
	ErrPanic = &Error{"upstream: internal error", message.EDEOther}
	// ErrClosed: Run has ended.
	ErrClosed = &Error{"upstream: closed", message.EDENotReady}
)

var errTooManyStreams = errors.New("upstream: all connections to the server are full")
