// Package upstream asks groups of DNS servers. A [Group] is a message.Resolver; it does not cache (host/cache does, in front of
// it) and knows no policy about names (filters do, above it).
//
//	Resolve ──► policy: which servers, in which order
//	               │ up to 3 tries, a new one when the last is overdue; the earlier ones stay open, the first answer wins
//	               ├──► UDP: one of 16 connected sockets, random port and ID ──► no match? keep waiting
//	               ├──► TCP, TLS: a persistent connection shared with other queries, answers in any order
//	               └──► HTTPS, QUIC: the same, by libraries, with a goroutine for each query
//
// What a server says is passed on, SERVFAIL and REFUSED too: to ask elsewhere because of an RCODE is the job of a filter. What
// is not an answer to the very query sent is ignored until the deadline (RFC 5452 section 9.1): an attacker who can make a resolver
// give up, by garbage or ICMP errors, wins as surely as one who can make it believe.
//
// # When a try leads to another
//
//   - no response in time: the next server, or the same again, while there are tries left (3 in all, RFC 9520 section 3.1)
//   - no response in time, and a probe for that name came back to weir: the next server, and never the same one (loop.go)
//   - an ICMP error or a refused connection: the next server at once. The socket stays open, for the ICMP may be forged. Only when
//     every try has met an error, and a moment of grace has passed, is that the end
//   - TC: the same server over TCP, unless its transport is "udp"; the next server if this one is known not to respond over TCP
//   - 8 responses that do not match: UDP is not trusted any more for this query, it is asked over TCP
//   - a response in which only the case of the QNAME differs: TCP
//   - with cookies: BADCOOKIE, once more with the cookie that came with it, and then TCP; no cookie from a server that had one, TCP
//   - FORMERR, NOTIMP or BADVERS without an OPT record: once without EDNS (RFC 6891 section 7)
//   - a TCP connection that broke: once on a new one
package upstream
