package sdk

import "strconv"

// Type is the type of a record, or a QTYPE.
type Type uint16

// Types that filters have to do with. [ParseType] knows all of them by name.
const (
	TypeA      Type = 1
	TypeNS     Type = 2
	TypeCNAME  Type = 5
	TypeSOA    Type = 6
	TypePTR    Type = 12
	TypeHINFO  Type = 13
	TypeMX     Type = 15
	TypeTXT    Type = 16
	TypeAAAA   Type = 28
	TypeSRV    Type = 33
	TypeDNAME  Type = 39
	TypeOPT    Type = 41
	TypeDS     Type = 43
	TypeRRSIG  Type = 46
	TypeNSEC   Type = 47
	TypeDNSKEY Type = 48
	TypeNSEC3  Type = 50
	TypeSVCB   Type = 64
	TypeHTTPS  Type = 65
	TypeTSIG   Type = 250
	TypeIXFR   Type = 251
	TypeAXFR   Type = 252
	TypeANY    Type = 255
)

// RCODE is the code of a response, with its extension by EDNS.
type RCODE uint16

// The RCODEs of the IANA registry that a message can have.
const (
	NOERROR   RCODE = 0
	FORMERR   RCODE = 1
	SERVFAIL  RCODE = 2
	NXDOMAIN  RCODE = 3
	NOTIMP    RCODE = 4
	REFUSED   RCODE = 5
	YXDOMAIN  RCODE = 6
	YXRRSET   RCODE = 7
	NXRRSET   RCODE = 8
	NOTAUTH   RCODE = 9
	NOTZONE   RCODE = 10
	DSOTYPENI RCODE = 11
	BADVERS   RCODE = 16
	BADKEY    RCODE = 17
	BADTIME   RCODE = 18
	BADMODE   RCODE = 19
	BADNAME   RCODE = 20
	BADALG    RCODE = 21
	BADTRUNC  RCODE = 22
	BADCOOKIE RCODE = 23
)

// Class is what kind of response one is: its RCODE if that is below 24, or one of these.
type Class uint8

// The kinds of responses beyond the RCODEs. NODATA is NOERROR without a record of the QTYPE, referrals excepted
// (RFC 2308 section 2.2).
const (
	NODATA      Class = 24
	HigherRCODE Class = 25
)

// EDE is an INFO-CODE, which tells the client why (RFC 8914 section 4).
type EDE uint16

// INFO-CODEs that filters give. NoEDE is none.
const (
	OtherError EDE = 0
	Forged     EDE = 4 // Forged Answer
	Blocked    EDE = 15
	Censored   EDE = 16
	Filtered   EDE = 17
	Prohibited EDE = 18

	NotAuthoritative EDE = 20
	NotSupported     EDE = 21
	Synthesized      EDE = 29

	NoEDE EDE = 0xFFFF
)

// named is a number with the name that it has in an IANA registry.
type named struct {
	name   string
	number uint16
}

// rcodes are the RCODEs in ascending order; 16 has a second name there, BADSIG, which is for TSIG.
var rcodes = [...]named{
	{"NOERROR", 0},
	{"FORMERR", 1},
	{"SERVFAIL", 2},
	{"NXDOMAIN", 3},
	{"NOTIMP", 4},
	{"REFUSED", 5},
	{"YXDOMAIN", 6},
	{"YXRRSET", 7},
	{"NXRRSET", 8},
	{"NOTAUTH", 9},
	{"NOTZONE", 10},
	{"DSOTYPENI", 11},
	{"BADVERS", 16},
	{"BADSIG", 16},
	{"BADKEY", 17},
	{"BADTIME", 18},
	{"BADMODE", 19},
	{"BADNAME", 20},
	{"BADALG", 21},
	{"BADTRUNC", 22},
	{"BADCOOKIE", 23},
}

