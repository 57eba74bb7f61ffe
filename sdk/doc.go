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
// It is built with the Go toolchain alone, and gets its manifest with sdk/pack:
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -ldflags="-s -w" -o tcponly.wasm .
//	go run github.com/weirdns/weir/sdk/pack -manifest filter.json tcponly.wasm
//
// The same source runs natively: package sdktest calls a [Filter] as the host calls a module, so that a filter is tested with
// go test, and with the same cases as Wasm.
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
