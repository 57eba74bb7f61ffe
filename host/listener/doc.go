// Package listener has the sockets that clients send their queries to, and the framing of DNS over UDP and TCP.
//
//	UDP socket ─┐                             done ──────────► Response.Finish ─► socket
//	            ├─► Query.Parse ─► Handler.Begin
//	TCP stream ─┘                             not done ─► goroutine: Handler.Complete ─► Response.Finish ─► socket
//
// What can be answered without waiting is answered by the goroutine that read it, without an allocation and without a channel. Everything
// else waits on a goroutine of its own, of which there is a bounded number.
//
// The package decides nothing about a query but whether it is one. Policy is the handler's, so that it can't differ by transport.
package listener
