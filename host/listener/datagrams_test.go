package listener

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// kinds are the ways to read and write datagrams. Where there is no recvmmsg, both are the same.
var kinds = map[string]func(*socket) (datagrams, error){
	"batch":  newBatch,
	"single": func(s *socket) (datagrams, error) { return newSingle(s), nil },
}

func bound(t testing.TB, network, address string) *socket {
	t.Helper()
	s, err := bindUDP(t.Context(), network, address, false)
	if err != nil {
		t.Skipf("no %s here: %v", network, err)
	}
	t.Cleanup(func() { s.close() }) //nolint:errcheck // it may be closed already
	return s
}

// Each client gets what is for it, whichever way the socket is bound, and a response that can't be sent hinders no other.
func TestDatagrams(t *testing.T) {
	for _, tt := range []struct{ name, network, address, to string }{
		{"IPv4", "udp4", "127.0.0.1:0", "127.0.0.1"},
		{"IPv6", "udp6", "[::1]:0", "::1"},
		{"IPv4, any address", "udp4", "0.0.0.0:0", "127.0.0.2"},
		{"both, any address", "udp", ":0", "127.0.0.3"},
	} {
		for kind, open := range kinds {
			t.Run(tt.name+"/"+kind, func(t *testing.T) {
				if tt.to != "127.0.0.1" && tt.to != "::1" && !canShare {
					t.Skip("needs IP_PKTINFO")
				}
				s := bound(t, tt.network, tt.address)
				d, err := open(s)
				if err != nil {
					t.Fatal(err)
				}
				const clients = 50 // more than a batch
				conns := make([]net.Conn, clients)
				byAddr := make(map[netip.AddrPort]int)
				for i := range conns {
					c, err := net.Dial("udp", net.JoinHostPort(tt.to, fmt.Sprint(s.port())))
					if err != nil {
						t.Skip(err)
					}
					defer c.Close()
					c.SetDeadline(time.Now().Add(limit))
					if _, err := fmt.Fprintf(c, "query %d", i); err != nil {
						t.Fatal(err)
					}
					conns[i] = c
					byAddr[c.LocalAddr().(*net.UDPAddr).AddrPort()] = i
				}
				late := make(map[int]*peer)
				for read := 0; read < clients; {
					n, err := d.receive()
					if err != nil {
						t.Fatal(err)
					}
					for i := range n {
						client, ok := byAddr[d.client(i)]
						octets, whole := d.datagram(i)
						if want := fmt.Sprintf("query %d", client); !ok || !whole || string(octets) != want {
							t.Fatalf("from %s came %q, whole: %v; want %q", d.client(i), octets, whole, want)
						}
						switch {
						case client%10 == 3:
							d.reply(i, make([]byte, 70_000)) // no datagram is as large
						case client%10 == 5:
							late[client] = new(peer)
							d.peer(i, late[client])
						default:
							d.reply(i, fmt.Appendf(nil, "response %d", client))
						}
					}
					d.flush()
					read += n
				}
				for client, p := range late {
					s.send(fmt.Appendf(nil, "response %d", client), p)
				}
				buf := make([]byte, 100)
				for i, c := range conns {
					if i%10 == 3 {
						continue
					}
					n, err := c.Read(buf) // from the address that was asked, since the socket is connected
					if want := fmt.Sprintf("response %d", i); err != nil || string(buf[:n]) != want {
						t.Errorf("client %d got %q, %v; want %q", i, buf[:n], err, want)
					}
				}
			})
		}
	}
}

