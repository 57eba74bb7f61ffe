package upstream

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"io"
	"math"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/weirdns/weir/host/due"
	"github.com/weirdns/weir/host/internal/fuzzing"
	"github.com/weirdns/weir/host/message"
)

// script plays a server octet by octet. udp gets each query and may send as often as it likes, at any time until the test ends; tcp gets
// each connection, which is closed when it returns. Either may be nil: UDP is silent then, and TCP refused.
func script(t testing.TB, udp func(query []byte, send func([]byte), client netip.AddrPort), tcp func(conn net.Conn)) netip.AddrPort {
	t.Helper()
	var serving sync.WaitGroup
	packets, listener := listenBoth(t)
	t.Cleanup(serving.Wait)
	t.Cleanup(func() { packets.Close() })
	t.Cleanup(func() { listener.Close() })
	addr := packets.LocalAddr().(*net.UDPAddr).AddrPort()
	serving.Go(func() {
		buf := make([]byte, 4096)
		for {
			n, client, err := packets.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			if udp != nil {
				udp(bytes.Clone(buf[:n]), func(msg []byte) { packets.WriteToUDPAddrPort(msg, client) }, client)
			}
		}
	})
	if tcp == nil {
		listener.Close()
		return addr
	}
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { conn.Close() })
			serving.Go(func() {
				defer conn.Close()
				tcp(conn)
			})
		}
	})
	return addr
}

// listenBoth opens the same port for UDP and TCP.
func listenBoth(t testing.TB) (*net.UDPConn, *net.TCPListener) {
	t.Helper()
	for range 20 { // the port that is free on UDP may be taken on TCP
		packets, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
		if err != nil {
			t.Fatal(err)
		}
		listener, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(packets.LocalAddr().(*net.UDPAddr).AddrPort()))
		if err == nil {
			return packets, listener
		}
		packets.Close()
	}
	t.Fatal("no port is free on UDP and TCP")
	return nil, nil
}

// answer makes the response to a query, with one A record and an OPT.
func answer(query []byte, ip string) []byte {
	m, response := new(dns.Msg), new(dns.Msg)
	if err := m.Unpack(query); err != nil {
		panic(err)
	}
	response.SetReply(m)
	response.Authoritative = true // which is not to reach a client
	if m.IsEdns0() != nil {
		response.SetEdns0(1232, false)
	}
	response.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: m.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: net.ParseIP(ip)}}
	octets, err := response.Pack()
	if err != nil {
		panic(err)
	}
	return octets
}

// frame puts the length before a message.
func frame(msg []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(msg))), msg...)
}

// frames reads queries from a connection and gives them to f, until it ends.
func frames(conn net.Conn, f func(query []byte)) {
	for {
		msg, err := readMessage(conn, nil)
		if err != nil {
			return
		}
		f(msg)
	}
}

// mutants are responses that do not match, made from one that does. The question is for www.test, so its type is at 22.
var mutants = []struct {
	name   string
	mutate func(msg []byte) []byte
}{
	{"id above", func(m []byte) []byte { m[1]++; return m }},
	{"id below", func(m []byte) []byte { m[1]--; return m }},
	{"id other", func(m []byte) []byte { m[0] ^= 0x5A; return m }},
	{"id swapped", func(m []byte) []byte { m[0], m[1] = m[1]^1, m[0]; return m }},
	{"query", func(m []byte) []byte { m[2] &^= 0x80; return m }},
	{"opcode", func(m []byte) []byte { m[2] |= 0x20; return m }},
	{"no question", func(m []byte) []byte {
		m[5] = 0
		return append(m[:12:12], m[12+10+4:]...)
	}},
	{"count of questions", func(m []byte) []byte { m[5] = 0; return m }},
	{"two questions", func(m []byte) []byte {
		m[5] = 2
		return append(append(m[:26:26], m[12:26]...), m[26:]...)
	}},
	{"name", func(m []byte) []byte { m[13]++; return m }},
	{"type", func(m []byte) []byte { m[23] = byte(message.TypeAAAA); return m }},
	{"class", func(m []byte) []byte { m[25] = 3; /* CHAOS */ return m }},
	{"header only", func(m []byte) []byte { return m[:12] }},
	{"short header", func(m []byte) []byte { return m[:11] }},
	{"cut in the question", func(m []byte) []byte { return m[:20] }},
	{"cut in a record", func(m []byte) []byte { return m[:30] }},
	{"count of answers", func(m []byte) []byte { m[7] = 200; return m }},
	{"octets behind", func(m []byte) []byte { return append(m, 0) }},
	{"pointer loop", func(m []byte) []byte { m[26], m[27] = 0xC0, 26; return m }},
	{"two OPT", func(m []byte) []byte {
		m[11] = 2
		return append(m, m[len(m)-11:]...)
	}},
}

