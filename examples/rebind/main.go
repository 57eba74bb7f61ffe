// Command rebind is a filter against DNS rebinding: an answer from outside that has private addresses would let a web page in somebody's
// browser talk to the devices of the network it is in. Such addresses are taken out of responses.
package main

import "github.com/weirdns/weir/sdk"

func init() { sdk.Register(newFilter()) }

func main() {}

func newFilter() sdk.Filter {
	f := new(filter)
	return sdk.Filter{Configure: f.configure, Response: f.response}
}

type filter struct {
	allow   sdk.Suffixes // zones that may have private addresses
	removed sdk.Counter
	builder sdk.Builder
}

func (f *filter) configure(c *sdk.Config) sdk.Interest {
	f.removed = c.Counter("removed")
	for key := range c.Object() {
		if key != "allow" {
			c.Unknown()
			continue
		}
		for i := range c.Array() {
			if zone := c.Zone(); zone != nil {
				f.allow.Set(zone, i)
			}
		}
	}
	return sdk.Responses(sdk.Class(sdk.NOERROR))
}

// response copies a response without its private addresses, if it has any.
func (f *filter) response(r sdk.Response) sdk.Verdict {
	if r.QTYPE() != sdk.TypeA && r.QTYPE() != sdk.TypeAAAA && r.QTYPE() != sdk.TypeANY {
		return sdk.Next
	}
	if _, _, ok := r.Longest(&f.allow); ok {
		return sdk.Next
	}
	m := r.Message()
	n := 0
	for w := m.Records(); w.Next(); {
		if address, ok := w.Address(); ok && isPrivate(address) {
			if e := r.Explain(); e != nil {
				e.Text("private address removed: ").Address(address).End()
			}
			n++
		}
	}
	if n == 0 {
		return sdk.Next
	}
	f.removed.Add(float64(n))
	f.builder.Reset(r.Call)
	f.builder.Copy(r, func(record sdk.Record) bool {
		return record.Type != sdk.TypeA && record.Type != sdk.TypeAAAA || !isPrivate(m[record.Data:record.End])
	})
	r.SetEDE(sdk.Filtered)
	return r.Respond(f.builder.Message())
}

// private are the prefixes that a name from outside has no business with: those of RFC 6890 that are not global and name a place of their
// own, in the address family of their size.
var private = []struct {
	prefix []byte
	bits   int
}{
	{[]byte{0, 0, 0, 0}, 8},                               // this network
	{[]byte{10, 0, 0, 0}, 8},                              // RFC 1918
	{[]byte{100, 64, 0, 0}, 10},                           // RFC 6598
	{[]byte{127, 0, 0, 0}, 8},                             // loopback
	{[]byte{169, 254, 0, 0}, 16},                          // link-local
	{[]byte{172, 16, 0, 0}, 12},                           // RFC 1918
	{[]byte{192, 168, 0, 0}, 16},                          // RFC 1918
	{make([]byte, 16), 127},                               // unspecified, loopback
	{append([]byte{0xFC}, make([]byte, 15)...), 7},        // RFC 4193
	{append([]byte{0xFE, 0x80}, make([]byte, 14)...), 10}, // link-local
}

// isPrivate reports whether an address, of 4 or 16 octets, is in one of the prefixes.
func isPrivate(address []byte) bool {
	address = sdk.Unmap(address) // ::ffff:10.0.0.1 leads to 10.0.0.1
	for i := range private {
		p := &private[i]
		if len(address) == len(p.prefix) && isWithin(address, p.prefix, p.bits) {
			return true
		}
	}
	return false
}

// isWithin compares the first bits of two addresses of the same size.
func isWithin(address, prefix []byte, bits int) bool {
	whole := bits / 8
	if string(address[:whole]) != string(prefix[:whole]) {
		return false
	}
	return bits%8 == 0 || (address[whole]^prefix[whole])>>(8-bits%8) == 0
}
