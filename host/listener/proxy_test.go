package listener

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/weirdns/weir/host/internal/fuzzing"
	"github.com/weirdns/weir/host/message"
	mt "github.com/weirdns/weir/host/message/messagetest"
)

// proxyHeader is a header as load balancers write it; kind is the octet with family and protocol.
func proxyHeader(command, kind byte, source, destination netip.AddrPort, tlvs ...byte) []byte {
	body := mt.Join(source.Addr().AsSlice(), destination.Addr().AsSlice())
	body = binary.BigEndian.AppendUint16(body, source.Port())
	body = binary.BigEndian.AppendUint16(body, destination.Port())
	body = append(body, tlvs...)
	head := append(bytes.Clone(proxySignature), 0x20|command, kind)
	return append(binary.BigEndian.AppendUint16(head, uint16(len(body))), body...)
}

var (
	v4 = netip.MustParseAddrPort("192.0.2.7:5353")
	v6 = netip.MustParseAddrPort("[2001:db8::7]:5353")
)

// headers are headers with what has to come of them.
var headers = []struct {
	name   string
	header []byte
	want   netip.AddrPort // the zero AddrPort for who sent it
	bad    bool
}{
	{"TCP over IPv4", proxyHeader(1, 0x11, v4, v4), v4, false},
	{"UDP over IPv4", proxyHeader(1, 0x12, v4, v4), v4, false},
	{"TCP over IPv6", proxyHeader(1, 0x21, v6, v6), v6, false},
	{"UDP over IPv6", proxyHeader(1, 0x22, v6, v6), v6, false},
	{"IPv4 in IPv6", proxyHeader(1, 0x21, netip.MustParseAddrPort("[::ffff:192.0.2.7]:5353"), v6), v4, false},
	{"TLVs", proxyHeader(1, 0x11, v4, v4, 3, 0, 4, 1, 2, 3, 4, 0xEE, 0, 0), v4, false},
	{"many TLVs", proxyHeader(1, 0x11, v4, v4, make([]byte, 536)...), v4, false},
	{"local", proxyHeader(0, 0, v4, v4), netip.AddrPort{}, false},
	{"local, without addresses", append(bytes.Clone(proxySignature), 0x20, 0, 0, 0), netip.AddrPort{}, false},
	{"unspecified", proxyHeader(1, 0, v4, v4), netip.AddrPort{}, false},
	{"no header", mt.Canary(), netip.AddrPort{}, true},
	{"version 1", []byte("PROXY TCP4 192.0.2.7 192.0.2.8 5353 53\r\n"), netip.AddrPort{}, true},
	{"version 3", append(bytes.Clone(proxySignature), 0x31, 0x11, 0, 0), netip.AddrPort{}, true},
	{"another command", proxyHeader(2, 0x11, v4, v4), netip.AddrPort{}, true},
	{"another family", proxyHeader(1, 0x31, v4, v4), netip.AddrPort{}, true},
	{"another protocol", proxyHeader(1, 0x13, v4, v4), netip.AddrPort{}, true},
	{"no addresses", append(bytes.Clone(proxySignature), 0x21, 0x11, 0, 0), netip.AddrPort{}, true},
	{"addresses of IPv4 for IPv6", proxyHeader(1, 0x21, v4, v4), netip.AddrPort{}, true},
	{"too large", proxyHeader(1, 0x11, v4, v4, make([]byte, 2040)...), netip.AddrPort{}, true},
}

func TestProxyHeaders(t *testing.T) {
	from := netip.MustParseAddrPort("198.51.100.1:4000")
	for _, tt := range headers {
		t.Run(tt.name, func(t *testing.T) {
			want := tt.want
			if !want.IsValid() {
				want = from
			}
			rest, client, err := cutProxyHeader(mt.Join(tt.header, mt.Canary()), from)
			if (err != nil) != tt.bad || !tt.bad && (client != want || !bytes.Equal(rest, mt.Canary())) {
				t.Errorf("in a datagram: got %v, %x, %v", client, rest, err)
			}
			stream := bytes.NewReader(mt.Join(tt.header, mt.Canary()))
			client, err = readProxyHeader(stream, from)
			if (err != nil) != tt.bad || !tt.bad && (client != want || stream.Len() != len(mt.Canary())) {
				t.Errorf("of a connection: got %v, %v, and %d octets left", client, err, stream.Len())
			}
		})
	}
	whole := headers[2].header
	for n := range whole {
		if _, _, err := cutProxyHeader(whole[:n], from); !errors.Is(err, errProxy) {
			t.Errorf("%d octets of it: got %v", n, err)
		}
	}
}

