// Package abi holds the numbers of the contract between weir and its filters. The contract itself is README.md beside this
// file, which is normative; this package only gives its numbers names, for the host, for the Go SDK and for tests.
//
// It is not an SDK: filters written in Go import package sdk.
package abi

// Version is the version of the contract. A module advertises it by the name of an export, see [Export].
const Version = 1

// Names of exports and sections. README.md sections 1 and 8.
const (
	Export          = "weir_abi_1"    // () -> i32, the address of the frame
	ExportPrefix    = "weir_abi_"     // of the exports of every version
	ExportConfigure = "configure"     // (size i32) -> i64
	ExportQuery     = "query"         // () -> i64
	ExportResponse  = "response"      // () -> i64
	ManifestSection = "weir"          // the custom section with the manifest
	HostModule      = "weir"          // the module of the host functions
	ConfigRead      = "config_read"   // names of the host functions
	NameAdd         = "name_add"      //
	Explain         = "explain"       //
	Log             = "log"           //
	Metric          = "metric"        //
	MetricAdd       = "metric_add"    //
	TableGet        = "table_get"     //
	TableLongest    = "table_longest" //
	TableNext       = "table_next"    //
	TablePrefix     = "table_prefix"  //
)

// Offsets into the frame, in octets. README.md section 2.
const (
	FramePhase     = 0
	FrameFlags     = 1
	FrameTransport = 2
	FrameAttempt   = 3
	FrameListener  = 4
	FrameScope     = 6
	FrameQtype     = 8
	FrameQclass    = 10
	FrameRcode     = 12
	FrameClass     = 14
	FrameCookie    = 16
	FramePort      = 24
	FrameFamily    = 26
	FrameLabels    = 27
	FrameQnameSize = 28
	FrameEDE       = 30
	FrameAddress   = 32
	FrameSize      = 48
	FrameQuestion  = 52
	FrameUpstream  = 54
	FrameLimit     = 56
	FrameTable     = 58 // this and the next three: what the host found before the call, see [InterestLookup]
	FrameMatched   = 60
	FrameValue     = 64
	FrameValueSize = 68
	FrameHeader    = 128 // octets of the fixed header, and offset of the QNAME
	FrameQname     = 128
	FrameMessage   = 384
	FrameTotal     = 65920 // octets of the whole frame
)

// Phases.
const (
	PhaseQuery    = 1
	PhaseResponse = 2
)

// Bits of the flags of the frame.
const (
	FlagExplain   = 1 << 0
	FlagForwarded = 1 << 1
	FlagSilent    = 1 << 2
	FlagAsked     = 1 << 3
	FlagEDNS      = 1 << 4
	FlagDO        = 1 << 5
)

// None is what 16-bit fields hold for "there is none": scope, upstream and EDE.
const None = 0xFFFF

// Verdicts. README.md section 3.
const (
	Next    = 0
	Respond = 1
	Forward = 2
	Rewrite = 3
	Drop    = 4
	Ask     = 5
	Kept    = 6
)

// Bits of the argument of Forward in the response phase.
const (
	ForwardOriginal = 1 << 0 // ask the client's own question
	ForwardKeep     = 1 << 1 // keep the present message
	ForwardSettle   = 1 << 2 // an answer to it is the response, without another call
)

// MaxRounds is how many verdicts Ask, and Forward in the response phase, a filter may give for one query.
const MaxRounds = 8

// Kinds of responses beyond the RCODEs below 24, as in the field class and in the bits of an interest.
const (
	ClassNODATA = 24
	ClassOther  = 25
)

// Bits of the result of configure. README.md section 4.
const (
	InterestClasses = 1<<26 - 1 // the bits of the response classes
	InterestQuery   = 1 << 32
	InterestFinal   = 1 << 33
	InterestLookup  = 1 << 34 // the host looks the QNAME up before query, and does not call it for names that no table holds
)

// Limits of the host functions. README.md section 5.
const (
	MaxHostCalls    = 1000
	MaxHostOctets   = 1 << 20
	MaxExplainLines = 16
	MaxExplainSize  = 256
	MaxLogSize      = 1024
	MaxLogRate      = 10 // lines a second
	MaxMetrics      = 32
	MaxNameOctets   = 6 << 20 // of a filter's own names, of which each counts with NameOverhead octets more
	NameOverhead    = 24
)

// NameFull is what name_add returns when there is no room. README.md section 5.
const NameFull = -1 << 31

// Kinds of metrics.
const (
	MetricCounter   = 0
	MetricHistogram = 1
)

// Bits of the flags of a node of a zone table. README.md section 6.
const (
	NodeApex     = 1 << 0
	NodeCut      = 1 << 1
	NodeDNAME    = 1 << 2
	NodeCNAME    = 1 << 3
	NodeWildcard = 1 << 4
	NodeEmpty    = 1 << 5
)

// Kinds of tables, as in the configuration document.
const (
	TableZone     = "zone"
	TableNames    = "names"
	TablePrefixes = "prefixes"
	TableHosts    = "hosts"
)

// Pack makes the i64 that a filter returns. README.md section 3.
func Pack(verdict, argument uint8, length uint16, offset uint32) uint64 {
	return uint64(verdict)<<56 | uint64(argument)<<48 | uint64(length)<<32 | uint64(offset)
}

// Unpack takes the i64 that a filter returned apart.
func Unpack(v uint64) (verdict, argument uint8, length uint16, offset uint32) {
	return uint8(v >> 56), uint8(v >> 48), uint16(v >> 32), uint32(v)
}
