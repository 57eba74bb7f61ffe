package message

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"time"
)

// MaxSize is the largest DNS message: TCP has two octets for its length (RFC 1035 section 4.2.2).
const MaxSize = 65535

const headerSize = 12

// Flag bits of the second 16-bit word of the header, RFC 1035 section 4.1.1 and RFC 4035 section 3.
const (
	FlagQR = 1 << 15
	FlagAA = 1 << 10
	FlagTC = 1 << 9
	FlagRD = 1 << 8
	FlagRA = 1 << 7
	FlagZ  = 1 << 6
	FlagAD = 1 << 5
	FlagCD = 1 << 4
)

// Types that the proxy itself has to know.
const (
	TypeA     = 1
	TypeNS    = 2
	TypeCNAME = 5
	TypeSOA   = 6
	TypeSIG   = 24
	TypeAAAA  = 28
	TypeOPT   = 41
	TypeRRSIG = 46
	TypeNSEC  = 47
	TypeNSEC3 = 50
	TypeTSIG  = 250
	TypeIXFR  = 251
	TypeAXFR  = 252
	TypeANY   = 255
)

// ClassIN is the class of the Internet.
const ClassIN = 1

// Transport is how a query came to weir. The numbers are those of the filter ABI.
type Transport uint8

// The transports.
const (
	UDP Transport = iota
	TCP
	TLS
	HTTPS
	QUIC
)

// String returns the name that the configuration uses.
func (t Transport) String() string {
	if int(t) < len(transports) {
		return transports[t]
	}
	return "unknown"
}

var transports = [...]string{"udp", "tcp", "tls", "https", "quic"}

// ParseTransport returns the transport with the name that the configuration uses.
func ParseTransport(name string) (t Transport, ok bool) {
	i := slices.Index(transports[:], name)
	return Transport(max(i, 0)), i >= 0
}

// None stands for "there is none" in 16-bit indexes: a scope, an upstream, an EDE.
const None = 0xFFFF

// Question is the question of a message, with its name uncompressed.
type Question struct {
	Name  []byte // wire format, in the case in which it was asked
	Key   []byte // wire format, canonical (lower case)
	Type  uint16
	Class uint16
}

// Wire size of the question.
func (q *Question) size() int { return len(q.Name) + 4 }

// AppendWire appends the question in wire format.
func (q *Question) AppendWire(dst []byte) []byte {
	dst = append(dst, q.Name...)
	dst = binary.BigEndian.AppendUint16(dst, q.Type)
	return binary.BigEndian.AppendUint16(dst, q.Class)
}

// Query is a query on its way through weir. The zero value is ready for Parse. It keeps the octets given to Parse and must not
// outlive them; it does not change once it is in a chain, except that a chain makes a new one for a rewritten question.
type Query struct {
	Message  []byte // the whole query, as received
	ID       uint16
	Flags    uint16 // the second word of the header
	Question        // its Key is kept in this struct
	Labels   int    // labels of the QNAME without the root
	EDNS     bool   // has an OPT record
	DO       bool   // DNSSEC OK, RFC 3225
	UDPSize  uint16 // requestor's payload size of the OPT, 0 without EDNS
	Options  []byte // the options of the OPT, in wire format

	// Set by the listener.
	Client    netip.AddrPort
	Transport Transport
	Listener  uint16
	Path      string    // of the URL, over HTTPS; empty when it came otherwise
	Names     []string  // of the client, in its certificate; usually nil
	Scope     uint16    // None when no scope selected the chain
	Arrived   time.Time // when it was read; zero for a query of weir's own
	Deadline  time.Time // when an answer is no use any more: it bounds all work for the query
	Trace     *Trace    // where to explain what happens to this query; usually nil

	// Looked is for the cache that the query is looked up in.
	Looked Looked

	key [MaxName]byte
}

// Looked is where a cache notes that it has nothing for a query, for when it is told to ask the upstream, a moment later: it looks once then. It is good for
// the query as it is; Parse and SetQuestion end it.
type Looked struct {
	By   uint64 // the number of the cache, not a pointer, which would keep it in memory; 0 is none
	Hash uint64 // of the question
	At   uint64 // by a count of the cache's own, which tells whether there may be something since
}

