package datagram

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// sized is a datagram of so many octets that begins with a name.
func sized(name byte, size int) []byte {
	msg := bytes.Repeat([]byte{'.'}, size)
	if size > 0 {
		msg[0] = name
	}
	return msg
}

// loaded skips the test where there are no trains.
func loaded(t testing.TB) {
	t.Helper()
	if !segments() {
		t.Skip("the system does not know UDP_SEGMENT")
	}
}

// formed says which datagrams are in the trains of l, by the letters that they begin with.
func formed(l *Lot) string {
	var names []string
	for _, t := range l.trains[:l.count] {
		var b strings.Builder
		for _, i := range l.order[t.first:t.end] {
			b.WriteByte(append(slices.Clone(l.datagrams[i].msg), '-')[0])
		}
		names = append(names, b.String())
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// Datagrams for one destination are in few trains: all in a train are as long as the first, but for the last, which may be shorter.
func TestForm(t *testing.T) {
	here, there := netip.MustParseAddrPort("192.0.2.1:53"), netip.MustParseAddrPort("192.0.2.1:54")
	six, seven := netip.MustParseAddrPort("[2001:db8::1]:53"), netip.MustParseAddrPort("[2001:db8::2]:53")
	source, other := make([]byte, unix.CmsgSpace(12)), append(make([]byte, unix.CmsgSpace(12)-1), 1)
	type one struct {
		size    int
		to      netip.AddrPort // invalid: the other end
		control []byte
	}
	connected := func(sizes ...int) (all []one) {
		for _, size := range sizes {
			all = append(all, one{size: size})
		}
		return all
	}
	for _, tt := range []struct {
		name      string
		datagrams []one // called a, b, ...
		want      string
	}{
		{"one", connected(40), "a"},
		{"as long as each other", connected(40, 40, 40, 40), "abcd"},
		{"the last shorter", connected(40, 40, 39), "abc"},
		{"the first shorter", connected(39, 40, 40), "bca"},
		{"all different", connected(40, 42, 44, 41, 43), "a ce bd"},
		{"two shorter", connected(40, 40, 30, 30, 20), "abc de"},
		{"too long", connected(maxSegment+1, maxSegment+1, maxSegment, maxSegment), "a b cd"},
		{"empty", connected(0, 0, 40), "- - c"},
		{"beyond what a length can say", connected(70000, 70001, 40), "a b c"},
		{"two ports", []one{{40, here, nil}, {40, there, nil}, {40, here, nil}, {40, there, nil}}, "ac bd"},
		{"two addresses", []one{{40, six, nil}, {40, seven, nil}, {40, six, nil}, {40, seven, nil}}, "ac bd"},
		{"from two addresses", []one{{40, here, source}, {40, here, source}, {40, here, other}, {40, here, nil}}, "ab c d"},
		{"a control message that nothing can follow", []one{{40, here, source[:30]}, {40, here, source[:30]}}, "a b"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lot := GetLot()
			defer lot.Put()
			for i, d := range tt.datagrams {
				msg := sized("abcdefgh"[i], d.size)
				if d.to.IsValid() {
					lot.AddTo(&Socket{v6: d.to.Addr().Is6()}, msg, d.to, d.control)
				} else {
					lot.Add(msg)
				}
			}
			lot.form(true)
			want := strings.Fields(tt.want)
			slices.Sort(want)
			if got := formed(lot); got != strings.Join(want, " ") {
				t.Errorf("%q, want %q", got, tt.want)
			}
			if lot.form(false); lot.count != len(tt.datagrams) {
				t.Errorf("%d trains without joining any, want %d", lot.count, len(tt.datagrams))
			}
		})
	}
}

// Whatever is in a lot, each datagram is in one train, and goes to where it should.
func TestFormAny(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		lot, socket := GetLot(), &Socket{}
		for range 1 + random.IntN(Size) {
			to := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(random.IntN(3))}), uint16(random.IntN(3)))
			lot.AddTo(socket, make([]byte, random.IntN(6)), to, nil)
		}
		lot.form(true)
		seen := make(map[uint8]bool)
		for k, train := range lot.trains[:lot.count] {
			all, h := lot.order[train.first:train.end], &lot.headers[k]
			first := &lot.datagrams[all[0]]
			if int(h.Iovlen) != len(all) || (h.Controllen > 0) != (len(all) > 1) {
				t.Fatalf("%d datagrams, header %+v", len(all), h)
			}
			for n, i := range all {
				d := &lot.datagrams[i]
				last := n == len(all)-1
				if seen[i] || !bytes.Equal(d.address(), first.address()) || len(d.msg) > len(first.msg) || len(d.msg) < len(first.msg) && !last || len(all) > 1 && len(d.msg) == 0 {
					t.Fatalf("train %d of %d: datagram %d of %d octets to %v after %d octets to %v", k, lot.count, i, len(d.msg), d.name, len(first.msg), first.name)
				}
				seen[i] = true
			}
		}
		if len(seen) != lot.Len() {
			t.Fatalf("%d of %d datagrams are in a train", len(seen), lot.Len())
		}
		lot.Put()
	}
}

