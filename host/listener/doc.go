// Package listener has the sockets that clients send their queries to, and the framing of DNS over UDP, TCP, TLS, HTTPS and QUIC.
//
//	UDP socket ──────┐                             done ──────────► Response.Finish ─► socket
//	TCP, TLS stream ─┼─► Query.Parse ─► Handler.Begin
//	HTTP request ────┤                             not done ─► UDP: Starter.Start, and again when it is woken ─► Response.Finish ─► socket
//	QUIC stream ─────┘                                         else a goroutine: Handler.Complete ─────────────► Response.Finish ─► socket
//
// TLS is crypto/tls on the streams of TCP, and all else is the same for both. HTTP/1.1 and HTTP/2 are net/http on connections with TLS, HTTP/3 and QUIC are
// quic-go. Connections of all kinds are in one registry, which bounds them and ends them.
//
// What can be answered without waiting is answered by the goroutine that read it, without an allocation and without a channel. Everything
// else waits, and there is a bounded number of queries that do: over UDP without a goroutine if the handler can, else on one of its own.
//
// The package decides nothing about a query but whether it is one. Policy is the handler's, so that it can't differ by transport.
package listener
