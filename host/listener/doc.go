// Package listener has the sockets that clients send their queries to, and the framing of DNS over UDP and TCP.
//
//	UDP socket ─┐                             done ──────────► Response.Finish ─► socket
//	            ├─► Query.Parse ─► Handler.Begin
//	TCP stream ─┘                             not done ─► UDP: Starter.Start, and again when it is woken ─► Response.Finish ─► socket
//	                                                      TCP: goroutine: Handler.Complete ───────────────► Response.Finish ─► socket
//
// What can be answered without waiting is answered by the goroutine that read it, without an allocation and without a channel. Everything
// else waits, and there is a bounded number of queries that do: over UDP without a goroutine if the handler can, else on one of its own.
//
// The package decides nothing about a query but whether it is one. Policy is the handler's, so that it can't differ by transport.
package listener
