package sdk

// Typed reading of what records say. All of it works on the octets of the message and allocates nothing; names are expanded into room that the
// caller has. Each function reports whether the record is of a type that has what it reads, and is well formed.

// AppendOwner appends the owner name of the record, in wire format and in the case that it has in the message.
func (r *Records) AppendOwner(dst []byte) (name []byte, ok bool) {
	name, _, ok = r.message.ExpandName(dst, r.Owner)
	return name, ok
}

// OwnerIs reports whether the owner of the record is a name, which is in wire format, in any case of letters.
func (r *Records) OwnerIs(name []byte) bool {
	var room [MaxName]byte
	owner, _, ok := r.message.ExpandName(room[:0], r.Owner)
	return ok && EqualFold(owner, name)
}

// RDATA returns the octets of the record's RDATA, in which names may be compressed. They lie in the message.
func (r *Records) RDATA() []byte { return r.message[r.Data:r.End] }

// Address returns the address of an A or AAAA record, of 4 or 16 octets. It lies in the message.
func (r *Records) Address() (address []byte, ok bool) {
	size := r.End - r.Data
	if r.Class == 1 && (r.Type == TypeA && size == 4 || r.Type == TypeAAAA && size == 16) {
		return r.message[r.Data:r.End], true
	}
	return nil, false
}

// AppendTarget appends the name that the record points to, in wire format: that of a CNAME, DNAME, NS or PTR record, the exchange of an MX record, and the
// target of an SRV, SVCB or HTTPS record, which is the root where the owner itself is meant.
func (r *Records) AppendTarget(dst []byte) (name []byte, ok bool) {
	at := r.Data
	switch r.Type {
	case TypeCNAME, TypeDNAME, TypeNS, TypePTR:
	case TypeMX, TypeSVCB, TypeHTTPS:
		at += 2
	case TypeSRV:
		at += 6
	default:
		return dst, false
	}
	name, behind, ok := r.message.ExpandName(dst, at)
	if !ok || behind > r.End {
		return dst, false
	}
	return name, true
}

// Preference returns the preference of an MX record, or the priority of an SVCB or HTTPS record, which is 0 for an alias (RFC 9460
// section 2.4.1).
func (r *Records) Preference() (preference uint16, ok bool) {
	if r.Type != TypeMX && r.Type != TypeSVCB && r.Type != TypeHTTPS || r.End-r.Data < 3 {
		return 0, false
	}
	return uint16(r.message[r.Data])<<8 | uint16(r.message[r.Data+1]), true
}

// SRV returns the numbers of an SRV record (RFC 2782); AppendTarget has its target.
func (r *Records) SRV() (priority, weight, port uint16, ok bool) {
	if r.Type != TypeSRV || r.End-r.Data < 7 {
		return 0, 0, 0, false
	}
	d := r.message[r.Data:r.End]
	return uint16(d[0])<<8 | uint16(d[1]), uint16(d[2])<<8 | uint16(d[3]), uint16(d[4])<<8 | uint16(d[5]), true
}

// SOA is the numbers of a SOA record (RFC 1035 section 3.3.13); times are in seconds.
type SOA struct{ Serial, Refresh, Retry, Expire, Minimum uint32 }

// SOA returns the numbers of a SOA record. The TTL of a negative answer is the lower one of Minimum and the TTL of the record (RFC 2308
// section 5).
func (r *Records) SOA() (soa SOA, ok bool) {
	if r.Type != TypeSOA || r.End-r.Data < 22 {
		return SOA{}, false
	}
	d := r.message[r.End-20 : r.End]
	number := func(at int) uint32 {
		return uint32(d[at])<<24 | uint32(d[at+1])<<16 | uint32(d[at+2])<<8 | uint32(d[at+3])
	}
	return SOA{number(0), number(4), number(8), number(12), number(16)}, true
}

// Strings walks over the character strings of a TXT record (RFC 1035 section 3.3.14):
//
//	for s := r.Strings(); s.Next(); {
//		use(s.Text)
//	}
type Strings struct {
	Text []byte // lies in the message
	rest []byte
}

// Strings returns a walk that is in front of the first string of a TXT record; there is none in a record of another type.
func (r *Records) Strings() Strings {
	if r.Type != TypeTXT {
		return Strings{}
	}
	return Strings{rest: r.RDATA()}
}

// Next goes to the next string, and reports whether there is one.
func (s *Strings) Next() bool {
	if len(s.rest) == 0 || 1+int(s.rest[0]) > len(s.rest) {
		return false
	}
	s.Text, s.rest = s.rest[1:1+int(s.rest[0])], s.rest[1+int(s.rest[0]):]
	return true
}

// Opcode returns the OPCODE in the header; 0 is QUERY, and no filter sees another one.
func (m Message) Opcode() uint8 { return m.flag(2) >> 3 & 0xF }

// AA reports whether the message is authoritative.
func (m Message) AA() bool { return m.flag(2)&0x04 != 0 }

// TC reports whether the message is truncated.
func (m Message) TC() bool { return m.flag(2)&0x02 != 0 }

// RD reports whether recursion is desired.
func (m Message) RD() bool { return m.flag(2)&0x01 != 0 }

// RA reports whether recursion is available.
func (m Message) RA() bool { return m.flag(3)&0x80 != 0 }

// AD reports whether the data is said to be authentic (RFC 4035 section 3.2.3). weir clears it in what upstreams say.
func (m Message) AD() bool { return m.flag(3)&0x20 != 0 }

// CD reports whether checking is disabled (RFC 4035 section 3.2.2).
func (m Message) CD() bool { return m.flag(3)&0x10 != 0 }

// flag returns an octet of the header, 0 if there is no header.
func (m Message) flag(at int) byte {
	if len(m) < headerSize {
		return 0
	}
	return m[at]
}

// Walk walks over the records of an RRset of a table, which all have the owner and the TTL of the set:
//
//	for w := set.Walk(); w.Next(); {
//		use(w.RDATA)
//	}
type Walk struct {
	RDATA []byte // lies where the RRset does; names in it are not compressed
	rest  []byte
}

// Walk returns a walk that is in front of the first record.
func (r RRset) Walk() Walk { return Walk{rest: r.Records} }

// Next goes to the next record, and reports whether there is one.
func (w *Walk) Next() bool {
	if len(w.rest) < 12 { // owner, type, class, TTL, RDLENGTH
		return false
	}
	end := 12 + int(w.rest[10])<<8 + int(w.rest[11])
	if end > len(w.rest) {
		return false
	}
	w.RDATA, w.rest = w.rest[12:end], w.rest[end:]
	return true
}
