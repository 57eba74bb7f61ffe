package sdktest_test

import (
	"encoding/binary"
	"fmt"

	"github.com/weirdns/weir/abi"
	"github.com/weirdns/weir/sdk"
	"github.com/weirdns/weir/sdk/sdktest"
)

// Example has a filter see one query, step by step. Tests of filters rather use Run and files of cases.
func Example() {
	newFilter := func() sdk.Filter {
		return sdk.Filter{Query: func(q sdk.Query) sdk.Verdict {
			if q.Transport() != sdk.UDP {
				return sdk.Next
			}
			return q.RespondRCODE(sdk.REFUSED, sdk.Prohibited)
		}}
	}
	file, err := sdktest.ParseFile("tcponly", []byte("-- config.json --\n{}\n"))
	if err != nil {
		panic(err)
	}
	host, err := sdktest.NewHost(file)
	if err != nil {
		panic(err)
	}
	filter, err := sdktest.Native(newFilter)(host)
	if err != nil {
		panic(err)
	}
	filter.Configure(len(host.Document()))
	for transport, name := range []string{"UDP", "TCP"} {
		frame := filter.Frame()
		frame[abi.FrameTransport] = byte(transport)
		binary.LittleEndian.PutUint16(frame[abi.FrameEDE:], abi.None)
		result, _ := filter.Call(abi.PhaseQuery)
		verdict, rcode, _, _ := abi.Unpack(result)
		fmt.Println(name, verdict, rcode, binary.LittleEndian.Uint16(filter.Frame()[abi.FrameEDE:]))
	}
	// Output:
	// UDP 1 5 18
	// TCP 0 0 65535
}
