package upstream

import (
	"encoding/hex"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/host/message"
)

// subnetQuery is a query from a client with this address, that says client subnet, in hex as in the option, if that is not empty.
func subnetQuery(t testing.TB, client, option string) *message.Query {
	t.Helper()
	m := new(dns.Msg).SetQuestion("www.test.", dns.TypeA)
	if option != "" {
		m.SetEdns0(1232, false)
		data, err := hex.DecodeString(option)
		if err != nil {
			t.Fatal(err)
		}
		m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_LOCAL{Code: message.OptionSubnet, Data: data}}
	}
	octets, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	q := new(message.Query)
	if rcode, ok := q.Parse(octets); !ok {
		t.Fatalf("RCODE %d", rcode)
	}
	if client != "" {
		q.Client = netip.AddrPortFrom(netip.MustParseAddr(client), 5353)
	}
	return q
}

// sentOption returns the options of a query as it was sent, in hex.
func sentOption(t testing.TB, query []byte) string {
	m := new(dns.Msg)
	if err := m.Unpack(query); err != nil || m.IsEdns0() == nil {
		t.Errorf("got %x, error %v", query, err)
		return ""
	}
	return hex.EncodeToString(query[12+len("\x03www\x04test\x00")+4+11:])
}

// TestRFC7871Forward: an upstream is told what the client says of its network, or else the client's address, in as few octets as have bits, up to the
// limits, with zeros behind them; a client that says 0 is not given away (RFC 7871 sections 6, 7.1.1 and 7.1.2).
func TestRFC7871Forward(t *testing.T) {
	for _, tt := range []struct{ name, subnet, client, option, want string }{
		{"address", "forward", "198.51.100.77", "", "00080007000118" + "00c63364"},
		{"IPv6 address", "forward", "2001:db8:1:2ff::1", "", "0008000b000238" + "0020010db8000102"},
		{"mapped address", "forward", "::ffff:198.51.100.77", "", "00080007000118" + "00c63364"},
		{"option", "forward", "198.51.100.77", "00011800c00002", "00080007000118" + "00c00002"},
		{"shorter option", "forward", "198.51.100.77", "00011000c000", "00080006000110" + "00c000"},
		{"longer option", "forward", "198.51.100.77", "00012000c00002ff", "00080007000118" + "00c00002"},
		{"IPv6 option", "forward", "198.51.100.77", "0002400020010db8000102ff", "0008000b000238" + "0020010db8000102"},
		{"limits", "forward /20 /48", "198.51.100.77", "", "00080007000114" + "00c63360"},
		{"limits of IPv6", "forward /20 /41", "2001:db8:ff:2ff::1", "", "0008000a000229" + "0020010db80080"},
		{"opt-out", "forward", "198.51.100.77", "00010000", "0008000400010000"},
		{"opt-out in IPv6", "forward", "198.51.100.77", "00020000", "0008000400010000"},
		{"opt-out without family", "forward", "198.51.100.77", "00000000", "0008000400010000"},
		{"unknown family", "forward", "198.51.100.77", "00091800c00002", "0008000400010000"},
		{"this host", "forward", "127.0.0.1", "", ""},
		{"weir itself", "forward", "", "", ""},
		{"strip", "strip", "198.51.100.77", "00011800c00002", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := make(chan string, 8)
			addr := script(t, func(query []byte, send func([]byte), _ netip.AddrPort) {
				got <- sentOption(t, query)
				send(answer(query, "192.0.2.1"))
			}, nil)
			g := group(t, Config{Servers: []string{addr.String()}, ClientSubnet: tt.subnet}, Env{})
			if got, want := ask(t, g, subnetQuery(t, tt.client, tt.option)), "NOERROR 192.0.2.1"; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			if got := <-got; got != tt.want {
				t.Errorf("options %s, want %s", got, tt.want)
			}
		})
	}
}

// scoped is the answer to a query, with this option.
func scoped(t testing.TB, query []byte, ip, option string) []byte {
	m := new(dns.Msg)
	if err := m.Unpack(answer(query, ip)); err != nil {
		t.Error(err)
	}
	data, err := hex.DecodeString(option)
	if err != nil {
		t.Error(err)
	}
	m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_LOCAL{Code: message.OptionSubnet, Data: data}}
	msg, err := m.Pack()
	if err != nil {
		t.Error(err)
	}
	return msg
}

