package messagetest

import "github.com/weirdns/weir/host/message"

const (
	typeTXT     = 16
	typeHTTPS   = 65
	typePrivate = 65280
)

// Queries returns queries, good and bad.
func Queries() []Query {
	const rd = message.FlagRD
	q := Question("www.example.com", message.TypeA)
	one := func(flags uint16, additional uint16, rest ...[]byte) []byte {
		return Join(Header(0x1234, flags, 1, 0, 0, additional), q, Join(rest...))
	}
	opt := OPT(1232, 0)
	end := 12 + len(q) // offset behind the question
	tsig := Record(Name("key.example"), message.TypeTSIG, Repeat(30, 0)...)
	return []Query{
		{"plain", one(rd, 0), message.NOERROR, false},
		{"no recursion desired", one(0, 0), message.NOERROR, false},
		{"all flags but QR and opcode", one(0x07FF, 0), message.NOERROR, false},
		{"root", Join(Header(1, rd, 1, 0, 0, 0), Question(".", message.TypeNS)), message.NOERROR, false},
		{"upper case", Join(Header(1, rd, 1, 0, 0, 0), Question("WWW.eXample.COM", message.TypeA)), message.NOERROR, false},
		{"any octet in a label", Join(Header(1, rd, 1, 0, 0, 0), []byte("\x04\x00.\xff\\\x00"), []byte{0, 1, 0, 1}), message.NOERROR, false},
		{"name of 255 octets", Join(Header(1, rd, 1, 0, 0, 0), LongName(255), []byte{0, 1, 0, 1}), message.NOERROR, false},
		{"HTTPS", Join(Header(1, rd, 1, 0, 0, 1), Question("example.com", typeHTTPS), opt), message.NOERROR, true},
		{"unknown type and class", Join(Header(1, rd, 1, 0, 0, 0), Name("example.com"), []byte{0xFF, 0x01, 0xFE, 0xDC}), message.NOERROR, false},
		{"ANY", Join(Header(1, rd, 1, 0, 0, 0), Question("example.com", message.TypeANY)), message.NOERROR, false},
		{"EDNS", one(rd, 1, opt), message.NOERROR, true},
		{"EDNS with DO and unknown flags", one(rd, 1, OPT(4096, 0xFFFF)), message.NOERROR, true},
		{"EDNS size 0", one(rd, 1, OPT(0, 0)), message.NOERROR, true},
		{"EDNS with unknown option", one(rd, 1, OPT(1232, 0, 0xFD, 0xE9, 0, 2, 1, 2)), message.NOERROR, true},
		{"EDNS with 16 options", one(rd, 1, OPT(1232, 0, Repeat(16, 0xFD, 0xE9, 0, 0)...)), message.NOERROR, true},
		{"OPT before other additional records", one(rd, 2, opt, Record([]byte{0}, typeTXT, 1, 'x')), message.NOERROR, true},
		{"SVCB in additional", one(rd, 2, Record(Pointer(12), 64, 0, 1, 0), opt), message.NOERROR, true},
		{"SOA in authority", Join(Header(1, rd, 1, 0, 1, 0), q, Record(Pointer(12), message.TypeSOA, Repeat(22, 0)...)), message.NOERROR, false},

		{"nothing", nil, message.Ignore, false},
		{"one octet", []byte{1}, message.Ignore, false},
		{"eleven octets", Header(1, rd, 1, 0, 0, 0)[:11], message.Ignore, false},
		{"response", Join(Header(1, message.FlagQR|rd, 1, 0, 0, 0), q), message.Ignore, false},
		{"response without question", Header(1, message.FlagQR, 0, 0, 0, 0), message.Ignore, false},
		{"response with opcode NOTIFY", Join(Header(1, message.FlagQR|4<<11, 1, 0, 0, 0), q), message.Ignore, false},

		{"opcode IQUERY", one(1<<11, 0), message.NOTIMP, false},
		{"opcode STATUS", one(2<<11, 0), message.NOTIMP, false},
		{"opcode 3", one(3<<11, 0), message.NOTIMP, false},
		{"opcode NOTIFY", one(4<<11, 0), message.NOTIMP, false},
		{"opcode UPDATE", Join(Header(1, 5<<11, 1, 0, 1, 0), q, Record(Pointer(12), message.TypeA, 1, 2, 3, 4)), message.NOTIMP, false},
		{"opcode DSO", Header(1, 6<<11, 0, 0, 0, 0), message.NOTIMP, false},
		{"opcode 15", one(15<<11, 0), message.NOTIMP, false},
		{"opcode NOTIFY, garbage", Join(Header(1, 4<<11, 9, 9, 9, 9), Repeat(40, 0xFF)), message.NOTIMP, false},

		{"header only", Header(1, rd, 0, 0, 0, 0), message.FORMERR, false},
		{"QDCOUNT 0 with OPT", Join(Header(1, rd, 0, 0, 0, 1), opt), message.FORMERR, false},
		{"QDCOUNT 2", Join(Header(1, rd, 2, 0, 0, 0), q, q), message.FORMERR, false},
		{"QDCOUNT 65535", Join(Header(1, rd, 65535, 0, 0, 0), q), message.FORMERR, false},
		{"QDCOUNT 1, no question", Header(1, rd, 1, 0, 0, 0), message.FORMERR, false},
		{"name without end", Join(Header(1, rd, 1, 0, 0, 0), []byte("\x03www\x07example")), message.FORMERR, false},
		{"label beyond the end", Join(Header(1, rd, 1, 0, 0, 0), []byte("\x3fwww")), message.FORMERR, false},
		{"name ends at the end", Join(Header(1, rd, 1, 0, 0, 0), Name("www.example")), message.FORMERR, false},
		{"no class", one(rd, 0)[:end-2], message.FORMERR, false},
		{"half a class", one(rd, 0)[:end-1], message.FORMERR, false},
		{"name of 256 octets", Join(Header(1, rd, 1, 0, 0, 0), LongName(256), []byte{0, 1, 0, 1}), message.FORMERR, false},
		{"name of 300 octets", Join(Header(1, rd, 1, 0, 0, 0), LongName(300), []byte{0, 1, 0, 1}), message.FORMERR, false},
		{"label of 64 octets", Join(Header(1, rd, 1, 0, 0, 0), []byte{64}, Repeat(64, 'x'), []byte{0, 0, 1, 0, 1}), message.FORMERR, false},
		{"label type 10", Join(Header(1, rd, 1, 0, 0, 0), []byte{0x80, 0, 0, 1, 0, 1}), message.FORMERR, false},
		{"question points to itself", Join(Header(1, rd, 1, 0, 0, 0), Pointer(12), []byte{0, 1, 0, 1}), message.FORMERR, false},
		{"question points into the header", Join(Header(1, rd, 1, 0, 0, 0), Pointer(4), []byte{0, 1, 0, 1}), message.FORMERR, false},
		{"question points forward", Join(Header(1, rd, 1, 0, 0, 0), Pointer(18), []byte{0, 1, 0, 1}, Name("x")), message.FORMERR, false},
		{"question ends in a pointer loop", Join(Header(1, rd, 1, 0, 0, 0), []byte{1, 'a'}, Pointer(12), []byte{0, 1, 0, 1}), message.FORMERR, false},
		{"trailing octet", one(rd, 0, []byte{0}), message.FORMERR, false},
		{"trailing question", one(rd, 0, q), message.FORMERR, false},
		{"trailing OPT", one(rd, 0, opt), message.FORMERR, false},
		{"trailing octet behind OPT", one(rd, 1, opt, []byte{0}), message.FORMERR, true},
		{"ARCOUNT 1, no record", one(rd, 1), message.FORMERR, false},
		{"ARCOUNT 2, one OPT", one(rd, 2, opt), message.FORMERR, true},
		{"all counts 65535", Join(Header(1, rd, 1, 65535, 65535, 65535), q), message.FORMERR, false},
		{"RDLENGTH beyond the end", one(rd, 1, OPT(1232, 0)[:9], []byte{0, 1}), message.FORMERR, false},
		{"RDLENGTH 65535", one(rd, 1, OPT(1232, 0)[:9], []byte{0xFF, 0xFF}), message.FORMERR, false},
		{"half an OPT", one(rd, 1, opt[:6]), message.FORMERR, false},
		{"two OPTs", one(rd, 2, opt, opt), message.FORMERR, true},
		{"OPT not at the root", one(rd, 1, []byte{1, 'x'}, opt), message.FORMERR, false},
		{"OPT at a pointer to the root", one(rd, 1, Pointer(end-5), opt[1:]), message.FORMERR, false},
		{"OPT in the answer section", Join(Header(1, rd, 1, 1, 0, 0), q, opt), message.FORMERR, false},
		{"OPT in the authority section", Join(Header(1, rd, 1, 0, 1, 0), q, opt), message.FORMERR, false},
		{"EDNS with 17 options", one(rd, 1, OPT(1232, 0, Repeat(17, 0, 10, 0, 0)...)), message.FORMERR, false},
		{"option of three octets", one(rd, 1, OPT(1232, 0, 0, 10, 0)), message.FORMERR, false},
		{"option beyond the OPT", one(rd, 1, OPT(1232, 0, 0, 10, 0, 9, 1)), message.FORMERR, false},
		{"option of 65535 octets", one(rd, 1, OPT(1232, 0, 0, 10, 0xFF, 0xFF)), message.FORMERR, false},
		{"QTYPE OPT", Join(Header(1, rd, 1, 0, 0, 0), Question("example.com", message.TypeOPT)), message.FORMERR, false},
		{"record points to itself", one(rd, 1, Pointer(end), Record(nil, message.TypeA, 1, 2, 3, 4)), message.FORMERR, false},
		{"record points forward", one(rd, 1, Pointer(end+2), Record(nil, message.TypeA, 1, 2, 3, 4)), message.FORMERR, false},
		{"record points into the header", one(rd, 1, Record(Pointer(2), message.TypeA, 1, 2, 3, 4)), message.FORMERR, false},
		{"record points beyond the end", one(rd, 1, Record(Pointer(0x3FFF), message.TypeA, 1, 2, 3, 4)), message.FORMERR, false},
		{"half a pointer", one(rd, 1, []byte{0xC0}), message.FORMERR, false},
		{"pointers in a circle", one(rd, 2, Record([]byte{0}, typeTXT, Pointer(end+13)...), Record(Pointer(end+11), message.TypeA)), message.FORMERR, false},
		{"126 pointers", one(rd, 2, Record([]byte{0}, typePrivate, Pointers(125, end+11, 12)...), Record(Pointer(end+11+2*124), message.TypeA, 1, 2, 3, 4)), message.NOERROR, false},
		{"127 pointers", one(rd, 2, Record([]byte{0}, typePrivate, Pointers(126, end+11, 12)...), Record(Pointer(end+11+2*125), message.TypeA, 1, 2, 3, 4)), message.FORMERR, false},
		{"record's name of 256 octets through a pointer", one(rd, 1, Record(Join(LongName(240)[:239], Pointer(12)), message.TypeA)), message.FORMERR, false},

		{"EDNS version 1", one(rd, 1, OPT(1232, 1<<16)), message.BADVERS, true},
		{"EDNS version 255", one(rd, 1, OPT(1232, 0xFF<<16)), message.BADVERS, true},
		{"EDNS version 1 with option", one(rd, 1, OPT(1232, 1<<16, 0, 3, 0, 0)), message.BADVERS, true},
		{"AXFR", Join(Header(1, 0, 1, 0, 0, 0), Question("example.com", message.TypeAXFR)), message.REFUSED, false},
		{"IXFR", Join(Header(1, 0, 1, 0, 0, 0), Question("example.com", message.TypeIXFR)), message.REFUSED, false},
		{"TSIG", one(rd, 1, tsig), message.REFUSED, false},
		{"TSIG behind OPT", one(rd, 2, opt, tsig), message.REFUSED, true},
		{"TSIG before OPT", one(rd, 2, tsig, opt), message.FORMERR, false},
		{"two TSIGs", one(rd, 2, tsig, tsig), message.FORMERR, false},
		{"SIG(0)", one(rd, 1, Record([]byte{0}, message.TypeSIG, Repeat(24, 0)...)), message.REFUSED, false},
	}
}

