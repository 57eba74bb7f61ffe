// Package sdk is what the author of a weir filter in Go imports. A filter is a package main that registers itself:
//
//	package main
//
//	import "github.com/weirdns/weir/sdk"
//
//	func init() { sdk.Register(newFilter()) }
//
//	func main() {}
//
//	// newFilter answers REFUSED to everything that is not asked over TCP.
//	func newFilter() sdk.Filter {
//		return sdk.Filter{Query: func(q sdk.Query) sdk.Verdict {
//			if q.Transport() != sdk.UDP {
//				return sdk.Next
//			}
//			return q.RespondRCODE(sdk.REFUSED, sdk.Prohibited)
//		}}
//	}
//
// "weir filter new NAME" makes a folder with such a program, its manifest and its tests, and this package beside it, so that all of it works
// offline; "weir filter build" compiles it, and puts the manifest into the module. They do what these commands do:
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -ldflags="-s -w" -o tcponly.wasm .
//	go run github.com/weirdns/weir/sdk/pack -manifest filter.json tcponly.wasm
//
// The same source runs natively: package sdktest calls a [Filter] as the host calls a module, so that a filter is tested with
// go test, and by "weir filter test" with the same cases as Wasm.
//
// # Where things are
//
//   - what a call is about: [Call], [Query], [Response]; the question, the client, the transport, EDNS and its options ([Query.Options])
//   - reading a message: [Message.Records], and of each record [Records.Address], [Records.AppendTarget], [Records.Strings] and so on
//   - what to do: the verdicts [Next] and [Drop], [Call.RespondRCODE], [Call.Respond], [Query.Forward], [Query.Rewrite], [Call.Ask], [Response.Forward]
//   - making a response: [Builder], with [Builder.Address], [Builder.Target], [Builder.NegativeSOA], or [Builder.Copy] of another response
//   - configuration: [Config]; names that the host looks up: [Config.AddName], [Query.FoundName], or the filter itself: [Suffixes]; data that weir
//     holds: [Table]
//   - telling people: [Call.Explain], [Log], [LogLine], [Config.Counter], [Config.Histogram]
//   - names in wire format: [AppendName], [AppendText], [IsWithin], [EqualFold]; addresses: [AppendAddress], [AppendAddressText]
//
// # Memory
//
// Everything on the way of a query works on octets in buffers that exist once for each instance, and allocates nothing: a
// garbage collection in the middle of a query would cost more than all filters together. A filter of its own keeps to that
// by allocating in Configure only. Names are in wire format (RFC 1035 section 3.1); those of the frame and of tables are
// canonical, which is in lower case (RFC 4034 section 6.2).
//
// # Size
//
// The runtime of stock Go is 1.8 MB of WebAssembly, and every instance starts it. This package adds little to that, because
// it stays away from fmt, reflect, encoding/json, regexp, net and time; a filter does well to do the same.
//
// The contract that this package implements is abi/README.md.
package sdk