// types are the types in ascending order.
var types = [...]named{
	{"A", 1}, {"NS", 2}, {"MD", 3}, {"MF", 4}, {"CNAME", 5}, {"SOA", 6}, {"MB", 7}, {"MG", 8}, {"MR", 9}, {"NULL", 10},
	{"WKS", 11}, {"PTR", 12}, {"HINFO", 13}, {"MINFO", 14}, {"MX", 15}, {"TXT", 16}, {"RP", 17}, {"AFSDB", 18},
	{"X25", 19}, {"ISDN", 20}, {"RT", 21}, {"NSAP", 22}, {"NSAP-PTR", 23}, {"SIG", 24}, {"KEY", 25}, {"PX", 26},
	{"GPOS", 27}, {"AAAA", 28}, {"LOC", 29}, {"NXT", 30}, {"EID", 31}, {"NIMLOC", 32}, {"SRV", 33}, {"ATMA", 34},
	{"NAPTR", 35}, {"KX", 36}, {"CERT", 37}, {"A6", 38}, {"DNAME", 39}, {"SINK", 40}, {"OPT", 41}, {"APL", 42},
	{"DS", 43}, {"SSHFP", 44}, {"IPSECKEY", 45}, {"RRSIG", 46}, {"NSEC", 47}, {"DNSKEY", 48}, {"DHCID", 49},
	{"NSEC3", 50}, {"NSEC3PARAM", 51}, {"TLSA", 52}, {"SMIMEA", 53}, {"HIP", 55}, {"NINFO", 56}, {"RKEY", 57},
	{"TALINK", 58}, {"CDS", 59}, {"CDNSKEY", 60}, {"OPENPGPKEY", 61}, {"CSYNC", 62}, {"ZONEMD", 63}, {"SVCB", 64},
	{"HTTPS", 65}, {"DSYNC", 66}, {"SPF", 99}, {"UINFO", 100}, {"UID", 101}, {"GID", 102}, {"UNSPEC", 103}, {"NID", 104},
	{"L32", 105}, {"L64", 106}, {"LP", 107}, {"EUI48", 108}, {"EUI64", 109}, {"NXNAME", 128}, {"TKEY", 249},
	{"TSIG", 250}, {"IXFR", 251}, {"AXFR", 252}, {"MAILB", 253}, {"MAILA", 254}, {"ANY", 255}, {"URI", 256}, {"CAA", 257},
	{"AVC", 258}, {"DOA", 259}, {"AMTRELAY", 260}, {"RESINFO", 261}, {"WALLET", 262}, {"CLA", 263}, {"IPN", 264},
	{"TA", 32768}, {"DLV", 32769},
}

// ParseRCODE returns the RCODE of that name in the IANA registry, in any case of letters.
func ParseRCODE(name []byte) (RCODE, bool) {
	n, ok := byName(rcodes[:], name)
	return RCODE(n), ok
}

// ParseType returns the type of that name in the IANA registry, or of the form TYPE123 (RFC 3597 section 5), in any case of letters.
func ParseType(name []byte) (Type, bool) {
	if n, ok := byName(types[:], name); ok {
		return Type(n), true
	}
	if len(name) > 4 && len(name) <= 9 && EqualFold(name[:4], []byte("type")) {
		n, err := strconv.ParseUint(string(name[4:]), 10, 16)
		return Type(n), err == nil
	}
	return 0, false
}

// AppendRCODE appends the name of an RCODE, or its number if it has none.
func AppendRCODE(dst []byte, rcode RCODE) []byte {
	for i := range rcodes {
		if rcodes[i].number == uint16(rcode) {
			return append(dst, rcodes[i].name...)
		}
	}
	return strconv.AppendUint(append(dst, "RCODE"...), uint64(rcode), 10)
}

// AppendType appends the name of a type, or TYPE123.
func AppendType(dst []byte, t Type) []byte {
	for i := range types {
		if types[i].number == uint16(t) {
			return append(dst, types[i].name...)
		}
	}
	return strconv.AppendUint(append(dst, "TYPE"...), uint64(t), 10)
}

// AppendClass appends NODATA, HigherRCODE or the name of an RCODE.
func AppendClass(dst []byte, c Class) []byte {
	switch c {
	case NODATA:
		return append(dst, "NODATA"...)
	case HigherRCODE:
		return append(dst, "a higher RCODE"...)
	}
	return AppendRCODE(dst, RCODE(c))
}

func byName(list []named, name []byte) (uint16, bool) {
	for i := range list {
		if s := list[i].name; len(s) == len(name) && equalUpper(s, name) {
			return list[i].number, true
		}
	}
	return 0, false
}

func equalUpper(upper string, b []byte) bool {
	for i := range b {
		if lower(upper[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}