// Parse reads a query from octets received. It returns ok when the query may go on; otherwise it is to be answered with rcode, by
// [Response.SetRCODE] and [Response.Finish], or ignored when rcode is [Ignore]. q keeps msg. No input makes it panic, and its work is linear.
//
//   - no whole header, or QR set: Ignore. Answering a response would let two servers chatter for ever (CVE-2004-0789)
//   - opcode other than QUERY: NOTIMP (so UPDATE, NOTIFY and DSO end here, on every transport)
//   - QDCOUNT other than 1: FORMERR (RFC 9619 section 4)
//   - malformed records, more than one OPT, an OPT elsewhere than in the additional section or not at the root, octets behind the
//     message: FORMERR (RFC 6891 section 6.1.1)
//   - a client subnet that breaks the rules: FORMERR (RFC 7871 section 6)
//   - EDNS version above 0: BADVERS (RFC 6891 section 6.1.3)
//   - AXFR, IXFR, and queries with TSIG or SIG(0): REFUSED. A proxy can't serve zone transfers from an answer cache, and a signed
//     query can't be changed on its way (RFC 8945 section 5.5, RFC 2931 section 3).
func (q *Query) Parse(msg []byte) (rcode uint16, ok bool) {
	q.Message, q.EDNS, q.DO, q.UDPSize, q.Options = msg, false, false, 0, nil
	q.Question, q.Labels, q.Looked = Question{}, 0, Looked{}
	if len(msg) < headerSize {
		return Ignore, false
	}
	q.ID = binary.BigEndian.Uint16(msg)
	q.Flags = binary.BigEndian.Uint16(msg[2:])
	if q.Flags&FlagQR != 0 {
		return Ignore, false
	}
	if q.Flags>>11&0xF != 0 {
		return NOTIMP, false
	}
	if binary.BigEndian.Uint16(msg[4:]) != 1 || len(msg) > MaxSize {
		return FORMERR, false
	}
	off, labels := headerSize, 0
	for off < len(msg) && msg[off] != 0 {
		if msg[off] > MaxLabel { // a question has nothing to point to
			return FORMERR, false
		}
		off += int(msg[off]) + 1
		labels++
	}
	off++ // the root label
	if off+4 > len(msg) || off-headerSize > MaxName {
		return FORMERR, false
	}
	q.Name = msg[headerSize:off]
	for i, c := range q.Name {
		q.key[i] = lower[c]
	}
	q.Key = q.key[:len(q.Name)]
	q.Type = binary.BigEndian.Uint16(msg[off:])
	q.Class = binary.BigEndian.Uint16(msg[off+2:])
	q.Labels = labels
	off += 4
	if rcode, ok := q.parseRecords(msg, off); !ok {
		return rcode, false
	}
	switch q.Type {
	case TypeAXFR, TypeIXFR:
		return REFUSED, false
	case TypeOPT:
		return FORMERR, false
	}
	return NOERROR, true
}

// ParseEmpty reads msg, which Parse has refused, as a query without a question and without records other than an OPT, which clients send to get a
// cookie (RFC 7873 section 5.4, RFC 9619 section 4). It reports whether it is one with a cookie; q.Name is nil then. Otherwise q is as it was.
func (q *Query) ParseEmpty(msg []byte) bool {
	if len(msg) < headerSize || q.Flags&(FlagQR|0xF<<11) != 0 || binary.BigEndian.Uint64(msg[4:]) != 1 {
		return false
	}
	if _, ok := q.parseRecords(msg, headerSize); ok && q.HasOption(OptionCookie) {
		return true
	}
	q.EDNS, q.DO, q.UDPSize, q.Options = false, false, 0, nil
	return false
}

// parseRecords reads what follows the question. In a query that is, as a rule, one OPT record or nothing.
func (q *Query) parseRecords(msg []byte, off int) (rcode uint16, ok bool) {
	records := int(binary.BigEndian.Uint16(msg[6:])) + int(binary.BigEndian.Uint16(msg[8:]))
	additional := int(binary.BigEndian.Uint16(msg[10:]))
	signed, badVersion := false, false
	for i := range records + additional {
		r, err := parseRecord(msg, off)
		if err != nil {
			return FORMERR, false
		}
		switch r.Type {
		case TypeOPT:
			if i < records || q.EDNS || r.owner+1 != r.fixed || !validOptions(r.data(msg)) || !validSubnets(r.data(msg)) {
				return FORMERR, false
			}
			q.EDNS = true
			q.UDPSize = r.Class
			q.DO = r.TTL>>15&1 != 0
			q.Options = r.data(msg)
			badVersion = r.TTL>>16&0xFF != 0
		case TypeTSIG:
			if i != records+additional-1 { // RFC 8945 section 5.1
				return FORMERR, false
			}
			signed = true
		case TypeSIG:
			signed = signed || i >= records
		}
		off = r.end
	}
	switch {
	case off != len(msg):
		return FORMERR, false
	case badVersion:
		return BADVERS, false
	case signed:
		return REFUSED, false
	}
	return NOERROR, true
}

