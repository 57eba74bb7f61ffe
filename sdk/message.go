package sdk

const (
	headerSize = 12
	maxMessage = 65535
	maxPointer = 0x3FFF // the highest offset that a compression pointer reaches. RFC 1035 section 4.1.4
)

// Section is a section of a message that has records.
type Section uint8

// The sections, in the order of the message.
const (
	Answer Section = iota
	Authority
	Additional
)

// Message is a message in wire format (RFC 1035 section 4).
type Message []byte

// Count returns the number of records that the header gives for a section.
func (m Message) Count(s Section) int {
	at := 6 + 2*int(s)
	if len(m) < headerSize {
		return 0
	}
	return int(m[at])<<8 | int(m[at+1])
}

// Record is a record in a message. Its offsets are those of the message.
type Record struct {
	Section Section
	Owner   int // offset of the owner name
	Type    Type
	Class   uint16
	TTL     uint32 // in seconds
	Data    int    // offset of the RDATA
	End     int    // offset behind the RDATA
}

// Records walks over the records of a message, in order:
//
//	for r := m.Records(); r.Next(); {
//		use(r.Record)
//	}
//
// It ends early where the message is not well formed.
type Records struct {
	Record
	message Message
	at      int
	left    [3]int // records of each section that are still to come
}

// Records returns a walk that is in front of the first record.
func (m Message) Records() Records {
	r := Records{message: m}
	at := m.afterQuestion()
	if at == 0 {
		return r
	}
	r.at = at
	for s := range r.left {
		r.left[s] = m.Count(Section(s))
	}
	return r
}

// Next goes to the next record, and reports whether there is one.
func (r *Records) Next() bool {
	for r.left[r.Section] == 0 {
		if r.Section == Additional {
			return false
		}
		r.Section++
	}
	r.left[r.Section]--
	m := r.message
	r.Owner = r.at
	at := skipName(m, r.at)
	if at == 0 || at+10 > len(m) {
		r.left = [3]int{}
		return false
	}
	f := m[at : at+10]
	r.Type = Type(f[0])<<8 | Type(f[1])
	r.Class = uint16(f[2])<<8 | uint16(f[3])
	r.TTL = uint32(f[4])<<24 | uint32(f[5])<<16 | uint32(f[6])<<8 | uint32(f[7])
	r.Data = at + 10
	r.End = r.Data + int(f[8])<<8 + int(f[9])
	if r.End > len(m) {
		r.left = [3]int{}
		return false
	}
	r.at = r.End
	return true
}

// Question returns the offset behind the QNAME of the only question, 0 if there is none; QTYPE and QCLASS follow there.
func (m Message) Question() int {
	if len(m) < headerSize || m[4] != 0 || m[5] != 1 {
		return 0
	}
	at := skipName(m, headerSize)
	if at == 0 || at+4 > len(m) {
		return 0
	}
	return at
}

// Asks reports whether the question of m is this name, in any case of letters, and type.
func (m Message) Asks(name []byte, qtype Type) bool {
	at := m.Question()
	return at != 0 && EqualFold(m[headerSize:at], name) && Type(m[at])<<8|Type(m[at+1]) == qtype
}

func (m Message) afterQuestion() int {
	if at := m.Question(); at != 0 {
		return at + 4
	}
	return 0
}

// skipName returns the offset behind the name at an offset, 0 if there is none. It does not look where a pointer leads.
func skipName(m []byte, at int) int {
	for at < len(m) {
		switch n := int(m[at]); {
		case n == 0:
			return at + 1
		case n >= 0xC0:
			if at+2 > len(m) {
				return 0
			}
			return at + 2
		case n > 63:
			return 0
		default:
			at += 1 + n
		}
	}
	return 0
}

// ExpandName appends to dst the name at an offset of the message, without compression, and returns the offset behind it in the
// message. It is false if that is no name: pointers must lead backwards (RFC 9267 section 2), and 255 octets are the most.
func (m Message) ExpandName(dst []byte, at int) (name []byte, behind int, ok bool) {
	start := len(dst)
	limit := at // pointers lead in front of this
	for at < len(m) {
		n := int(m[at])
		switch {
		case n >= 0xC0:
			if at+2 > len(m) {
				return dst[:start], 0, false
			}
			if behind == 0 {
				behind = at + 2
			}
			at = n&0x3F<<8 | int(m[at+1])
			if at >= limit {
				return dst[:start], 0, false
			}
			limit = at
			continue
		case n > 63 || at+1+n > len(m) || len(dst)-start+1+n > MaxName:
			return dst[:start], 0, false
		}
		dst = append(dst, m[at:at+1+n]...)
		at += 1 + n
		if n == 0 {
			if behind == 0 {
				behind = at
			}
			return dst, behind, true
		}
	}
	return dst[:start], 0, false
}
