// Command bench measures weir beside other servers, on one machine and in one run. README.md says how and what its figures mean; the make targets
// that begin with bench- run it.
//
//	dnsperf, streams or load ──► the server, on CPU 0 ──► upstreams
//	        on CPU 1                                       on CPU 1
//
// The upstreams, the clients over HTTPS and QUIC (streams), the open-loop load, attackers and the new clients beside them, and the pinning of processes are this
// program again, started with other arguments: nothing has to be compiled or installed for them. Figures are processor time of the server, from /proc, over completed queries: throughput and latency
// move with what else the machine does, that hardly does.
package main