// SetQuestion makes q a query for another question, with the flags, client and EDNS of from. The message is built in buf, which
// q keeps. name is in wire format. It reports whether name is valid; otherwise q is as it was. from is another query than q, and neither
// its message nor name are in buf.
func (q *Query) SetQuestion(from *Query, buf, name []byte, qtype, qclass uint16) bool {
	labels, off := 0, 0
	for off < len(name) && name[off] != 0 {
		if name[off] > MaxLabel {
			return false
		}
		off += int(name[off]) + 1
		labels++
	}
	if off+1 != len(name) || len(name) > MaxName {
		return false
	}
	msg := append(buf[:0], 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0)
	binary.BigEndian.PutUint16(msg, from.ID)
	binary.BigEndian.PutUint16(msg[2:], from.Flags)
	msg = append(msg, name...)
	msg = binary.BigEndian.AppendUint16(msg, qtype)
	msg = binary.BigEndian.AppendUint16(msg, qclass)
	end := len(msg)
	q.EDNS, q.DO, q.UDPSize, q.Options, q.Looked = from.EDNS, from.DO, from.UDPSize, nil, Looked{}
	if from.EDNS {
		msg[11] = 1
		msg = appendOPT(msg, from.UDPSize, 0, from.DO, from.Options)
		q.Options = msg[len(msg)-len(from.Options):]
	}
	q.Message, q.ID, q.Flags, q.Labels = msg, from.ID, from.Flags, labels
	q.Name = msg[headerSize : end-4]
	for i, c := range q.Name {
		q.key[i] = lower[c]
	}
	q.Key = q.key[:len(q.Name)]
	q.Type, q.Class = qtype, qclass
	q.Client, q.Transport, q.Listener, q.Scope, q.Path = from.Client, from.Transport, from.Listener, from.Scope, from.Path
	q.Arrived, q.Deadline, q.Trace = from.Arrived, from.Deadline, from.Trace
	return true
}

// QuestionSize is the size of the header and the question section in Message, which is also where its records begin.
func (q *Query) QuestionSize() int { return headerSize + q.Question.size() }

// RD reports whether the client wants recursion.
func (q *Query) RD() bool { return q.Flags&FlagRD != 0 }

// CD reports whether the client checks DNSSEC itself (RFC 4035 section 3.2.2).
func (q *Query) CD() bool { return q.Flags&FlagCD != 0 }

// Limit is the largest response, in octets, that the client takes over its transport: for UDP what it says in its OPT, not below
// 512 (RFC 6891 section 6.2.3) and not above most, which a listener sets to 1232 to stay clear of fragments (RFC 9715 section 3).
func (q *Query) Limit(most int) int {
	if q.Transport != UDP {
		return MaxSize
	}
	return min(max(int(q.UDPSize), 512), most)
}

// AppendUpstream appends the query as weir sends it to an upstream: with the given ID, the question in the client's case, RD, CD and AD
// as the client set them, and an OPT of weir's own that copies DO and nothing else (RFC 6891 section 6.1.1: hop by hop; the client's
// options, its subnet and cookies included, are not for others to see). size is the UDP payload size to offer; 0 leaves EDNS away, for
// servers that can't do it.
func (q *Query) AppendUpstream(dst []byte, id uint16, size uint16) []byte {
	start := len(dst)
	dst = append(dst, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0)
	binary.BigEndian.PutUint16(dst[start:], id)
	binary.BigEndian.PutUint16(dst[start+2:], q.Flags&(FlagRD|FlagCD|FlagAD))
	dst = q.AppendWire(dst)
	if size > 0 {
		dst[start+11] = 1
		dst = appendOPT(dst, size, 0, q.DO, nil)
	}
	return dst
}
