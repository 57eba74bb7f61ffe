package sdk

// Records that a filter makes itself, and copies of a response with some records left out. See [Builder] for what becomes of mistakes.

// Address appends an A or AAAA record, whichever an address of 4 or 16 octets needs. owner is the offset of the owner in the response, for
// instance [QNAME]; ttl is in seconds.
func (b *Builder) Address(s Section, owner int, ttl uint32, address []byte) {
	switch len(address) {
	case 4:
		b.RR(s, owner, TypeA, ttl, address)
	case 16:
		b.RR(s, owner, TypeAAAA, ttl, address)
	default:
		b.failed = true
	}
}

// Target appends a record whose RDATA is a name in wire format: CNAME, DNAME, NS or PTR. It returns the offset of the target, which can be the
// owner of the records that follow:
//
//	target := b.Target(sdk.Answer, sdk.QNAME, sdk.TypeCNAME, 300, name)
//	b.Address(sdk.Answer, target, 300, address)
func (b *Builder) Target(s Section, owner int, t Type, ttl uint32, target []byte) (offset int) {
	if CheckName(target) != len(target) || len(target) == 0 {
		b.failed = true
	}
	return b.RR(s, owner, t, ttl, target)
}

// TXT appends a TXT record with a text, in character strings of up to 255 octets (RFC 1035 section 3.3.14).
func (b *Builder) TXT(s Section, owner int, ttl uint32, text []byte) {
	at := b.size
	b.RR(s, owner, TypeTXT, ttl, nil)
	for {
		n := min(len(text), 255)
		b.octet(byte(n))
		b.append(text[:n])
		if text = text[n:]; len(text) == 0 {
			break
		}
	}
	b.measure(at)
}

// MX appends an MX record. The exchange is a name in wire format.
func (b *Builder) MX(s Section, owner int, ttl uint32, preference uint16, exchange []byte) {
	at := b.size
	b.RR(s, owner, TypeMX, ttl, nil)
	b.octet(byte(preference >> 8))
	b.octet(byte(preference))
	b.append(exchange)
	b.measure(at)
}

// SRV appends an SRV record (RFC 2782). The target is a name in wire format.
func (b *Builder) SRV(s Section, owner int, ttl uint32, priority, weight, port uint16, target []byte) {
	at := b.size
	b.RR(s, owner, TypeSRV, ttl, nil)
	for _, n := range [...]uint16{priority, weight, port} {
		b.octet(byte(n >> 8))
		b.octet(byte(n))
	}
	b.append(target)
	b.measure(at)
}

// NegativeSOA appends to the authority section the SOA record without which nobody keeps a negative answer (RFC 2308 section 5), for a filter
// that answers in place of a zone: of the zone with apexSize octets at the end of the QNAME, as [Call.Longest] and [Query.Found] give it, with ttl seconds
// for how long it is kept. MNAME and RNAME are the root: there is no server and nobody to write to.
func (b *Builder) NegativeSOA(c *Call, apexSize int, ttl uint32) {
	at := b.size
	size := int(c.qnameSize)
	if apexSize < 1 || apexSize > size {
		b.failed = true
		return
	}
	b.RR(Authority, QNAME+size-apexSize, TypeSOA, ttl, nil)
	b.octet(0)
	b.octet(0)
	for _, n := range [...]uint32{1, 3600, 600, 86400, ttl} { // serial, refresh, retry, expire: nobody transfers it
		b.octet(byte(n >> 24))
		b.octet(byte(n >> 16))
		b.octet(byte(n >> 8))
		b.octet(byte(n))
	}
	b.measure(at)
}

// Copy begins the response to r's question anew, after Reset, as a copy of r: its RCODE, and of its records those that keep says true for, which is
// called for each of them in order. With false for all of a type, for instance, a response is rid of them. The bit AA is that of
// the original.
//
//	f.builder.Reset(r.Call)
//	f.builder.Copy(r, func(record sdk.Record) bool { return record.Type != sdk.TypeHTTPS })
//	return r.Respond(f.builder.Message())
func (b *Builder) Copy(r Response, keep func(Record) bool) {
	m := r.Message()
	b.SetAA(m.AA())
	b.SetRCODE(r.RCODE())
	for w := m.Records(); w.Next(); {
		if keep(w.Record) {
			b.Record(w.Section, m, w.Record)
		}
	}
}

// octet appends an octet to the last record.
func (b *Builder) octet(c byte) {
	if b.failed || b.size == len(b.message) {
		b.failed = true
		return
	}
	b.message[b.size] = c
	b.size++
}

// measure sets the RDLENGTH of the last record, which begins at an offset with an owner of two octets.
func (b *Builder) measure(at int) {
	size := b.size - at - 12
	if b.failed || size < 0 || size > 0xFFFF {
		b.failed = true
		return
	}
	b.message[at+10], b.message[at+11] = byte(size>>8), byte(size)
}
