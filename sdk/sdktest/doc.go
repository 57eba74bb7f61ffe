//go:build !wasip1

// Package sdktest tests filters without a host, natively, in go test:
//
//	func TestCases(t *testing.T) { sdktest.Run(t, "testdata/*.txtar", sdktest.Native(newFilter)) }
//
// [Equal] compares two instances, such as the native one and the module, in calls that it makes up.
//
// The cases are files, so that the same ones can be run against the module that the filter is built into; whoever can do that
// gives [Run] another [Open].
//
// # Files of cases
//
// A file is a txtar archive. What stands above the first section is a comment: the story. The sections:
//
//	-- config.json --          the configuration of the filter, as JSON
//	-- upstreams --            the names of the upstreams that it may use, in the order of their indexes, split by blanks
//	-- table NAME KIND --      a table: a zone file if KIND is zone, lines "NAME VALUE" if it is names, "PREFIX VALUE" if it
//	                           is prefixes, "ADDRESS NAME..." if it is hosts
//	-- interest --             optional: what configure must return: queries, lookup, final, responses, and names of classes
//	-- error --                optional: the text that configure must return instead
//	-- cases --                the cases, see below
//
// In cases, an empty line ends a case, and # begins a comment. A case is a query and everything that happens to it:
//
//	query NAME TYPE [CLASS] [do] [edns] [explain] [norec] [forwarded] [over tcp] [from ADDRESS|nobody]
//	verdict VERDICT
//	response CLASS-OR-RCODE [silent] [from UPSTREAM] [asked NAME TYPE]
//	record SECTION RR          a record of that response
//	verdict VERDICT
//
// After "query" and after each "response", with its records, the filter is called, if it said that it is interested, and its
// verdict must be the one that follows. Without interest, the verdict is next; so it is for a NOERROR behind "settle". The verdicts:
//
//	verdict next | drop | kept
//	verdict respond RCODE [aa] [ede N]
//	verdict forward UPSTREAM [original] [keep] [settle]
//	verdict ask NAME TYPE
//	verdict rewrite NAME TYPE
//
// Behind "verdict" come the records of the response, all of them and in this order, and, if the query has "explain", the lines
// that the filter explains, and what it writes to the log, with the level debug, info, warning or error:
//
//	answer RR
//	authority RR
//	additional RR
//	explain TEXT
//	log LEVEL TEXT
//
// Names and records are in presentation format. Names are relative to the root: the last dot may be left out.
package sdktest