func TestProxyProtocol(t *testing.T) {
	r := startSecured(t, nil, Config{Protocols: []string{"tls", "udp"}, ProxyProtocol: []string{"127.0.0.0/8"}})
	plain := start(t, nil, Config{ProxyProtocol: []string{"127.0.0.1"}})
	for _, tt := range headers {
		t.Run(tt.name, func(t *testing.T) {
			ask := func(network string) ([]byte, error) {
				c := plain.dial(t, network)
				if network == "udp" {
					c.Write(mt.Join(tt.header, mt.Canary()))
					c.SetReadDeadline(time.Now().Add(limit))
					if tt.bad {
						c.SetReadDeadline(time.Now().Add(30 * time.Millisecond))
					}
					buf := make([]byte, 512)
					n, err := c.Read(buf)
					return buf[:n], err
				}
				c.Write(mt.Join(tt.header, framed(mt.Canary())))
				return io.ReadAll(io.LimitReader(c, 14))
			}
			for _, network := range networks {
				got, err := ask(network)
				if answered := err == nil && len(got) > 0; answered == tt.bad {
					t.Errorf("%s: got %x, %v", network, got, err)
				}
				if q := plain.script; !tt.bad && tt.want.IsValid() && q.last().Client != tt.want {
					t.Errorf("%s: the handler saw %v, want %v", network, q.last().Client, tt.want)
				}
			}
			c := r.dial(t, "tcp")
			c.Write(tt.header)
			secure := tls.Client(c, r.client("dot"))
			err := secure.Handshake()
			if (err != nil) != tt.bad {
				t.Errorf("over TLS: got %v", err)
			}
			if !tt.bad {
				exchange(t, secure, mt.Canary())
			}
		})
	}
}

// TestProxyNetworks: who is not trusted can't say that it is somebody else.
func TestProxyNetworks(t *testing.T) {
	r := start(t, nil, Config{ProxyProtocol: []string{"192.0.2.0/24"}})
	for _, network := range networks {
		exchange(t, r.dial(t, network), mt.Canary())
		if got := r.last().Client.Addr().String(); got != "127.0.0.1" {
			t.Errorf("%s: the handler saw %s", network, got)
		}
	}
	c := r.dial(t, "udp")
	if got := exchange(t, c, mt.Join(headers[0].header, mt.Canary())); len(got) > 12 && unpack(t, got).Rcode == message.NOERROR {
		t.Errorf("a header from somebody else: got %x", got)
	}
	if got := r.last().Client; got == v4 {
		t.Error("a header from somebody else was believed")
	}
}

// TestProxyHTTPS: over HTTP/3, which has no place for a header, nobody is taken for a load balancer's client.
func TestProxyHTTPS(t *testing.T) {
	config := overHTTPS()
	config.ProxyProtocol = []string{"127.0.0.1"}
	r := startSecured(t, nil, config)
	c := r.http(t, "HTTP/3.0")
	c.Timeout = time.Second
	if resp, err := c.Do(request(t, "GET", r.url(encoded(mt.Canary())), nil)); err == nil {
		resp.Body.Close()
		t.Errorf("got %s", resp.Status)
	}
	nc := r.dial(t, "tcp")
	nc.Write(headers[0].header)
	secure := tls.Client(nc, r.client("http/1.1"))
	if _, err := fmt.Fprintf(secure, "GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", encoded(mt.Canary())); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(secure); err != nil || !bytes.HasPrefix(got, []byte("HTTP/1.1 200 ")) {
		t.Errorf("got %q, %v", got, err)
	}
	if got := r.last().Client; got != v4 {
		t.Errorf("the handler saw %v", got)
	}
}

// TestProxyLimits: connections count for the client that they are of, and those that do not say so end.
func TestProxyLimits(t *testing.T) {
	r := start(t, func(l *Listener) { l.handshakeTimeout = 100 * time.Millisecond }, Config{ProxyProtocol: []string{"127.0.0.1"}, TCPMaxClients: 50, TCPMaxPerClient: 2})
	open := func(client string) net.Conn {
		c := r.dial(t, "tcp")
		c.Write(proxyHeader(1, 0x11, netip.MustParseAddrPort(client), v4))
		exchange(t, c, mt.Canary())
		return c
	}
	first := open("192.0.2.1:1")
	var others []net.Conn
	for i := range 10 {
		others = append(others, open(netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), 1).String()))
	}
	open("192.0.2.1:2")
	open("192.0.2.1:3")
	wantEnd(t, first) // its client has two others
	for _, c := range others {
		exchange(t, c, mt.Canary())
	}
	silent := r.dial(t, "tcp")
	silent.Write(headers[0].header[:20])
	if _, err := io.Copy(io.Discard, silent); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("a connection without a whole header is still open")
	}
}

// FuzzProxyHeader: whatever the octets are, a datagram and a connection are understood alike, and nothing behind the header is taken.
func FuzzProxyHeader(f *testing.F) {
	for _, tt := range headers {
		f.Add(tt.header)
		f.Add(mt.Join(tt.header, mt.Canary()))
	}
	from := netip.MustParseAddrPort("198.51.100.1:4000")
	f.Fuzz(func(t *testing.T, octets []byte) {
		var rest []byte
		var stream *bytes.Reader
		var client, again netip.AddrPort
		var err, errAgain error
		fuzzing.Bounded(t, 0, 2*maxProxyHeader, func() {
			rest, client, err = cutProxyHeader(octets, from)
			stream = bytes.NewReader(octets)
			again, errAgain = readProxyHeader(stream, from)
		})
		if (err == nil) != (errAgain == nil) {
			t.Fatalf("a datagram: %v, a connection: %v", err, errAgain)
		}
		if err != nil {
			return
		}
		if client != again || stream.Len() != len(rest) || !bytes.HasSuffix(octets, rest) || !client.IsValid() || client.Addr().Is4In6() {
			t.Fatalf("got %v and %v, %d and %d octets left", client, again, len(rest), stream.Len())
		}
	})
}