// TestRFC7871Mismatch: a response with another family, source prefix or address than the query is dropped, and the right one still waited for
// (RFC 7871 section 7.3).
func TestRFC7871Mismatch(t *testing.T) {
	for _, tt := range []struct{ name, wrong string }{
		{"family", "0002181820010d"},
		{"longer source", "00012018c6336400"},
		{"shorter source", "00011010c633"},
		{"address", "00011818c63365"},
		{"too few octets", "00011818c633"},
		{"too many octets", "00011818c6336400"},
		{"nothing", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			addr := script(t, func(query []byte, send func([]byte), _ netip.AddrPort) {
				send(scoped(t, query, "192.0.2.66", tt.wrong))
				send(scoped(t, query, "192.0.2.1", "00011818c63364"))
			}, nil)
			g := group(t, Config{Servers: []string{addr.String()}, ClientSubnet: "forward"}, Env{})
			if got, want := ask(t, g, subnetQuery(t, "198.51.100.77", "")), "NOERROR 192.0.2.1"; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

// TestRFC7871Scope: a response is for as many bits as its scope says, for all without an option, and a scope beyond the source counts as the source
// (RFC 7871 sections 7.2.1, 7.3 and 7.3.1).
func TestRFC7871Scope(t *testing.T) {
	for _, tt := range []struct {
		name, option string
		want         uint8
	}{
		{"as long", "00011818c63364", 24},
		{"shorter", "00011810c63364", 16},
		{"for all", "00011800c63364", 0},
		{"longer", "00011820c63364", 24},
		{"beyond reason", "000118ffc63364", 24},
		{"none", "", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			addr := script(t, func(query []byte, send func([]byte), _ netip.AddrPort) {
				if tt.option == "" {
					send(answer(query, "192.0.2.1"))
					return
				}
				send(scoped(t, query, "192.0.2.1", tt.option))
			}, nil)
			g := group(t, Config{Servers: []string{addr.String()}, ClientSubnet: "forward"}, Env{})
			r, err := g.Resolve(t.Context(), subnetQuery(t, "198.51.100.77", ""), nil)
			if err != nil {
				t.Fatal(err)
			}
			if !r.Tailored || r.Scope != tt.want {
				t.Errorf("tailored %t, scope %d, want true, %d", r.Tailored, r.Scope, tt.want)
			}
		})
	}
}

// TestRFC7871Refused: a REFUSED to a query with a client subnet is followed by one without, and what that brings is for this client only (RFC 7871
// section 7.3).
func TestRFC7871Refused(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		all        bool // are refused
	}{
		{"the subnet", "NOERROR 192.0.2.1", false},
		{"the name", "REFUSED", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var mu sync.Mutex
			var sent []string
			addr := script(t, func(query []byte, send func([]byte), _ netip.AddrPort) {
				option := sentOption(t, query)
				mu.Lock()
				sent = append(sent, option)
				mu.Unlock()
				msg := answer(query, "192.0.2.1")
				if option != "" || tt.all {
					m := new(dns.Msg)
					if err := m.Unpack(query); err != nil {
						t.Error(err)
					}
					var err error
					if msg, err = new(dns.Msg).SetRcode(m, dns.RcodeRefused).Pack(); err != nil {
						t.Error(err)
					}
				}
				send(msg)
			}, nil)
			g := group(t, Config{Servers: []string{addr.String()}, ClientSubnet: "forward"}, Env{})
			q := subnetQuery(t, "198.51.100.77", "")
			if got := ask(t, g, q); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			mu.Lock()
			if want := []string{"0008000700011800c63364", ""}; !slices.Equal(sent, want) {
				t.Errorf("options %q, want %q", sent, want)
			}
			mu.Unlock()
			if r, err := g.Resolve(t.Context(), q, nil); err != nil || !r.Tailored || r.Scope != 24 {
				t.Errorf("tailored %t, scope %d, error %v, want true, 24", r.Tailored, r.Scope, err)
			}
		})
	}
}