// Asked returns the question that [Responses] are about: www.example.com. IN A.
func Asked() *message.Question {
	name := Name("www.example.com")
	return &message.Question{Name: name, Key: name, Type: message.TypeA, Class: message.ClassIN}
}

// Responses returns responses, good and bad.
func Responses() []Response {
	const flags = message.FlagQR | message.FlagRD | message.FlagRA
	q := Question("www.example.com", message.TypeA)
	end := 12 + len(q)
	a := Record(Pointer(12), message.TypeA, 192, 0, 2, 1)
	soa := Record(Pointer(16), message.TypeSOA, Join([]byte{2, 'n', 's'}, Pointer(16), []byte{1, 'h'}, Pointer(16), Repeat(20, 1))...)
	opt := OPT(1232, 0)
	all := func(an, ns, ar uint16, rest ...[]byte) []byte {
		return Join(Header(0x1234, flags, 1, an, ns, ar), q, Join(rest...))
	}
	return []Response{
		{"answer", all(1, 0, 0, a), true},
		{"answer with OPT", all(1, 0, 1, a, opt), true},
		{"OPT, then another record", all(1, 0, 2, a, opt, a), true},
		{"EDE", all(0, 0, 1, OPT(1232, 0, 0, 15, 0, 4, 0, 18, 'n', 'o')), true},
		{"extended RCODE", all(0, 0, 1, OPT(1232, 1<<24)), true},
		{"EDNS version 1", all(1, 0, 1, a, OPT(1232, 1<<16)), true},
		{"NODATA", all(0, 1, 0, soa), true},
		{"referral", all(0, 1, 0, Record(Pointer(16), message.TypeNS, 1, 'n', 0xC0, 16)), true},
		{"CNAME", all(2, 0, 0, Record(Pointer(12), message.TypeCNAME, 1, 'w', 0xC0, 16), Record(Pointer(end+12), message.TypeA, 1, 2, 3, 4)), true},
		{"other case", Join(Header(1, flags, 1, 0, 0, 0), Question("WWW.Example.COM", message.TypeA)), true},
		{"malformed RDATA is not looked at", all(1, 0, 0, Record(Pointer(12), message.TypeCNAME, 0xC0)), true},
		{"truncated", Join(Header(1, flags|message.FlagTC, 1, 0, 0, 0), q), true},

		{"nothing", nil, false},
		{"header only", Header(0x1234, flags|message.FORMERR, 0, 0, 0, 0), false},
		{"query", Join(Header(1, message.FlagRD, 1, 0, 0, 0), q), false},
		{"opcode NOTIFY", Join(Header(1, flags|4<<11, 1, 0, 0, 0), q), false},
		{"QDCOUNT 0", Join(Header(1, flags, 0, 0, 0, 0), q), false},
		{"QDCOUNT 2", Join(Header(1, flags, 2, 0, 0, 0), q, q), false},
		{"other name", Join(Header(1, flags, 1, 0, 0, 0), Question("wwv.example.com", message.TypeA)), false},
		{"other type", Join(Header(1, flags, 1, 0, 0, 0), Question("www.example.com", message.TypeAAAA)), false},
		{"other class", Join(Header(1, flags, 1, 0, 0, 0), q[:len(q)-1], []byte{3}), false},
		{"longer name", Join(Header(1, flags, 1, 0, 0, 0), Question("www.example.com.org", message.TypeA)), false},
		{"ANCOUNT 2, one record", all(2, 0, 0, a), false},
		{"ANCOUNT 0, one record", all(0, 0, 0, a), false},
		{"all counts 65535", all(65535, 65535, 65535, a), false},
		{"trailing octet", all(1, 0, 0, a, []byte{0}), false},
		{"RDLENGTH beyond the end", all(1, 0, 0, a[:len(a)-1]), false},
		{"two OPTs", all(1, 0, 2, a, opt, opt), false},
		{"OPT in the answer section", all(1, 0, 0, opt), false},
		{"OPT in the authority section", all(0, 1, 0, opt), false},
		{"OPT not at the root", all(0, 0, 1, []byte{1, 'x'}, opt), false},
		{"OPT with half an option", all(0, 0, 1, OPT(1232, 0, 0, 15, 0)), false},
		{"17 options", all(0, 0, 1, OPT(1232, 0, Repeat(17, 0, 10, 0, 0)...)), false},
		{"TSIG", all(0, 0, 1, Record(Name("key"), message.TypeTSIG, 0)), false},
		{"owner points to itself", all(1, 0, 0, Record(Pointer(end), message.TypeA, 1, 2, 3, 4)), false},
		{"owner points forward", all(1, 0, 0, Record(Pointer(end+2), message.TypeA, 1, 2, 3, 4)), false},
		{"owner points back and runs on behind itself", all(2, 0, 0, Record(Pointer(end-1), typePrivate, 0), a), false},
		{"owner points into the header", all(1, 0, 0, Record(Pointer(0), message.TypeA, 1, 2, 3, 4)), false},
		{"126 pointers", all(2, 0, 0, Record([]byte{0}, typePrivate, Pointers(125, end+11, 12)...), Record(Pointer(end+11+2*124), message.TypeA, 1, 2, 3, 4)), true},
		{"127 pointers", all(2, 0, 0, Record([]byte{0}, typePrivate, Pointers(126, end+11, 12)...), Record(Pointer(end+11+2*125), message.TypeA, 1, 2, 3, 4)), false},
	}
}