// TestRFC5452Match: a response is taken if ID and question match and it is well formed; one that isn't is ignored, and the right one behind it is taken (section 9.1).
func TestRFC5452Match(t *testing.T) {
	a, certificate := authority(t)
	for _, mutant := range mutants {
		for _, transport := range []string{"udp", "tcp", "tls"} {
			for _, alone := range []bool{false, true} {
				name := mutant.name + " over " + transport
				if alone {
					name += ", alone"
				}
				t.Run(name, func(t *testing.T) {
					addr := script(t, func(query []byte, send func([]byte), _ netip.AddrPort) {
						send(mutant.mutate(answer(query, "192.0.2.66")))
						if !alone {
							send(answer(query, "192.0.2.1"))
						}
					}, func(conn net.Conn) {
						if transport == "tls" {
							conn = tls.Server(conn, serverTLS(certificate))
						}
						frames(conn, func(query []byte) {
							conn.Write(frame(mutant.mutate(answer(query, "192.0.2.66"))))
							if !alone {
								conn.Write(frame(answer(query, "192.0.2.1")))
							}
						})
					})
					c := Config{Servers: []string{transport + "://" + addr.String()}, ReadTimeout: patience}
					if transport == "tls" {
						c.CA = a.File
					}
					g := group(t, c, Env{})
					q := query(t, "www.test.", dns.TypeA)
					if alone {
						q.Deadline = time.Now().Add(60 * time.Millisecond)
					}
					response, err := g.Resolve(t.Context(), q, nil)
					switch {
					case err == nil && bytes.Contains(response.Message, net.ParseIP("192.0.2.66").To4()):
						t.Errorf("the mutant was taken")
					case alone && err == nil:
						t.Errorf("got a response %x", response.Message)
					case !alone && err != nil && !endsConnection(mutant.name, transport):
						t.Errorf("the right response was not taken: %v", err)
					}
				})
			}
		}
	}
}

// patience is the time for a query whose response has to come, on a machine that has other things to do.
const patience = 30 * time.Second

// TestMutantsOfCalls is the same where a query has one response and no more. The first is a mutant, the next is none, or all are.
func TestMutantsOfCalls(t *testing.T) {
	a, certificate := authority(t)
	for _, transport := range []string{"https", "quic"} {
		for _, mutant := range mutants {
			for _, alone := range []bool{false, true} {
				name := mutant.name + " over " + transport
				if alone {
					name += ", alone"
				}
				t.Run(name, func(t *testing.T) {
					var asked atomic.Int32
					respond := func(query []byte) []byte {
						if asked.Add(1) == 1 || alone {
							return mutant.mutate(answer(query, "192.0.2.66"))
						}
						return answer(query, "192.0.2.1")
					}
					var addr netip.AddrPort
					if transport == "https" {
						addr, _ = scriptHTTPS(t, certificate, posted(respond))
					} else {
						addr = scriptQUIC(t, certificate, streamed(respond))
					}
					g := group(t, Config{Servers: []string{transport + "://" + addr.String() + "#" + testName}, CA: a.File, MaxFails: -1, ReadTimeout: patience}, Env{})
					q := query(t, "www.test.", dns.TypeA)
					if alone {
						q.Deadline = time.Now().Add(60 * time.Millisecond)
					}
					response, err := g.Resolve(t.Context(), q, nil)
					switch {
					case err == nil && bytes.Contains(response.Message, net.ParseIP("192.0.2.66").To4()):
						t.Errorf("the mutant was taken")
					case alone && err == nil:
						t.Errorf("got a response %x", response.Message)
					case !alone && err != nil:
						t.Errorf("the right response was not taken: %v", err)
					}
				})
			}
		}
	}
}

