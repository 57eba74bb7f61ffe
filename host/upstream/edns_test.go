package upstream

import (
	"crypto/tls"
	"encoding/hex"
	"net/netip"
	"sync"
	"testing"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/host/message"
)

// TestClientSubnet looks at the options that a server gets. What the client says about itself is never among them.
func TestClientSubnet(t *testing.T) {
	for _, tt := range []struct{ name, subnet, want string }{
		{"default", "", ""},
		{"strip", "strip", ""},
		{"set", "set 192.0.2.0/24", "0008000700011800c00002"},
		{"odd length", "set 192.0.2.128/25", "0008000800011900c0000280"},
		{"IPv6", "set 2001:db8::/56", "0008000b0002380020010db8000000"},
		{"not to be added", "set 0.0.0.0/0", "0008000400010000"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var mu sync.Mutex
			var got []string
			addr := script(t, func(query []byte, send func([]byte), _ netip.AddrPort) {
				m := new(dns.Msg)
				if err := m.Unpack(query); err != nil || m.IsEdns0() == nil {
					t.Errorf("got %x, error %v", query, err)
					return
				}
				mu.Lock()
				got = append(got, hex.EncodeToString(query[12+10+4+11:]))
				mu.Unlock()
				send(answer(query, "192.0.2.1"))
			}, nil)
			g := group(t, Config{Servers: []string{addr.String()}, ClientSubnet: tt.subnet}, Env{})
			m := new(dns.Msg).SetQuestion("www.test.", dns.TypeA)
			m.SetEdns0(1232, false)
			m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 24, Address: []byte{198, 51, 100, 0}}}
			octets, err := m.Pack()
			if err != nil {
				t.Fatal(err)
			}
			q := new(message.Query)
			if rcode, ok := q.Parse(octets); !ok {
				t.Fatalf("RCODE %d", rcode)
			}
			if got, want := ask(t, g, q), "NOERROR 192.0.2.1"; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			mu.Lock()
			defer mu.Unlock()
			for _, options := range got {
				if options != tt.want {
					t.Errorf("options %s, want %s", options, tt.want)
				}
			}
		})
	}
}

// TestRFC6840Trusted: AD counts from servers that are trusted and encrypted only, and these are asked for it by AD (sections 5.7 and 5.8).
func TestRFC6840Trusted(t *testing.T) {
	a, certificate := authority(t)
	authentic := func(want bool) func(query []byte) []byte {
		return func(query []byte) []byte {
			if got := query[3]&message.FlagAD != 0; got != want {
				t.Errorf("query with AD %t, want %t", got, want)
			}
			msg := answer(query, "192.0.2.1")
			msg[3] |= message.FlagAD
			return msg
		}
	}
	clear := script(t, func(query []byte, send func([]byte), _ netip.AddrPort) { send(authentic(false)(query)) }, nil)
	serve := func(want bool) netip.AddrPort {
		return scriptTLS(t, serverTLS(certificate), func(conn *tls.Conn) {
			frames(conn, func(query []byte) { conn.Write(frame(authentic(want)(query))) })
		})
	}
	for _, tt := range []struct {
		name string
		c    Config
		want bool
	}{
		{"in clear text", Config{Servers: []string{clear.String()}}, false},
		{"encrypted", Config{Servers: []string{tlsServer(serve(false))}, CA: a.File}, false},
		{"encrypted and trusted", Config{Servers: []string{tlsServer(serve(true))}, CA: a.File, Trusted: true}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := group(t, tt.c, Env{})
			r, err := g.Resolve(t.Context(), query(t, "www.test.", dns.TypeA), nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := r.Message[3]&message.FlagAD != 0; got != tt.want {
				t.Errorf("AD %t, want %t", got, tt.want)
			}
		})
	}
}