// written writes a lot of datagrams of sizes, called a, b, ..., to where s is connected, and returns its errors.
func written(s *Socket, trains *int, sizes ...int) (errs []error) {
	lot := GetLot()
	defer lot.Put()
	for i, size := range sizes {
		lot.Add(sized("abcdefgh"[i], size))
	}
	s.Write(lot)
	*trains = lot.count
	for i := range sizes {
		errs = append(errs, lot.Err(i))
	}
	return errs
}

// firsts are the octets that the next n datagrams begin with, in the order of the alphabet.
func firsts(t *testing.T, conn *net.UDPConn, n int) string {
	t.Helper()
	got, _ := receive(t, conn, n)
	var b []byte
	for _, octets := range got {
		b = append(b, octets[0])
	}
	slices.Sort(b)
	return string(b)
}

func dial(t *testing.T, to *net.UDPConn) *Socket {
	t.Helper()
	conn, err := net.Dial("udp", to.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return Of(conn)
}

// What leaves in a train comes as the datagrams that it was made of, over both families, from sockets of each kind and their outlets.
func TestTrains(t *testing.T) {
	loaded(t)
	for _, tt := range places {
		for _, outlet := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, outlet %t", tt.name, outlet), func(t *testing.T) {
				s := shared(t, tt.network, tt.at)
				if outlet {
					open(t, s)
				}
				addr := netip.MustParseAddr(tt.to)
				client := listen(t, "udp", net.JoinHostPort(tt.to, "0"))
				var control []byte
				if s.wildcard {
					control = source(addr, s.v6)
				}
				lot := GetLot()
				defer lot.Put()
				for i, size := range []int{50, 60, 60, 40, 50} {
					lot.AddTo(s, sized("abcde"[i], size), netip.AddrPortFrom(addr, port(client)), control)
				}
				s.Write(lot)
				if got := formed(lot); got != "bca ed" {
					t.Errorf("trains %q, want %q", got, "bca ed")
				}
				got, from := receive(t, client, 5)
				slices.Sort(got)
				want := []string{string(sized('a', 50)), string(sized('b', 60)), string(sized('c', 60)), string(sized('d', 40)), string(sized('e', 50))}
				if !slices.Equal(got, want) {
					t.Errorf("received %q, want %q", got, want)
				}
				if from.Port() != port(s.conn) || from.Addr() != addr {
					t.Errorf("from %v, want %v and port %d", from, addr, port(s.conn))
				}
			})
		}
	}
}

// A system that takes no trains is given datagrams one by one, none of which is lost, and is asked again now and then. This one takes none from a socket that computes no checksums.
func TestRefusedTrain(t *testing.T) {
	loaded(t)
	server := listen(t, "udp4", "127.0.0.1:0")
	s := dial(t, server)
	if err := set(s.raw, unix.SOL_SOCKET, unix.SO_NO_CHECK, 1); err != nil {
		t.Fatal(err)
	}
	var trains int
	write := func(want int) {
		t.Helper()
		if err := errors.Join(written(s, &trains, 40, 30, 40)...); err != nil {
			t.Fatal(err)
		}
		if got := firsts(t, server, 3); got != "abc" || trains != want {
			t.Fatalf("received %q in %d trains, want abc in %d", got, trains, want)
		}
	}
	write(3) // after they were refused
	for range pause {
		if s.trains.pause.Load() == 0 {
			t.Fatal("asked again too soon")
		}
		write(3)
	}
	if err := set(s.raw, unix.SOL_SOCKET, unix.SO_NO_CHECK, 0); err != nil {
		t.Fatal(err)
	}
	write(1)
}

