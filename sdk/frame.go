package sdk

import "github.com/weirdns/weir/abi"

// frame is the frame of abi/README.md section 2. The host writes it, little-endian, as WebAssembly is; its Go layout is that of
// the contract, which a test checks field by field.
type frame struct {
	phase, flags, transport, attempt uint8
	listener, scope                  uint16
	qtype, qclass                    uint16
	rcode, class                     uint16
	cookie                           uint64
	port                             uint16
	family, labels                   uint8
	qnameSize                        uint16
	ede                              uint16
	address                          [16]byte
	size                             uint32
	question, upstream, limit        uint16
	table, matched                   uint16 // what the host found, see Found
	_                                uint16
	value, valueSize                 uint32
	_                                [56]byte
	octets                           [frameTail]byte // the QNAME, and at messageAt the message
}

// Where things are in frame.octets. They are one array so that a lookup may read a few octets behind the QNAME.
const (
	messageAt = abi.FrameMessage - abi.FrameQname
	frameTail = abi.FrameTotal - abi.FrameQname
)

// message returns the room for the message.
func (f *frame) message() []byte {
	return f.octets[messageAt : messageAt+maxMessage : messageAt+maxMessage]
}

// Call is what a filter sees in both phases: the question, who asks it, and the message. Slices that it returns lie in the
// frame; they are valid until the function of the filter returns, and what is written to them changes nothing outside, but
// what the other methods return.
type Call struct {
	frame
	own    uint16 // the index of the filter's own names among the tables, None without look-up
	result []byte // what the last verdict points to, for a native host
}

// Query is a query on its way down.
type Query struct{ *Call }

// Response is a response on its way up. Its question is the one that the filter saw in the query phase.
type Response struct{ *Call }

// Transport is how a query came.
type Transport uint8

// The transports.
const (
	UDP Transport = iota
	TCP
	TLS
	HTTPS
	QUIC
)

// QNAME returns the QNAME, canonical.
func (c *Call) QNAME() []byte { return c.octets[: c.qnameSize&0xff : messageAt] }

// Labels returns the number of labels of the QNAME, without the root label.
func (c *Call) Labels() int { return int(c.labels) }

// QTYPE returns the QTYPE.
func (c *Call) QTYPE() Type { return Type(c.qtype) }

// QCLASS returns the QCLASS; 1 is IN.
func (c *Call) QCLASS() uint16 { return c.qclass }

// Message returns the message, as it is in the chain at this filter.
func (c *Call) Message() Message { return Message(c.message()[:min(int(c.size), maxMessage)]) }

// Transport returns how the query came.
func (c *Call) Transport() Transport { return Transport(c.transport) }

// Client returns the client's address, 4 or 16 octets, and port. It is nil for a query of weir's own.
func (c *Call) Client() (address []byte, port uint16) {
	switch c.family {
	case 4:
		return c.address[:4], c.port
	case 6:
		return c.address[:], c.port
	}
	return nil, 0
}

// Listener returns the index of the listener, in the order of the configuration.
func (c *Call) Listener() int { return int(c.listener) }

// Scope returns the index of the scope that selected the chain, -1 if there was none.
func (c *Call) Scope() int { return index(c.scope) }

// Limit returns how many octets the largest response that the client takes may have. The host truncates what is larger.
func (c *Call) Limit() int { return int(c.limit) }

// Attempt returns how often the filter was called before in this phase of this query.
func (c *Call) Attempt() int { return int(c.attempt) }

// EDNS reports whether the query has an OPT record.
func (c *Call) EDNS() bool { return c.flags&abi.FlagEDNS != 0 }

// DO reports whether the query asks for DNSSEC records (RFC 3225).
func (c *Call) DO() bool { return c.flags&abi.FlagDO != 0 }

// RD reports whether the query asks for recursion.
func (c *Call) RD() bool { return c.octets[messageAt+2]&1 != 0 }

// Found returns what the host found for the QNAME before this call, if Configure returned [Lookup]: the index of the table, its
// value, which is a [Node] in a zone, and the octets of the key that was found, which is the QNAME or an ancestor of it. The value lies
// in the frame, behind the message: a [Builder] writes over it, and [Buffer.Keep] keeps it. It is nil if there was no room for it;
// [Table.Longest] has it then. ok is false if the host did not look.
func (q Query) Found() (table int, value []byte, matched int, ok bool) {
	if at := q.value - abi.FrameQname; q.value != 0 && q.table != q.own {
		value = q.octets[at : at+q.valueSize]
	}
	return int(q.table), value, int(q.matched), q.matched != 0
}

// Absent reports whether what the host found before this call ([Lookup]) shows that a zone doesn't have the QNAME, and nothing in it stands for
// such names: what was found is the [Node] of an ancestor that is no zone cut, has no DNAME and has no child "*" (RFC 4592 section 3.3.1). It is
// false if that isn't known: there was no room for the value, or the filter's own names were found. It means nothing where the host found the
// QNAME in a table that isn't a zone.
func (q Query) Absent() bool {
	c := q.Call
	return c.matched < c.qnameSize && c.value != 0 && c.table != c.own &&
		c.octets[c.value-abi.FrameQname]&(NodeCut|NodeDNAME|NodeWildcard) == 0
}

// FoundName returns the number of the longest of the filter's own names ([Config.AddName]) that the QNAME is in, and its size in octets: it is
// the end of the QNAME. That is what the host found before this call, for which Configure returned [Lookup]. ok is false if it found the QNAME
// in a table instead: a filter without tables is not called for names that none of its own holds.
func (q Query) FoundName() (number, size int, ok bool) {
	return int(q.value), int(q.matched), q.table == q.own // with look-up, there is no call without a match
}

// Forwarded reports whether a filter above chose an upstream.
func (c *Call) Forwarded() bool { return c.flags&abi.FlagForwarded != 0 }

// Cookie returns what SetCookie was given in the last call for this query, 0 at first. It is the only memory of a query that a
// filter has: the next call for it may come to another instance.
func (c *Call) Cookie() uint64 { return c.cookie }

// SetCookie sets what Cookie returns in the next call for this query.
func (c *Call) SetCookie(cookie uint64) { c.cookie = cookie }

// RCODE returns the RCODE of the response, with its extension by EDNS.
func (r Response) RCODE() RCODE { return RCODE(r.rcode) }

// Class returns what kind of response it is.
func (r Response) Class() Class { return Class(r.class) }

// EDE returns the INFO-CODE that came with the response (RFC 8914), [NoEDE] if none did.
func (r Response) EDE() EDE { return EDE(r.ede) }

// Upstream returns the index of the upstream that was asked, -1 if it is not one that the filter may use.
func (r Response) Upstream() int { return index(r.upstream) }

// Silent reports whether no upstream gave a response, so that the message is a SERVFAIL which the host made.
func (r Response) Silent() bool { return r.flags&abi.FlagSilent != 0 }

// Asked reports whether the message answers what this filter asked with the verdict Ask. Its question is then that one.
func (r Response) Asked() bool { return r.flags&abi.FlagAsked != 0 }

func index(n uint16) int {
	if n == abi.None {
		return -1
	}
	return int(n)
}
