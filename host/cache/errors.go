package cache

import (
	"errors"

	"github.com/weirdns/weir/host/message"
)

// notice is an error that says with which Extended DNS Error the client is told, as chain has it.
type notice struct {
	code uint16
	text string
}

func (n *notice) Error() string { return n.text }

// EDE returns the INFO-CODE, RFC 8914 section 4.
func (n *notice) EDE() uint16 { return n.code }

// Failures to get an answer, for the one who waits. The upstream may still give it to somebody else.
var (
	errLate  = &notice{message.EDENoReachable, "no upstream answered in time"}
	errGone  = &notice{message.EDEOther, "the query was given up"}
	errPanic = &notice{message.EDEOther, "internal error"} // a mistake in weir
)

// edeOf is the Extended DNS Error to keep with a failure that has no message.
func edeOf(err error) []byte {
	if e, ok := errors.AsType[interface {
		error
		EDE() uint16
	}](err); ok {
		return message.AppendEDE(nil, e.EDE(), e.Error())
	}
	return message.AppendEDE(nil, message.EDENoReachable, errLate.text)
}
