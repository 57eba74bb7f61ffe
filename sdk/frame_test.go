package sdk

import (
	"testing"
	"unsafe"

	"github.com/weirdns/weir/abi"
)

// TestFrameLayout: the Go layout of the frame is that of the contract. It is checked where tests run, on 64-bit machines; for
// WebAssembly, where the layout is the same, the cases that run as modules check it.
func TestFrameLayout(t *testing.T) {
	var f frame
	for _, tt := range []struct {
		name      string
		got, want uintptr
	}{
		{"phase", unsafe.Offsetof(f.phase), abi.FramePhase},
		{"flags", unsafe.Offsetof(f.flags), abi.FrameFlags},
		{"transport", unsafe.Offsetof(f.transport), abi.FrameTransport},
		{"attempt", unsafe.Offsetof(f.attempt), abi.FrameAttempt},
		{"listener", unsafe.Offsetof(f.listener), abi.FrameListener},
		{"scope", unsafe.Offsetof(f.scope), abi.FrameScope},
		{"qtype", unsafe.Offsetof(f.qtype), abi.FrameQtype},
		{"qclass", unsafe.Offsetof(f.qclass), abi.FrameQclass},
		{"rcode", unsafe.Offsetof(f.rcode), abi.FrameRcode},
		{"class", unsafe.Offsetof(f.class), abi.FrameClass},
		{"cookie", unsafe.Offsetof(f.cookie), abi.FrameCookie},
		{"port", unsafe.Offsetof(f.port), abi.FramePort},
		{"family", unsafe.Offsetof(f.family), abi.FrameFamily},
		{"labels", unsafe.Offsetof(f.labels), abi.FrameLabels},
		{"qname_size", unsafe.Offsetof(f.qnameSize), abi.FrameQnameSize},
		{"ede", unsafe.Offsetof(f.ede), abi.FrameEDE},
		{"address", unsafe.Offsetof(f.address), abi.FrameAddress},
		{"size", unsafe.Offsetof(f.size), abi.FrameSize},
		{"question", unsafe.Offsetof(f.question), abi.FrameQuestion},
		{"upstream", unsafe.Offsetof(f.upstream), abi.FrameUpstream},
		{"limit", unsafe.Offsetof(f.limit), abi.FrameLimit},
		{"table", unsafe.Offsetof(f.table), abi.FrameTable},
		{"matched", unsafe.Offsetof(f.matched), abi.FrameMatched},
		{"value", unsafe.Offsetof(f.value), abi.FrameValue},
		{"value_size", unsafe.Offsetof(f.valueSize), abi.FrameValueSize},
		{"qname", unsafe.Offsetof(f.octets), abi.FrameQname},
		{"message", unsafe.Offsetof(f.octets) + messageAt, abi.FrameMessage},
		{"size of all", unsafe.Sizeof(f), abi.FrameTotal},
		{"offset in an instance", (unsafe.Offsetof(Instance{}.call) + unsafe.Offsetof(Call{}.frame)) % 8, 0},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: got %d, want %d", tt.name, tt.got, tt.want)
		}
	}
}

// TestAccessors changes one field of the frame at a time, as the host does, and looks at what a filter sees of it.
func TestAccessors(t *testing.T) {
	i := NewInstance(Filter{})
	c, r := &i.call, Response{&i.call}
	for _, tt := range []struct {
		name          string
		offset, value int
		get           func() any
		before, after any
	}{
		{"transport", abi.FrameTransport, 3, func() any { return c.Transport() }, UDP, HTTPS},
		{"attempt", abi.FrameAttempt, 7, func() any { return c.Attempt() }, 0, 7},
		{"listener", abi.FrameListener + 1, 1, func() any { return c.Listener() }, 0, 256},
		{"scope", abi.FrameScope, 2, func() any { return c.Scope() }, 0, 2},
		{"qtype", abi.FrameQtype, 28, func() any { return c.QTYPE() }, Type(0), TypeAAAA},
		{"qclass", abi.FrameQclass, 1, func() any { return c.QCLASS() }, uint16(0), uint16(1)},
		{"rcode", abi.FrameRcode, 3, func() any { return r.RCODE() }, NOERROR, NXDOMAIN},
		{"class", abi.FrameClass, 24, func() any { return r.Class() }, Class(0), NODATA},
		{"cookie", abi.FrameCookie + 7, 1, func() any { return c.Cookie() }, uint64(0), uint64(1) << 56},
		{"labels", abi.FrameLabels, 2, func() any { return c.Labels() }, 0, 2},
		{"qname", abi.FrameQnameSize, 1, func() any { return string(c.QNAME()) }, "", "\x00"},
		{"ede", abi.FrameEDE, 18, func() any { return r.EDE() }, EDE(0), Prohibited},
		{"size", abi.FrameSize, 3, func() any { return len(c.Message()) }, 0, 3},
		{"upstream", abi.FrameUpstream, 5, func() any { return r.Upstream() }, 0, 5},
		{"limit", abi.FrameLimit + 1, 2, func() any { return c.Limit() }, 0, 512},
		{"rd", abi.FrameMessage + 2, 1, func() any { return c.RD() }, false, true},
		{"explained", abi.FrameFlags, 1, func() any { return c.Explained() }, false, true},
		{"forwarded", abi.FrameFlags, 2, func() any { return c.Forwarded() }, false, true},
		{"silent", abi.FrameFlags, 4, func() any { return r.Silent() }, false, true},
		{"asked", abi.FrameFlags, 8, func() any { return r.Asked() }, false, true},
		{"edns", abi.FrameFlags, 16, func() any { return c.EDNS() }, false, true},
		{"do", abi.FrameFlags, 32, func() any { return c.DO() }, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			clear(i.Frame())
			if got := tt.get(); got != tt.before {
				t.Errorf("before: got %v, want %v", got, tt.before)
			}
			i.Frame()[tt.offset] = byte(tt.value)
			if got := tt.get(); got != tt.after {
				t.Errorf("after: got %v, want %v", got, tt.after)
			}
		})
	}
	clear(i.Frame())
	if address, _ := c.Client(); address != nil {
		t.Errorf("without a client: got address %v", address)
	}
	for family, size := range map[byte]int{4: 4, 6: 16} {
		i.Frame()[abi.FrameFamily], i.Frame()[abi.FramePort] = family, 53
		if address, port := c.Client(); len(address) != size || port != 53 {
			t.Errorf("family %d: got address %v port %d", family, address, port)
		}
	}
}
