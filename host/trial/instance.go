package trial

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/weirdns/weir/abi"
	"github.com/weirdns/weir/host/chain"
	"github.com/weirdns/weir/host/message"
	"github.com/weirdns/weir/host/wasm"
	"github.com/weirdns/weir/sdk/sdktest"
)

// instance is a filter as sdktest sees it: octets of a frame in, a verdict out.
type instance struct {
	trial    *Trial
	host     *sdktest.Host
	filter   *wasm.Filter
	again    func() (*wasm.Filter, error) // opens the filter anew
	frame    [abi.FrameTotal]byte
	query    message.Query
	response message.Response
	call     chain.Call
}

var _ sdktest.Instance = (*instance)(nil)

// Configure gives what the host was told when it opened the filter.
func (i *instance) Configure(int) (uint64, []byte) { return i.filter.Result(), nil }

// Frame is where sdktest writes what the call is about.
func (i *instance) Frame() []byte { return i.frame[:] }

// Call has the host call the filter. A fault panics, as sdktest has it.
func (i *instance) Call(phase uint8) (uint64, []byte) {
	le := binary.LittleEndian
	f := i.frame[:]
	trace := &message.Trace{}
	i.read(phase, trace)
	before := i.filter.FuelUsed()
	i.trial.log.host = i.host
	v, err := i.filter.Call(&i.call)
	i.trial.log.host = nil
	i.trial.fuel = max(i.trial.fuel, i.filter.FuelUsed()-before)
	if err != nil {
		// The host would make another instance, in its own time, and quarantine a filter that faults again and again.
		if again, e := i.again(); e == nil {
			i.filter = again
		}
		panic(sdktest.Fault{Err: err})
	}
	i.host.Explained = nil
	for _, s := range trace.Steps {
		i.host.Explained = append(i.host.Explained, s.Text)
	}
	le.PutUint64(f[abi.FrameCookie:], i.call.Cookie)
	le.PutUint16(f[abi.FrameEDE:], i.call.EDE)
	if v.Action == chain.Respond && len(i.call.Octets) > 0 {
		if err := new(message.Response).ParseOwn(append([]byte(nil), i.call.Octets...), &i.query.Question); err != nil {
			panic(sdktest.Fault{Err: fmt.Errorf("responds with what the host refuses: %w", err)})
		}
	}
	var argument uint8
	var offset uint32
	switch v.Action {
	case chain.Respond:
		argument = uint8(v.RCODE)
	case chain.Forward:
		argument, offset = uint8(v.Options), uint32(v.Upstream)
	}
	return abi.Pack(uint8(v.Action), argument, uint16(len(i.call.Octets)), offset), i.call.Octets
}

// read makes the call from the frame.
func (i *instance) read(phase uint8, trace *message.Trace) {
	le := binary.LittleEndian
	f := i.frame[:]
	flags := f[abi.FrameFlags]
	octets := f[abi.FrameMessage:][:le.Uint32(f[abi.FrameSize:])]
	asked := octets
	if phase == abi.PhaseResponse {
		asked = i.asked(octets)
	}
	// Listeners answer some QTYPEs themselves, zone transfers for instance, so Parse refuses them. A case may have them.
	q := &i.query
	asked = append([]byte(nil), asked...)
	end := 12 + int(le.Uint16(f[abi.FrameQnameSize:]))
	binary.BigEndian.PutUint16(asked[end:], message.TypeA)
	if rcode, ok := q.Parse(asked); !ok {
		panic(sdktest.Fault{Err: fmt.Errorf("no listener lets this query in: it answers %s", message.RCODEString(rcode))})
	}
	q.Type = le.Uint16(f[abi.FrameQtype:])
	binary.BigEndian.PutUint16(asked[end:], q.Type)
	q.Client = client(f)
	q.Transport = message.Transport(f[abi.FrameTransport])
	q.Listener, q.Scope = le.Uint16(f[abi.FrameListener:]), le.Uint16(f[abi.FrameScope:])
	q.Trace = nil
	if flags&abi.FlagExplain != 0 {
		q.Trace = trace
	}
	i.call = chain.Call{
		Query: q, Attempt: f[abi.FrameAttempt], Forwarded: flags&abi.FlagForwarded != 0, Asked: flags&abi.FlagAsked != 0,
		Limit: le.Uint16(f[abi.FrameLimit:]), Cookie: le.Uint64(f[abi.FrameCookie:]), Octets: i.call.Octets[:0], EDE: abi.None,
	}
	if phase == abi.PhaseResponse {
		i.response = message.Response{
			Message: octets, RCODE: le.Uint16(f[abi.FrameRcode:]), Class: le.Uint16(f[abi.FrameClass:]),
			Upstream: le.Uint16(f[abi.FrameUpstream:]), Silent: flags&abi.FlagSilent != 0,
		}
		i.call.Response = &i.response
	}
}

// asked makes the query that a response belongs to, of what the frame has of it.
func (i *instance) asked(response []byte) []byte {
	le, be := binary.LittleEndian, binary.BigEndian
	f := i.frame[:]
	q := append([]byte(nil), 0, 0, response[2]&1, 0, 0, 1, 0, 0, 0, 0, 0, 0)
	q = append(q, f[abi.FrameQname:][:le.Uint16(f[abi.FrameQnameSize:])]...)
	q = be.AppendUint16(q, le.Uint16(f[abi.FrameQtype:]))
	q = be.AppendUint16(q, le.Uint16(f[abi.FrameQclass:]))
	if flags := f[abi.FrameFlags]; flags&abi.FlagEDNS != 0 {
		q[11] = 1
		q = append(q, 0, 0, message.TypeOPT, message.OwnSize>>8, message.OwnSize&0xFF, 0, 0, 0, 0, 0, 0)
		if flags&abi.FlagDO != 0 {
			q[len(q)-4] = 0x80
		}
	}
	return q
}

// client is the client's address; its zero value is nobody.
func client(f []byte) netip.AddrPort {
	le := binary.LittleEndian
	size := map[byte]int{4: 4, 6: 16}[f[abi.FrameFamily]]
	a, ok := netip.AddrFromSlice(f[abi.FrameAddress:][:size])
	if !ok {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(a, le.Uint16(f[abi.FramePort:]))
}
