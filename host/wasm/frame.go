package wasm

import (
	"encoding/binary"

	"github.com/weirdns/weir/abi"
	"github.com/weirdns/weir/host/chain"
	"github.com/weirdns/weir/host/message"
)

// frame is what the host writes before each call, in the guest's memory: abi/README.md section 2. As an array, its constant offsets need no
// check at run time.
type frame = [abi.FrameTotal]byte

// headerSize is the size of the header of a DNS message.
const headerSize = 12

// writeFrame writes the frame for a call. upstreams maps the host's indexes to the guest's. It does not allocate.
func writeFrame(f *frame, c *chain.Call, upstreams []uint16) {
	q := c.Query
	msg := q.Message
	flags := byte(0)
	if q.Trace != nil {
		flags = abi.FlagExplain
	}
	if c.Forwarded {
		flags |= abi.FlagForwarded
	}
	if q.EDNS {
		flags |= abi.FlagEDNS
	}
	if q.DO {
		flags |= abi.FlagDO
	}
	put := binary.LittleEndian.PutUint16
	if r := c.Response; r == nil {
		f[abi.FramePhase] = abi.PhaseQuery
		put(f[abi.FrameRcode:], 0)
		put(f[abi.FrameClass:], 0)
		put(f[abi.FrameEDE:], abi.None)
		put(f[abi.FrameUpstream:], abi.None)
		put(f[abi.FrameQuestion:], uint16(q.QuestionSize()))
	} else {
		msg = r.Message
		if r.Silent {
			flags |= abi.FlagSilent
		}
		f[abi.FramePhase] = abi.PhaseResponse
		put(f[abi.FrameRcode:], r.RCODE)
		put(f[abi.FrameClass:], r.Class)
		put(f[abi.FrameEDE:], message.EDECode(r.EDE))
		put(f[abi.FrameUpstream:], guestIndex(upstreams, r.Upstream))
		put(f[abi.FrameQuestion:], uint16(q.QuestionSize()))
		if c.Asked {
			flags |= abi.FlagAsked
			put(f[abi.FrameQuestion:], questionSize(msg))
		}
	}
	f[abi.FrameFlags] = flags
	f[abi.FrameTransport] = byte(q.Transport)
	f[abi.FrameAttempt] = c.Attempt
	put(f[abi.FrameListener:], q.Listener)
	put(f[abi.FrameScope:], q.Scope)
	put(f[abi.FrameQtype:], q.Type)
	put(f[abi.FrameQclass:], q.Class)
	binary.LittleEndian.PutUint64(f[abi.FrameCookie:], c.Cookie)
	writeClient(f, q)
	f[abi.FrameLabels] = byte(q.Labels)
	put(f[abi.FrameQnameSize:], uint16(len(q.Key)))
	binary.LittleEndian.PutUint32(f[abi.FrameSize:], uint32(len(msg)))
	put(f[abi.FrameLimit:], c.Limit)
	clear(f[abi.FrameLimit+2 : abi.FrameHeader])
	copy(f[abi.FrameQname:abi.FrameMessage], q.Key)
	copy(f[abi.FrameMessage:], msg)
}

// writeClient writes the address of the client. An IPv4 address in IPv6 (RFC 4291 section 2.5.5.2), as sockets of both families give it, is an IPv4 one.
func writeClient(f *frame, q *message.Query) {
	a := q.Client.Addr()
	address := f[abi.FrameAddress : abi.FrameAddress+16]
	clear(address)
	switch {
	case !a.IsValid():
		f[abi.FrameFamily] = 0
	case a.Is4() || a.Is4In6():
		f[abi.FrameFamily] = 4
		v4 := a.Unmap().As4()
		copy(address, v4[:])
	default:
		f[abi.FrameFamily] = 6
		v6 := a.As16()
		copy(address, v6[:])
	}
	binary.LittleEndian.PutUint16(f[abi.FramePort:], q.Client.Port())
}

// questionSize is the size of the header and the question of a checked message, whose question is uncompressed.
func questionSize(msg []byte) uint16 {
	off := headerSize
	for off < len(msg) && msg[off] != 0 {
		off += int(msg[off]) + 1
	}
	return uint16(min(off+1+4, len(msg)))
}

func guestIndex(upstreams []uint16, host uint16) uint16 {
	if int(host) < len(upstreams) {
		return upstreams[host]
	}
	return abi.None
}

// readFrame reads what the guest may leave in the frame.
func readFrame(f *frame) (cookie uint64, ede uint16) {
	return binary.LittleEndian.Uint64(f[abi.FrameCookie:]), binary.LittleEndian.Uint16(f[abi.FrameEDE:])
}
