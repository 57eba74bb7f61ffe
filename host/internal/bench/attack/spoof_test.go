//go:build linux

package attack

import (
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/host/internal/loopback"
)

// TestSpoof: what a proxy takes for an answer is counted as what it is, and the control tells whether a forged response could be one.
func TestSpoof(t *testing.T) {
	for _, tt := range []struct {
		name              string
		respond           func(query *dns.Msg, upstream string) *dns.Msg // of the proxy
		control, accepted bool
	}{
		{"a proxy that looks at port, ID and question", func(q *dns.Msg, upstream string) *dns.Msg {
			m, err := dns.Exchange(q, upstream)
			if err != nil {
				return nil
			}
			return m
		}, true, false},
		{"one that takes what is forged", func(q *dns.Msg, _ string) *dns.Msg {
			wire, err := response(q, forged)
			m := new(dns.Msg)
			if err != nil || m.Unpack(wire) != nil {
				return nil
			}
			return m
		}, true, true},
		{"one whose packets nobody can forge", func(q *dns.Msg, _ string) *dns.Msg {
			wire, err := response(q, truth)
			m := new(dns.Msg)
			if err != nil || m.Unpack(wire) != nil {
				return nil
			}
			return m
		}, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			upstream := int(netip.MustParseAddrPort(loopback.Common(t)).Port())
			pc, err := net.ListenPacket("udp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			proxy := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
				if m := tt.respond(q, local(upstream)); m != nil {
					w.WriteMsg(m) //nolint:errcheck // the client tells
				}
			})}
			go proxy.ActivateAndServe() //nolint:errcheck // as above
			defer proxy.Shutdown()      //nolint:errcheck // as above
			var out bytes.Buffer
			err = Spoof([]string{"-udp", strconv.Itoa(portOf(pc.LocalAddr())), "-upstream", strconv.Itoa(upstream), "-time", "700ms"}, strings.NewReader("\n"), &out)
			if errors.Is(err, syscall.EPERM) && os.Geteuid() != 0 {
				t.Skip("a raw socket needs root")
			}
			if err != nil {
				t.Fatal(err)
			}
			var got Spoofed
			if err := json.Unmarshal(bytes.TrimPrefix(out.Bytes(), []byte("\n")), &got); err != nil {
				t.Fatal(err)
			}
			if got.Control != tt.control || (got.Accepted > 0) != tt.accepted || (got.Answered > 0) == tt.accepted || got.Sent == 0 || got.Ports == 0 || got.Queries == 0 {
				t.Errorf("got %+v", got)
			}
		})
	}
}
