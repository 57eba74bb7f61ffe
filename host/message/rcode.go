package message

import "strconv"

// RCODEs, from the IANA registry "DNS RCODEs". Values above 15 need EDNS.
const (
	NOERROR   = 0
	FORMERR   = 1
	SERVFAIL  = 2
	NXDOMAIN  = 3
	NOTIMP    = 4
	REFUSED   = 5
	YXDOMAIN  = 6
	YXRRSET   = 7
	NXRRSET   = 8
	NOTAUTH   = 9
	NOTZONE   = 10
	DSOTYPENI = 11
	BADVERS   = 16
	BADCOOKIE = 23
)

// Ignore is not an RCODE: [Query.Parse] returns it for what is not to be answered at all.
const Ignore = 0xFFFF

// Classes of responses that are not RCODEs, see [Response.Class]. The numbers are those of the filter ABI.
const (
	ClassNODATA = 24
	ClassOther  = 25
)

var rcodes = map[uint16]string{
	NOERROR: "NOERROR", FORMERR: "FORMERR", SERVFAIL: "SERVFAIL", NXDOMAIN: "NXDOMAIN", NOTIMP: "NOTIMP", REFUSED: "REFUSED",
	YXDOMAIN: "YXDOMAIN", YXRRSET: "YXRRSET", NXRRSET: "NXRRSET", NOTAUTH: "NOTAUTH", NOTZONE: "NOTZONE", DSOTYPENI: "DSOTYPENI",
	BADVERS: "BADVERS", 17: "BADKEY", 18: "BADTIME", 19: "BADMODE", 20: "BADNAME", 21: "BADALG", 22: "BADTRUNC", BADCOOKIE: "BADCOOKIE",
}

// RCODEString returns the mnemonic of an RCODE, or RCODEn.
func RCODEString(rcode uint16) string {
	if s, ok := rcodes[rcode]; ok {
		return s
	}
	return "RCODE" + strconv.Itoa(int(rcode))
}

// INFO-CODEs of Extended DNS Errors that weir gives, RFC 8914 section 4 and the IANA registry.
const (
	EDEOther            = 0
	EDEStaleAnswer      = 3
	EDECachedError      = 13
	EDENotReady         = 14
	EDEBlocked          = 15
	EDEProhibited       = 18
	EDEStaleNXDOMAIN    = 19
	EDENotAuthoritative = 20
	EDENotSupported     = 21
	EDENoReachable      = 22
	EDENetworkError     = 23
	EDEInvalidData      = 24
	EDESynthesized      = 29
)
