package upstream

import (
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weirdns/weir/host/message"
)

// TestUDPGSO: queries of one batch to a server pass through the system as one, unless that is switched off. A server that takes what comes as it comes (UDP_GRO) sees the difference.
func TestUDPGSO(t *testing.T) {
	const queries = 5
	for mode, want := range map[string]int{UDPGSOOn: 1, UDPGSOOff: queries} {
		t.Run(mode, func(t *testing.T) {
			server, err := net.ListenPacket("udp4", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			raw, err := server.(*net.UDPConn).SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			if e := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_GRO, 1) }); e != nil || err != nil {
				t.Skipf("the system does not know UDP_GRO: %v, %v", e, err)
			}
			g := group(t, Config{Servers: []string{server.LocalAddr().String()}, UDPGSO: mode}, Env{})
			var batch message.Batch
			var ended sync.WaitGroup
			size := 0
			for range queries {
				transaction := &message.Transaction{Query: query(t, "www.test.", message.TypeA), Batch: &batch}
				size = len(transaction.Query.Message)
				ended.Add(1)
				transaction.Done = func() {
					if transaction.Err != nil {
						t.Error(transaction.Err)
					}
					ended.Done()
				}
				if g.Start(transaction) {
					t.Fatalf("ended at once: %v", transaction.Err)
				}
			}
			batch.Flush()
			server.SetReadDeadline(time.Now().Add(patience))
			reads, buf := 0, make([]byte, 4096)
			for octets := 0; octets < queries*size; reads++ {
				n, from, err := server.ReadFrom(buf)
				if err != nil || n%size != 0 {
					t.Fatalf("after %d octets: %d more, %v; want %d for each query", octets, n, err, size)
				}
				octets += n
				for at := 0; at < n; at += size {
					server.WriteTo(echoed(buf[at:at+size]), from)
				}
			}
			if reads != want {
				t.Errorf("%d queries came with %d reads, want %d", queries, reads, want)
			}
			ended.Wait()
		})
	}
}
