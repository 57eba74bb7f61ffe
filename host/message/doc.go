// Package message reads and writes DNS messages as octets.
//
// It is the one place where octets from outside are parsed, by one parser, so that the proxy, its filters and the upstreams all
// see the same message (the root of request smuggling is two parsers that disagree). A query is parsed once, into a [Query] that
// keeps offsets into the octets; a response is checked once, into a [Response]. Neither allocates.
//
//	listener ── Query.Parse ──► chain ── filters, upstreams ──► Response ── Finish ──► listener
//
// EDNS is hop by hop (RFC 6891 section 6.1.1), so inside weir a response has no OPT record: what was in it that matters, the
// extended RCODE and Extended DNS Errors (RFC 8914), is in the fields of Response. Each hop writes an OPT of its own.
//
// The package is not a DNS library: it does not know most record types, and nothing here is for zone files or for printing.
package message
