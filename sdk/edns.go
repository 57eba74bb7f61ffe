package sdk

// OptionCode is the code of an EDNS option (RFC 6891 section 6.1.2).
type OptionCode uint16

// Options that filters have to do with.
const (
	OptionNSID         OptionCode = 3  // RFC 5001
	OptionClientSubnet OptionCode = 8  // RFC 7871; see [Query.ClientSubnet]
	OptionCookie       OptionCode = 10 // RFC 7873
	OptionPadding      OptionCode = 12 // RFC 7830
	OptionEDE          OptionCode = 15 // RFC 8914
)

// Options walks over the EDNS options of a query, in order:
//
//	for o := q.Options(); o.Next(); {
//		use(o.Code, o.Data)
//	}
//
// It allocates nothing.
type Options struct {
	Code OptionCode
	Data []byte // lies in the frame

	rest []byte
}

// Options returns a walk that is in front of the first EDNS option of the query; there is none without EDNS. Options are between the client
// and weir: none is sent to an upstream, and the message of a response has none.
func (q Query) Options() Options {
	if !q.EDNS() {
		return Options{}
	}
	m := q.Message()
	for r := m.Records(); r.Next(); {
		if r.Type == TypeOPT {
			return Options{rest: m[r.Data:r.End]}
		}
	}
	return Options{}
}

// Next goes to the next option, and reports whether there is one.
func (o *Options) Next() bool {
	if len(o.rest) < 4 {
		return false
	}
	size := int(o.rest[2])<<8 | int(o.rest[3])
	if 4+size > len(o.rest) {
		o.rest = nil
		return false
	}
	o.Code, o.Data = OptionCode(o.rest[0])<<8|OptionCode(o.rest[1]), o.rest[4:4+size]
	o.rest = o.rest[4+size:]
	return true
}

// ClientSubnet returns the network that the query says its client is in (RFC 7871 section 6): the address, of 4 or 16 octets with those behind
// the prefix zero, and the bits of the prefix. ok is false if the query does not say, or says it wrongly. Whoever sent the query
// may have made it up; it is a hint, and no proof of anything. room is where the address is put; what is returned lies there.
func (q Query) ClientSubnet(room *[16]byte) (address []byte, bits int, ok bool) {
	for o := q.Options(); o.Next(); {
		if o.Code != OptionClientSubnet {
			continue
		}
		if len(o.Data) < 4 || o.Data[0] != 0 {
			return nil, 0, false
		}
		size := 4
		switch o.Data[1] { // the family, of the IANA registry Address Family Numbers
		case 1:
		case 2:
			size = 16
		default:
			return nil, 0, false
		}
		bits, octets := int(o.Data[2]), o.Data[4:]
		if bits > 8*size || len(octets) != (bits+7)/8 { // as few octets as the prefix takes, RFC 7871 section 6
			return nil, 0, false
		}
		clear(room[:])
		copy(room[:], octets)
		if bits%8 != 0 && octets[len(octets)-1]<<(bits%8) != 0 {
			return nil, 0, false
		}
		return room[:size], bits, true
	}
	return nil, 0, false
}
