package wasm

import (
	"encoding/binary"
	"net/netip"

	"github.com/weirdns/weir/abi"
	"github.com/weirdns/weir/host/chain"
	"github.com/weirdns/weir/host/message"
)

// frame is what the host writes before each call, in the guest's memory: abi/README.md section 2. As an array, its constant offsets need no
// check at run time.
type frame = [abi.FrameTotal]byte

// headerSize is the size of the header of a DNS message.
const headerSize = 12

// writeFrame writes the frame for a call. upstreams maps the host's indexes to the guest's. It does not allocate. The header is written in words,
// of which each is what lies next to each other in the frame.
func writeFrame(f *frame, c *chain.Call, upstreams []uint16) {
	q := c.Query
	msg, phase := q.Message, uint64(abi.PhaseQuery)
	flags := bit(q.Trace != nil, abi.FlagExplain) | bit(c.Forwarded, abi.FlagForwarded) | bit(q.EDNS, abi.FlagEDNS) | bit(q.DO, abi.FlagDO)
	rcode, class, ede, upstream := uint16(0), uint16(0), uint16(abi.None), uint16(abi.None)
	question := uint16(q.QuestionSize())
	if r := c.Response; r != nil {
		msg, phase = r.Message, abi.PhaseResponse
		flags |= bit(r.Silent, abi.FlagSilent)
		rcode, class, ede, upstream = r.RCODE, r.Class, message.EDECode(r.EDE), guestIndex(upstreams, r.Upstream)
		if c.Asked {
			flags |= abi.FlagAsked
			question = questionSize(msg)
		}
	}
	family, first, second := clientAddress(q.Client.Addr())
	binary.LittleEndian.PutUint64(f[abi.FramePhase:], in(abi.FramePhase, phase)|in(abi.FrameFlags, flags)|in(abi.FrameTransport, q.Transport)|in(abi.FrameAttempt, c.Attempt)|
		in(abi.FrameListener, q.Listener)|in(abi.FrameScope, q.Scope))
	binary.LittleEndian.PutUint64(f[abi.FrameQtype:], in(abi.FrameQtype, q.Type)|in(abi.FrameQclass, q.Class)|in(abi.FrameRcode, rcode)|in(abi.FrameClass, class))
	binary.LittleEndian.PutUint64(f[abi.FrameCookie:], c.Cookie)
	binary.LittleEndian.PutUint64(f[abi.FramePort:], in(abi.FramePort, q.Client.Port())|in(abi.FrameFamily, family)|in(abi.FrameLabels, uint8(q.Labels))|
		in(abi.FrameQnameSize, uint16(len(q.Key)))|in(abi.FrameEDE, ede))
	binary.LittleEndian.PutUint64(f[abi.FrameAddress:], first)
	binary.LittleEndian.PutUint64(f[abi.FrameAddress+8:], second)
	binary.LittleEndian.PutUint64(f[abi.FrameSize:], in(abi.FrameSize, uint32(len(msg)))|in(abi.FrameQuestion, question)|in(abi.FrameUpstream, upstream))
	binary.LittleEndian.PutUint64(f[abi.FrameLimit:], in(abi.FrameLimit, c.Limit)) // and the first of the reserved octets, which are zero
	clear(f[abi.FrameLimit+8 : abi.FrameHeader])
	copy(f[abi.FrameQname:abi.FrameMessage], q.Key)
	copy(f[abi.FrameMessage:], msg)
}

// in shifts a field to its place in the word of eight octets that it is in.
func in[T ~uint8 | uint16 | uint32 | uint64](offset uint, v T) uint64 {
	return uint64(v) << (offset % 8 * 8)
}

func bit(is bool, flag uint64) uint64 {
	if is {
		return flag
	}
	return 0
}

// clientAddress gives the family of the client and the two words of its address as the frame has them. An IPv4 address in IPv6 (RFC 4291 section
// 2.5.5.2), as sockets of both families give it, is an IPv4 one. They are words, since octets that are written one by one and read together make
// the processor wait until they have left it.
func clientAddress(a netip.Addr) (family uint8, first, second uint64) {
	switch {
	case a.Is4() || a.Is4In6():
		v4 := a.As4()
		return 4, uint64(binary.LittleEndian.Uint32(v4[:])), 0
	case a.IsValid():
		v6 := a.As16()
		return 6, binary.LittleEndian.Uint64(v6[:8]), binary.LittleEndian.Uint64(v6[8:])
	}
	return 0, 0, 0
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
