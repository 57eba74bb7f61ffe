package table

import (
	"bytes"
	"slices"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/abi"
	"github.com/weirdns/weir/host/message"
)

// checkPlace checks that records can be where they are: below a zone cut and below a DNAME there is little room.
func (z *zoneBuilder) checkPlace(s *step, offsets []uint32) error {
	r := z.records
	for _, offset := range offsets {
		t := r.rrtype(offset)
		switch {
		case s.dname != none && (!bytes.Equal(r.key(s.dname), z.apex) || t != dns.TypeNSEC3 && t != dns.TypeRRSIG):
			// The hashed names of a signed zone are below its apex, wherever that leads. RFC 6672 section 5.3.4.1
			return r.at(offset).errorf("%s is below the DNAME at %s in %s, which stands for all names there (RFC 6672 section 2.4): delete one of them",
				keyString(s.key), keyString(r.key(s.dname)), r.at(s.dname))
		case s.cut != none && t != dns.TypeA && t != dns.TypeAAAA && t != dns.TypeRRSIG && t != dns.TypeNSEC:
			return r.at(offset).errorf("%s has a record of type %s below the zone cut at %s in %s, where only addresses can be (RFC 1034 section 4.2.1): "+
				"move it to the zone there", keyString(s.key), dns.Type(t), keyString(r.key(s.cut)), r.at(s.cut))
		}
	}
	return nil
}

// besideCNAME are the types that a name with a CNAME may have: RFC 2181 section 10.1, RFC 4034 sections 3 and 4, RFC 3007 section 3.1.
var besideCNAME = []uint16{dns.TypeCNAME, dns.TypeSIG, dns.TypeKEY, dns.TypeNXT, dns.TypeRRSIG, dns.TypeNSEC}

// checkNode checks which RRsets are together at a name, and notes in s that it is a zone cut or has a DNAME.
func (z *zoneBuilder) checkNode(s *step, offsets []uint32, apex bool) error {
	r := z.records
	first := func(t uint16) uint32 { // the first record of that type
		for _, offset := range offsets {
			if r.rrtype(offset) == t {
				return offset
			}
		}
		return none
	}
	name := func() string { return keyString(s.key) }
	for _, set := range z.sets {
		at := first(set.Type)
		switch set.Type {
		case dns.TypeCNAME:
			for _, offset := range offsets {
				if t := r.rrtype(offset); !slices.Contains(besideCNAME, t) {
					return r.at(offset).errorf("%s has a record of type %s beside the CNAME in %s, which stands alone (RFC 2181 section 10.1): delete one of them",
						name(), dns.Type(t), r.at(at))
				}
			}
		case dns.TypeDNAME:
			if cut := first(dns.TypeNS); cut != none && !apex {
				return r.at(at).errorf("%s has a DNAME beside the NS record in %s, which only the apex can have (RFC 6672 section 2.3): delete one of them",
					name(), r.at(cut))
			}
			s.dname = at
		case dns.TypeNS:
			if !apex && s.cut == none {
				s.cut = at
			}
		}
		switch set.Type {
		case dns.TypeCNAME, dns.TypeDNAME:
			if len(set.Data) > 1 {
				return r.at(z.second(offsets, set)).errorf("%s has a second %s, beside that in %s: it can have one (RFC 2181 section 10.1, RFC 6672 section 2.4)",
					name(), dns.Type(set.Type), r.at(at))
			}
		}
		switch set.Type {
		case dns.TypeNS, dns.TypeDNAME:
			if z.name[0] == 1 && z.name[1] == '*' {
				return r.at(at).errorf("%s is a wildcard, which can't have records of type %s (RFC 4592 sections 4.2 and 4.4): write out the names",
					name(), dns.Type(set.Type))
			}
		}
	}
	return nil
}

// second returns the record with the second RDATA of an RRset.
func (z *zoneBuilder) second(offsets []uint32, set abi.RRset) uint32 {
	for _, offset := range offsets {
		if z.records.rrtype(offset) == set.Type && bytes.Equal(z.records.data(offset), set.Data[1]) {
			return offset
		}
	}
	return offsets[0]
}

// checkGlue checks that the name servers of a zone cut whose names are in the zone behind it have addresses here: nobody could find them there
// (RFC 9471 section 2.1).
func (z *zoneBuilder) checkGlue(x *index) error {
	var name []byte
	for _, s := range z.servers {
		name = message.AppendCanonical(name[:0], z.records.data(s.record))
		if !message.InZone(name, x.key(s.cut)) {
			continue
		}
		value, _ := x.Get(name)
		_, sets, _ := abi.ParseNode(value) // made here; nil has no RRsets
		if !slices.ContainsFunc(sets, func(set abi.RRset) bool { return set.Type == dns.TypeA || set.Type == dns.TypeAAAA }) {
			return z.records.at(s.record).errorf("the name server %s of the zone cut at %s is below it and has no address here (RFC 9471): add an A or AAAA record",
				message.NameString(name), message.NameString(x.key(s.cut)))
		}
	}
	return nil
}
