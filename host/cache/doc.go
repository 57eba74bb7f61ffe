// Package cache keeps what upstreams said, in front of one group of servers and below the filters.
//
//	          Cached: never waits       ┌─ store: entries by question, in segments
//	chain ──► Start, ──► Cache ─────────┤
//	          Resolve                   └─ flights: one query per question ──► upstream group
//
// An entry is a whole response under the question that was asked, never a record under a name of its own: whatever else an upstream
// puts into its answer, it can change nothing but the answer to that question (RFC 2181 section 5.4.1, and the many poisonings
// since). A question is QNAME, QTYPE, QCLASS and the bits DO, CD and RD, compared in full. Where the upstream is told the networks of clients
// (RFC 7871), there may be several answers to a question, each for a network.
//
// What becomes of a response, in this order:
//
//  1. Truncated, signed, or about the hop and not the question (an RCODE above 15): passed on, not kept.
//  2. An RCODE other than NOERROR and NXDOMAIN, or none at all: a failure. It is kept for servfail_ttl (RFC 9520), but never takes the
//     place of an answer that can still be given; that answer is given instead when it is stale (RFC 8767 section 5).
//  3. A referral: passed on, not kept.
//  4. NXDOMAIN and NODATA: kept for the TTL and MINIMUM of the SOA (RFC 2308 section 5), without SOA not kept.
//  5. Anything else: kept for its lowest TTL.
//
// With [Cache.Save] and [Cache.Restore], what a store holds outlasts the process, in a file.
//
// The package is not a resolver: it does not follow names, combine answers or synthesize them.
package cache