// TestJoin: sockets that come to an address which others are asked at lose nothing of what is sent meanwhile, and none of it goes elsewhere.
func TestJoin(t *testing.T) {
	if !canShare {
		t.Skip("one socket for an address")
	}
	for _, tt := range []struct{ name, network, address, to string }{
		{"IPv4", "udp4", "127.0.0.1:0", "127.0.0.1"},
		{"IPv6", "udp6", "[::1]:0", "::1"},
		{"both, any address", "udp", ":0", "127.0.0.3"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			const sockets, queries = 30, 3000
			var came atomic.Int64
			all := make(chan struct{})
			var readers sync.WaitGroup
			read := func(s *socket) {
				d, err := newBatch(s)
				if err != nil {
					t.Error(err)
					return
				}
				for {
					n, err := d.receive()
					if err != nil {
						return // its deadline
					}
					if came.Add(int64(n)) == queries {
						close(all)
					}
				}
			}
			first := bound(t, tt.network, tt.address)
			bind := []*socket{first}
			readers.Go(func() { read(first) })
			to := net.JoinHostPort(tt.to, fmt.Sprint(first.port()))
			readers.Go(func() {
				for range queries {
					c, err := net.Dial("udp", to)
					if err != nil {
						t.Error(err)
						return
					}
					if _, err := c.Write([]byte("query")); err != nil {
						t.Error(err)
					}
					c.Close()
				}
			})
			for range sockets {
				s, err := bindUDP(t.Context(), tt.network, first.conn.LocalAddr().String(), true)
				if err != nil {
					t.Error(err)
					break
				}
				bind = append(bind, s)
				defer s.close() //nolint:errcheck // nothing is lost
				readers.Go(func() { read(s) })
			}
			select {
			case <-all:
			case <-time.After(limit):
				t.Errorf("%d of %d queries came", came.Load(), queries)
			}
			for _, s := range bind {
				s.conn.SetReadDeadline(time.Now())
			}
			readers.Wait()
		})
	}
}

// What is too large is told, and the next datagram in its place is whole again.
func TestDatagramTooLarge(t *testing.T) {
	for kind, open := range kinds {
		t.Run(kind, func(t *testing.T) {
			s := bound(t, "udp4", "127.0.0.1:0")
			d, err := open(s)
			if err != nil {
				t.Fatal(err)
			}
			c, err := net.Dial("udp", s.conn.LocalAddr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			for _, size := range []int{maxQuery + 1, maxQuery, 1, 0} {
				if size > maxQuery && messageTruncated == 0 {
					continue // this system doesn't tell
				}
				if _, err := c.Write(bytes.Repeat([]byte{'x'}, size)); err != nil {
					t.Fatal(err)
				}
				n, err := d.receive()
				if err != nil || n != 1 {
					t.Fatalf("%d, %v", n, err)
				}
				if octets, whole := d.datagram(0); len(octets) != min(size, maxQuery) || whole != (size <= maxQuery) {
					t.Errorf("of %d octets came %d, whole: %v", size, len(octets), whole)
				}
			}
		})
	}
}

// To read queries and send responses allocates nothing.
func TestDatagramAllocations(t *testing.T) {
	for kind, open := range kinds {
		for _, address := range []string{"127.0.0.1:0", "0.0.0.0:0"} {
			t.Run(kind+"/"+address, func(t *testing.T) {
				s := bound(t, "udp4", address)
				d, err := open(s)
				if err != nil {
					t.Fatal(err)
				}
				c, err := net.Dial("udp", fmt.Sprintf("127.0.0.1:%d", s.port()))
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				query, response := make([]byte, 50), make([]byte, 100)
				got := testing.AllocsPerRun(100, func() {
					for range 8 {
						if _, err := c.Write(query); err != nil {
							t.Fatal(err)
						}
					}
					for read := 0; read < 8; {
						n, err := d.receive()
						if err != nil {
							t.Fatal(err)
						}
						for i := range n {
							if d.client(i).Port() == 0 {
								t.Fatal("no client")
							}
							d.reply(i, response)
						}
						d.flush()
						read += n
					}
				})
				if got != 0 {
					t.Errorf("got %v allocations, want none", got)
				}
			})
		}
	}
}

// missing is datagrams on a system that turns out not to have them, as in a sandbox.
type missing struct{ datagrams }

func (missing) receive() (int, error) { return 0, syscall.ENOSYS }

// A listener serves all the same when many datagrams can only be read one by one.
func TestOneByOne(t *testing.T) {
	for name, open := range map[string]func(*socket) (datagrams, error){
		"from the start":   kinds["single"],
		"not there":        func(s *socket) (datagrams, error) { return missing{newSingle(s)}, nil },
		"can't be made":    func(*socket) (datagrams, error) { return nil, syscall.EINVAL },
		"many, to compare": newBatch,
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, func(l *Listener) { l.datagrams = open }, Config{Protocols: []string{"udp"}})
			client := dns.Client{Timeout: limit}
			r.open("slow.example.")
			for i := range 20 {
				m := new(dns.Msg).SetQuestion([]string{"www.example.", "slow.example."}[i%2], dns.TypeTXT)
				got, _, err := client.Exchange(m, r.addr)
				if err != nil || len(got.Answer) != 1 || got.Question[0] != m.Question[0] {
					t.Fatalf("got %v, %v", got, err)
				}
			}
		})
	}
}
