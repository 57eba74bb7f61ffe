package wasm

import (
	"errors"

	"github.com/weirdns/weir/abi"
	"github.com/weirdns/weir/host/chain"
)

// Faults of verdicts. They are values, since a filter that faults on each query must not cost more than one that doesn't.
var (
	errVerdict  = errors.New("the verdict is not in the table of the ABI, or not allowed in this phase")
	errUnused   = errors.New("the verdict has something in a field that it does not use")
	errOutside  = errors.New("the verdict points outside the memory")
	errUpstream = errors.New("the verdict names an upstream that is not in the filter's list")
	errLength   = errors.New("the verdict has a question of an impossible length")
	errForward  = errors.New("the verdict Forward needs the grant \"forward\", which the manifest does not name")
	errAsk      = errors.New("the verdict Ask needs the grant \"ask\", which the manifest does not name")
	errRewrite  = errors.New("the verdict Rewrite needs the grant \"rewrite\", which the manifest does not name")
)

// grants is a set of what a filter may do.
type grants uint8

const (
	grantForward grants = 1 << iota
	grantAsk
	grantRewrite
	grantTables
	grantLog
	grantMetrics
)

// Sizes of a question in wire format: a name of 1 to 255 octets, a type, a class.
const (
	minQuestion = 1 + 4
	maxQuestion = 255 + 4
)

// decode takes the i64 that a guest returned apart: abi/README.md section 3. memory is the guest's; octets are appended to dst, so that nothing
// of the guest's memory is looked at after this. upstreams maps the guest's indexes to the host's. Fields that a verdict does not
// use have to be zero, which leaves them free for later versions.
func decode(v uint64, phase uint8, may grants, upstreams []uint16, memory []byte, dst *[]byte) (chain.Verdict, error) {
	verdict, argument, length, offset := abi.Unpack(v)
	out := chain.Verdict{Action: chain.Action(verdict)}
	unused := argument // what this verdict does not use
	switch verdict {
	case abi.Next, abi.Drop, abi.Kept:
		if verdict == abi.Kept && phase != abi.PhaseResponse {
			return out, errVerdict
		}
		if length != 0 || offset != 0 {
			return out, errUnused
		}
	case abi.Respond:
		if length == 0 {
			out.RCODE = uint16(argument)
			unused = 0
			if offset != 0 {
				return out, errUnused
			}
		} else if !appendFrom(dst, memory, offset, length) {
			return out, errOutside
		}
	case abi.Forward:
		switch {
		case may&grantForward == 0:
			return out, errForward
		case uint64(offset) >= uint64(len(upstreams)):
			return out, errUpstream
		case length != 0 || argument > abi.ForwardOriginal|abi.ForwardKeep|abi.ForwardSettle:
			return out, errUnused
		}
		if phase == abi.PhaseResponse {
			unused = 0
		}
		out.Upstream = int(upstreams[offset])
		out.Options = chain.Option(argument)
	case abi.Rewrite, abi.Ask:
		switch {
		case verdict == abi.Rewrite && phase != abi.PhaseQuery:
			return out, errVerdict
		case verdict == abi.Rewrite && may&grantRewrite == 0:
			return out, errRewrite
		case verdict == abi.Ask && may&grantAsk == 0:
			return out, errAsk
		case length < minQuestion || length > maxQuestion:
			return out, errLength
		case !appendFrom(dst, memory, offset, length):
			return out, errOutside
		}
	default:
		return out, errVerdict
	}
	if unused != 0 {
		return out, errUnused
	}
	return out, nil
}

// appendFrom copies octets out of a guest's memory.
func appendFrom(dst *[]byte, memory []byte, offset uint32, length uint16) bool {
	end := uint64(offset) + uint64(length)
	if end > uint64(len(memory)) {
		return false
	}
	*dst = append(*dst, memory[offset:end]...)
	return true
}
