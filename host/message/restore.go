package message

import "encoding/binary"

// AppendRestored appends the message of a response to a rewritten question as one to the question asked, for the client must see its own
// question. Owners that are the rewritten QNAME become the QNAME asked; every other name stays. The length of the QNAME changes where
// everything is, so all compressed names are written out, those in RDATA too where the type allows compression (RFC 3597 section 4).
// r stays as it is but for its Message. The result may be too large for DNS, which is an error.
func (r *Response) AppendRestored(dst []byte, rewritten, asked *Question) ([]byte, error) {
	start := len(dst)
	dst, err := r.appendExpanded(dst, rewritten, asked, func(uint16) bool { return true })
	if err == nil {
		dst[start+3] &^= FlagAD // nobody has validated the answer to this question
	}
	return dst, err
}

// Signed reports whether r has records that only those are to get who set DO, or asked for their type: RRSIG, NSEC and NSEC3 (RFC 4035 section 3.2.1).
func (r *Response) Signed() bool { return r.signed }

// AppendUnsigned appends the message of a response to question without the records for which [Response.Signed] is true. What was compressed is
// written out, since a name may be a pointer into a record that goes. r stays as it is but for its Message.
func (r *Response) AppendUnsigned(dst []byte, question *Question) ([]byte, error) {
	return r.appendExpanded(dst, question, question, func(rrtype uint16) bool { return !authenticates(rrtype, question.Type) })
}

// authenticates reports whether records of a type are there only to authenticate an answer to a question for qtype.
func authenticates(rrtype, qtype uint16) bool {
	switch rrtype {
	case TypeRRSIG, TypeNSEC, TypeNSEC3:
		return rrtype != qtype && qtype != TypeANY
	}
	return false
}

// appendExpanded appends the records whose types are to be kept, behind the question asked, with all names written out. Owners that are the QNAME
// rewritten become the one asked.
func (r *Response) appendExpanded(dst []byte, rewritten, asked *Question, keep func(rrtype uint16) bool) ([]byte, error) {
	msg, start := r.Message, len(dst)
	dst = append(dst, msg[:headerSize]...)
	dst = asked.AppendWire(dst)
	var buf [MaxName]byte
	off := headerSize + rewritten.size()
	for section := 6; section < headerSize; section += 2 {
		kept := uint16(0)
		for range binary.BigEndian.Uint16(msg[section:]) {
			rec, err := parseRecord(msg, off)
			if err != nil {
				return dst[:start], err
			}
			off = rec.end
			if !keep(rec.Type) {
				continue
			}
			kept++
			owner, _, err := AppendName(buf[:0], msg, rec.owner)
			if err != nil {
				return dst[:start], err
			}
			if EqualName(owner, rewritten.Key) {
				dst = append(dst, 0xC0, headerSize)
			} else {
				dst = append(dst, owner...)
			}
			dst = append(dst, msg[rec.fixed:rec.rdata]...)
			at := len(dst)
			if dst, err = appendRDATA(dst, msg, rec); err != nil {
				return dst[:start], err
			}
			if len(dst)-start > MaxSize {
				return dst[:start], errLarge
			}
			binary.BigEndian.PutUint16(dst[at-2:], uint16(len(dst)-at))
		}
		binary.BigEndian.PutUint16(dst[start+section:], kept)
	}
	return dst, nil
}

// rdataNames says where compressed names may be in the RDATA of a type: behind how many octets, and how many. These are the types of
// RFC 1035, and those of RFC 3597 section 4 whose names receivers must be ready to decompress.
func rdataNames(rrtype uint16) (skip, names int) {
	switch rrtype {
	case TypeNS, 3, 4, TypeCNAME, 7, 8, 9, 12, 30, 39: // MD, MF, MB, MG, MR, PTR, NXT, DNAME
		return 0, 1
	case TypeSOA, 14, 17: // MINFO, RP
		return 0, 2
	case 15, 18, 21, 36: // MX, AFSDB, RT, KX
		return 2, 1
	case 26: // PX
		return 2, 2
	case 33: // SRV
		return 6, 1
	case 24: // SIG
		return 18, 1
	}
	return 0, 0
}

// appendRDATA appends the RDATA of rec with its names written out.
func appendRDATA(dst, msg []byte, rec record) ([]byte, error) {
	skip, names := rdataNames(rec.Type)
	off := rec.rdata
	if rec.Type == 35 { // NAPTR: two numbers, three strings, a name
		names, skip = 1, 4
		for range 3 {
			if off+skip >= rec.end {
				return dst, errRecord
			}
			skip += 1 + int(msg[off+skip])
		}
	}
	if off+skip > rec.end {
		return dst, errRecord
	}
	dst = append(dst, msg[off:off+skip]...)
	off += skip
	for range names {
		var err error
		if dst, off, err = AppendName(dst, msg, off); err != nil {
			return dst, err
		}
		if off > rec.end {
			return dst, errRecord
		}
	}
	return append(dst, msg[off:rec.end]...), nil
}