// What ICMP has told about an earlier datagram is the error of one of a train, and the others are sent.
func TestErrorOfTrain(t *testing.T) {
	loaded(t)
	server := listen(t, "udp4", "127.0.0.1:0")
	at := server.LocalAddr().String()
	s := dial(t, server)
	server.Close()
	var trains int
	if errs := written(s, &trains, 40); errs[0] != nil {
		t.Fatal(errs[0])
	}
	var told int // by ICMP, which may take a moment where there is much to do
	if err := s.raw.Control(func(fd uintptr) {
		for err := error(unix.EINTR); errors.Is(err, unix.EINTR); {
			told, err = unix.Poll([]unix.PollFd{{Fd: int32(fd)}}, 10_000)
		}
	}); err != nil || told != 1 {
		t.Fatalf("no error of a port that is closed: %v", err)
	}
	server = listen(t, "udp4", at)
	failed := 0
	for _, err := range written(s, &trains, 40, 40, 40) {
		if errors.Is(err, syscall.ECONNREFUSED) {
			failed++
		} else if err != nil {
			t.Error(err)
		}
	}
	if got := firsts(t, server, 2); failed != 1 || len(got) != 2 {
		t.Errorf("%d datagrams failed, and %q came, want one and two", failed, got)
	}
	if s.trains.pause.Load() != 0 {
		t.Errorf("no trains for %d lots, but none was refused", s.trains.pause.Load())
	}
}

func TestNoTrains(t *testing.T) {
	server := listen(t, "udp4", "127.0.0.1:0")
	s := dial(t, server)
	s.NoTrains()
	var trains int
	if err := errors.Join(written(s, &trains, 40, 40, 40)...); err != nil {
		t.Fatal(err)
	}
	if got := firsts(t, server, 3); got != "abc" || trains != 3 {
		t.Errorf("received %q in %d trains, want abc in 3", got, trains)
	}
}

// BenchmarkTrains writes full lots: for one client, for sixteen, or for one each; with datagrams as long as each other, or not.
func BenchmarkTrains(b *testing.B) {
	loaded(b)
	for _, clients := range []int{1, Size / 2, Size} {
		for _, alike := range []bool{true, false} {
			for _, trains := range []bool{true, false} {
				b.Run(fmt.Sprintf("clients=%d/alike=%t/trains=%t", clients, alike, trains), func(b *testing.B) {
					s := shared(b, "udp4", "127.0.0.1:0")
					open(b, s)
					if !trains {
						s.NoTrains()
					}
					var to []*net.UDPConn
					for range clients {
						c, err := net.ListenPacket("udp4", "127.0.0.1:0")
						if err != nil {
							b.Fatal(err)
						}
						defer c.Close()
						to = append(to, c.(*net.UDPConn))
					}
					var addresses []netip.AddrPort
					for _, c := range to {
						addresses = append(addresses, c.LocalAddr().(*net.UDPAddr).AddrPort())
					}
					msg, buf := make([]byte, 100), make([]byte, 200)
					for b.Loop() {
						lot := GetLot()
						for i := range Size {
							size := 80
							if !alike {
								size = 60 + i
							}
							lot.AddTo(s, msg[:size], addresses[i%clients], nil)
						}
						s.Write(lot)
						lot.Put()
						b.StopTimer()
						for i := range Size {
							c := to[i%clients]
							c.SetReadDeadline(time.Now().Add(time.Second))
							if _, err := c.Read(buf); err != nil {
								b.Fatal(err)
							}
						}
						b.StartTimer()
					}
					b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/Size, "ns/datagram")
				})
			}
		}
	}
}