// endsConnection reports whether a mutant is where trust in a TCP connection, or in the answer on it, ends: it can't be from
// anybody but the server, so there is nothing better to wait for.
func endsConnection(mutant, transport string) bool {
	switch mutant {
	case "short header", "cut in a record", "count of answers", "octets behind", "pointer loop", "two OPT":
		return transport != "udp"
	}
	return false
}

// TestRFC5452Sender: a response counts only from the address and port that were asked (section 9.1).
// The kernel is to drop it, for the sockets are connected.
func TestRFC5452Sender(t *testing.T) {
	for _, from := range []string{"127.0.0.1:0", "127.0.0.2:0"} {
		t.Run(from, func(t *testing.T) {
			other, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(from)))
			if err != nil {
				t.Fatal(err)
			}
			defer other.Close()
			addr := script(t, func(query []byte, send func([]byte), client netip.AddrPort) {
				if _, err := other.WriteToUDPAddrPort(answer(query, "192.0.2.66"), client); err != nil {
					t.Error(err)
				}
				send(answer(query, "192.0.2.1"))
			}, nil)
			g := group(t, Config{Servers: []string{addr.String()}}, Env{})
			if got, want := askName(t, g, "www.test."), "NOERROR 192.0.2.1"; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

// TestRFC5452AwaitsValid: what does not match is no reason to give up: the valid response that comes later is awaited (section 9.1, draft-li-dnsop-response-preprocessing).
// This is TuDoor: what does not match comes first, the right answer 20 ms later.
func TestRFC5452AwaitsValid(t *testing.T) {
	addr := script(t, func(query []byte, send func([]byte), _ netip.AddrPort) {
		right := answer(query, "192.0.2.1")
		for _, mutant := range mutants[:maxMismatches-2] {
			send(mutant.mutate(bytes.Clone(right)))
		}
		time.AfterFunc(20*time.Millisecond, func() { send(right) })
	}, nil)
	metrics := NewMetrics(nil)
	g := group(t, Config{Servers: []string{addr.String()}}, Env{Metrics: metrics})
	if got, want := askName(t, g, "www.test."), "NOERROR 192.0.2.1"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := testutil.ToFloat64(metrics.mismatches); got != maxMismatches-2 {
		t.Errorf("counted %v mismatches, want %d", got, maxMismatches-2)
	}
}

// unsuspected has no server of g probed for loops, whose responses would count, too.
func unsuspected(g *Group) {
	for _, s := range *g.servers.Load() {
		s.loop.next.Store(int64(due.At(time.Now().Add(time.Hour))))
	}
}

// TestFlood is SAD DNS: somebody tries all IDs while the query waits. It is asked over TCP.
func TestFlood(t *testing.T) {
	for _, transport := range []string{"auto", "udp"} {
		t.Run(transport, func(t *testing.T) {
			addr := script(t, func(query []byte, send func([]byte), _ netip.AddrPort) {
				forged := answer(query, "192.0.2.66")
				id := binary.BigEndian.Uint16(query)
				for i := range uint16(2000) {
					if i+1 == 1000 {
						continue // the guess that would be right, if it came before the others
					}
					binary.BigEndian.PutUint16(forged, id+i+1)
					send(forged)
				}
			}, func(conn net.Conn) {
				frames(conn, func(query []byte) { conn.Write(frame(answer(query, "192.0.2.1"))) })
			})
			metrics := NewMetrics(nil)
			g := group(t, Config{Servers: []string{addr.String()}, Transport: transport, MaxFails: -1}, Env{Metrics: metrics}) // no probes
			unsuspected(g)
			got, want := askName(t, g, "www.test."), "NOERROR 192.0.2.1"
			if transport == "udp" {
				want = ErrMismatch.Error()
			}
			if got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			if n := testutil.ToFloat64(metrics.mismatches); n < maxMismatches || n > maxMismatches+maxTries {
				t.Errorf("looked at %v responses, want %d and not many more", n, maxMismatches)
			}
			fallbacks := testutil.ToFloat64(metrics.fallbacks.WithLabelValues("test", addr.String(), "mismatches"))
			if want := map[string]float64{"auto": 1}[transport]; fallbacks != want {
				t.Errorf("counted %v fallbacks to TCP, want %v", fallbacks, want)
			}
		})
	}
}

// lowerCase turns the question of a response to lower case, as some servers do.
func lowerCase(msg []byte) []byte {
	copy(msg[12:], bytes.ToLower(msg[12:22]))
	return msg
}

func TestServerLosesCase(t *testing.T) {
	for _, mode := range []string{"keep", "random"} {
		for _, transport := range []string{"auto", "udp"} {
			t.Run(mode+" "+transport, func(t *testing.T) {
				addr := script(t, func(query []byte, send func([]byte), _ netip.AddrPort) {
					send(lowerCase(answer(query, "192.0.2.1")))
				}, func(conn net.Conn) {
					frames(conn, func(query []byte) { conn.Write(frame(lowerCase(answer(query, "192.0.2.2")))) })
				})
				g := group(t, Config{Servers: []string{addr.String()}, Transport: transport, Case: mode}, Env{})
				// The letters of the name that is sent may all be lower case by chance, one time in 128. Then that is no news.
				want := "NOERROR 192.0.2.2"
				if transport == "udp" {
					want = "NOERROR 192.0.2.1"
				}
				if got := askName(t, g, "wWW.tEst."); got != want && mode == "keep" {
					t.Errorf("got %q, want %q", got, want)
				}
				for range 3 {
					askName(t, g, "wWW.tEst.")
				}
				if !g.Stats()[0].NoCase {
					t.Errorf("the server is not known to lose case")
				}
				if mode == "keep" || transport == "udp" {
					want = "NOERROR 192.0.2.1" // asked in lower case over UDP from now on
				}
				if got := askName(t, g, "wWW.tEst."); got != want {
					t.Errorf("known to lose case: got %q, want %q", got, want)
				}
			})
		}
	}
}

// TestForgedCaseIsNotRemembered: over UDP anybody can claim that a server loses case.
func TestForgedCaseIsNotRemembered(t *testing.T) {
	addr := script(t, func(query []byte, send func([]byte), _ netip.AddrPort) {
		send(lowerCase(answer(query, "192.0.2.66")))
	}, func(conn net.Conn) {
		frames(conn, func(query []byte) { conn.Write(frame(answer(query, "192.0.2.1"))) })
	})
	g := group(t, Config{Servers: []string{addr.String()}}, Env{})
	if got, want := askName(t, g, "WWW.test."), "NOERROR 192.0.2.1"; got != want || g.Stats()[0].NoCase {
		t.Errorf("got %q, remembered %t, want %q and false", got, g.Stats()[0].NoCase, want)
	}
}

// TestRFC5452Random: IDs, ports and the case of letters are random, whatever the client chose (section 9.2).
// Nothing of the client's but its question and its bits is in the queries that a server gets.
func TestRFC5452Random(t *testing.T) {
	const queries = 4096
	var mu sync.Mutex
	var ids []uint16
	ports := map[uint16]int{}
	upper := 0
	addr := script(t, func(query []byte, send func([]byte), client netip.AddrPort) {
		mu.Lock()
		ids = append(ids, binary.BigEndian.Uint16(query))
		ports[client.Port()]++
		for _, c := range query[12:22] {
			if 'A' <= c && c <= 'Z' {
				upper++
			}
		}
		mu.Unlock()
		if size := binary.BigEndian.Uint16(query[len(query)-8:]); size != offeredSize {
			t.Errorf("offers %d octets, want %d", size, offeredSize)
		}
		send(answer(query, "192.0.2.1"))
	}, nil)
	g := group(t, Config{Servers: []string{addr.String()}, Case: "random"}, Env{})
	q := query(t, "www.test.", dns.TypeA)
	q.ID = 0 // as DoH and DoQ have it
	copy(q.Message, "\x00\x00")
	for range queries {
		if _, err := g.Resolve(t.Context(), q, nil); err != nil {
			t.Fatal(err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for _, half := range []struct {
		name string
		of   func(id uint16) uint8
	}{{"upper", func(id uint16) uint8 { return uint8(id >> 8) }}, {"lower", func(id uint16) uint8 { return uint8(id) }}} {
		var seen [256]float64
		for _, id := range ids {
			seen[half.of(id)]++
		}
		chi2, expected := 0.0, float64(len(ids))/256
		for _, n := range seen {
			chi2 += (n - expected) * (n - expected) / expected
		}
		// With 255 degrees of freedom the mean is 255, the deviation 22.6. Eight of those happen to nobody.
		if chi2 > 255+8*22.6 || chi2 < 255-8*22.6 {
			t.Errorf("%s octet of the IDs: chi-square %.0f, want about 255", half.name, chi2)
		}
	}
	steps := map[uint16]int{}
	for i := 1; i < len(ids); i++ {
		steps[ids[i]-ids[i-1]]++
	}
	for step, n := range steps {
		if n > 10 { // expected is 1/16 of one
			t.Errorf("IDs follow each other with the step %d %d times", step, n)
		}
	}
	if want := queries / socketUses * 9 / 10; len(ports) < want {
		t.Errorf("%d ports for %d queries, want %d", len(ports), queries, want)
	}
	for port, n := range ports {
		if n > 4*socketUses {
			t.Errorf("port %d was used for %d queries", port, n)
		}
	}
	if share := float64(upper) / (queries * 7); math.Abs(share-0.5) > 0.05 {
		t.Errorf("%.2f of the letters are upper case, want 0.5", share)
	}
}

// FuzzReceive gives any octets to a UDP try, and the same to a TCP connection. Whatever is taken must answer the query.
func FuzzReceive(f *testing.F) {
	q := query(f, "www.test.", dns.TypeA)
	sent := q.AppendUpstream(nil, 7, offeredSize)
	f.Add(answer(sent, "192.0.2.1"))
	for _, mutant := range mutants {
		f.Add(mutant.mutate(answer(sent, "192.0.2.1")))
	}
	g, err := New("fuzz", Config{Servers: []string{"192.0.2.1"}}, Env{})
	if err != nil {
		f.Fatal(err)
	}
	const constant = 2*readSize + keepBuffer + message.MaxSize + 16<<10 // buffers for UDP and TCP; a message may say that it is as large as can be; the exchange
	receive := func(octets []byte) (udp, tcp *try) {
		x := newExchange(g)
		x.query, x.ended = q, true
		x.refs.Store(100)
		udp = &x.tries[0]
		udp.server = (*g.servers.Load())[0]
		udp.build(q, &x.random, false)
		k := &socket{server: udp.server, conn: &reader{packets: [][]byte{octets}}, opened: time.Now()}
		k.add(udp, k.opened)
		udp.id = 7
		k.table = [len(k.table)]place{7: {id: 7, nth: 1}}
		k.read()
		tcp = &x.tries[1]
		tcp.server = udp.server
		tcp.build(q, &x.random, false)
		tcp.id = 7
		c := &stream{server: udp.server, pending: map[uint16]*try{7: tcp}}
		_ = c.read(&reader{packets: [][]byte{frame(octets), octets}})
		c.end(outcomeBroken)
		return udp, tcp
	}
	f.Fuzz(func(t *testing.T, octets []byte) {
		var udp, tcp *try
		fuzzing.Bounded(t, len(octets), constant, func() { udp, tcp = receive(octets) })
		if udp.size != 0 && !message.Answers(octets, 7, &q.Question) {
			t.Errorf("took %x", octets)
		}
		if tcp.size != 0 && !message.EqualName(tcp.in[12:22], q.Name) {
			t.Errorf("TCP took %x", octets)
		}
	})
}

// reader is a connection on which packets come and nothing goes.
type reader struct {
	net.Conn
	packets [][]byte
}

func (r *reader) Read(b []byte) (int, error) {
	if len(r.packets) == 0 {
		return 0, io.EOF
	}
	n := copy(b, r.packets[0])
	if r.packets[0] = r.packets[0][n:]; len(r.packets[0]) == 0 {
		r.packets = r.packets[1:]
	}
	return n, nil
}

func (r *reader) SetReadDeadline(time.Time) error { return nil }
func (r *reader) Close() error                    { return nil }
