//go:build !race

package host

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"

	"github.com/weirdns/weir/host/chain"
	"github.com/weirdns/weir/host/message"
)

// What has to wait for an upstream makes no allocation in the host but now and then, which AllocsPerRun rounds down: each 256th query opens a socket
// to the upstream, each some thousandth one a segment of the cache, and maps grow.
func TestMissAllocations(t *testing.T) {
	s := hotBefore(t, plain(t), 100, 100)
	e := entryOf(s)
	const runs = 2000
	exchanges := make([]*chain.Exchange, runs+1) // AllocsPerRun has a run before
	for i := range exchanges {
		exchanges[i] = exchangeFor(t, fmt.Sprintf("new%d.example.", i))
	}
	x := new(chain.Exchange)
	woken := make(chan struct{}, 1)
	x.Wake = func() { woken <- struct{}{} }
	i := 0
	if n := testing.AllocsPerRun(runs, func() {
		x.Query, x.Batch = exchanges[i].Query, nil
		i++
		for done := e.Begin(x); !done; {
			if done = e.Start(x); !done {
				<-woken
			}
		}
		if x.Response.RCODE != message.NOERROR {
			t.Fatalf("got %s", message.RCODEString(x.Response.RCODE))
		}
	}); n != 0 {
		t.Errorf("%v allocations for a miss, want none", n)
	}
}

// plain is an upstream that makes no allocations: it answers each query with an A record.
func plain(t testing.TB) netip.AddrPort {
	t.Helper()
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		buf := make([]byte, 4096)
		for {
			n, client, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			msg := buf[:n-11] // without the OPT
			msg[2], msg[7], msg[11] = msg[2]|0x80, 1, 0
			msg = append(msg, 0xC0, 12, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4, 192, 0, 2, 1)
			conn.WriteToUDPAddrPort(msg, client)
		}
	})
	t.Cleanup(func() {
		conn.Close()
		serving.Wait()
	})
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}
