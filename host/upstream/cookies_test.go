package upstream

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/host/cookie"
	"github.com/weirdns/weir/host/internal/fuzzing"
	"github.com/weirdns/weir/host/message"
)

// shownIn returns the data of the cookie option in a query, nil if there is none.
func shownIn(query []byte) []byte {
	m := new(dns.Msg)
	if err := m.Unpack(query); err != nil {
		panic(err)
	}
	if m.IsEdns0() == nil {
		return nil
	}
	for _, o := range m.IsEdns0().Option {
		if c, ok := o.(*dns.EDNS0_COOKIE); ok {
			octets, err := hex.DecodeString(c.Cookie)
			if err != nil {
				panic(err)
			}
			return octets
		}
	}
	return nil
}

// withCookie appends a cookie option to a response whose last record is an OPT without options.
func withCookie(msg, client, server []byte) []byte {
	msg = bytes.Clone(msg)
	end := len(msg)
	msg = binary.BigEndian.AppendUint16(msg, message.OptionCookie)
	msg = binary.BigEndian.AppendUint16(msg, uint16(len(client)+len(server)))
	msg = append(append(msg, client...), server...)
	binary.BigEndian.PutUint16(msg[end-2:], uint16(len(msg)-end))
	return msg
}

// bad makes BADCOOKIE of a response with an OPT at its end.
func bad(msg []byte) []byte {
	msg = bytes.Clone(msg)
	msg[3] |= message.BADCOOKIE & 0xF
	msg[len(msg)-6] = message.BADCOOKIE >> 4 // the extended RCODE, RFC 6891 section 6.1.3
	return msg
}

// cookieServer answers as respond says, which is given the cookies shown, and notes them.
type cookieServer struct {
	mu    sync.Mutex // guards following
	shown [][]byte
	conns int // queries over TCP
}

func (c *cookieServer) install(s *fakeServer, respond func(query, shown []byte) [][]byte) {
	s.set(func(s *fakeServer) {
		s.answer = func(query []byte) [][]byte {
			c.mu.Lock()
			defer c.mu.Unlock()
			shown := shownIn(query)
			c.shown = append(c.shown, shown)
			if shown == nil { // TCP
				c.conns++
				return [][]byte{answer(query, ip1)}
			}
			return respond(query, shown)
		}
	})
}

func (c *cookieServer) take() (shown [][]byte, conns int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	shown, conns = c.shown, c.conns
	c.shown, c.conns = nil, 0
	return shown, conns
}

// TestRFC7873Client: a client shows the same client cookie in each query to a server, with the server cookie that it was given last, of 8 to 32 octets; one that
// ignores the option is asked no more often (section 5.3).
func TestRFC7873Client(t *testing.T) {
	for _, tt := range []struct {
		name   string
		server [][]byte // cookies given, one after the other
	}{
		{"ignores it", [][]byte{nil, nil}},
		{"8 octets", [][]byte{[]byte("-server-"), []byte("-server-")}},
		{"16 octets, renewed", [][]byte{[]byte("0123456789abcdef"), []byte("abcdef0123456789")}},
		{"32 octets", [][]byte{bytes.Repeat([]byte("long"), 8), bytes.Repeat([]byte("LONG"), 8)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := newFakeNet(ip1)
			var c cookieServer
			var given []byte
			c.install(n.server(ip1), func(query, shown []byte) [][]byte {
				if given == nil {
					return [][]byte{answer(query, ip1)}
				}
				return [][]byte{withCookie(answer(query, ip1), shown[:cookie.ClientSize], given)}
			})
			bubble(t, n, Config{Servers: []string{ip1}, Cookies: true}, func(t *testing.T, g *Group) {
				var client, known []byte
				for i := range 4 {
					given = tt.server[i/2]
					if got, took := timed(t, g); got != "NOERROR "+ip1 || took != 0 {
						t.Fatalf("query %d: got %q in %v, want an answer at once", i, got, took)
					}
					shown, conns := c.take()
					if len(shown) != 1 || conns != 0 {
						t.Fatalf("query %d: %d packets and %d over TCP, want one packet", i, len(shown), conns)
					}
					if client == nil {
						client = shown[0]
					}
					if want := append(bytes.Clone(client[:cookie.ClientSize]), known...); !bytes.Equal(shown[0], want) {
						t.Errorf("query %d: shown %x, want %x", i, shown[0], want)
					}
					known = given
				}
			})
		})
	}
}

// TestClientsCookieStays: what a client of weir's says in a cookie option is for weir, and no upstream sees it.
func TestClientsCookieStays(t *testing.T) {
	for _, on := range []bool{true, false} {
		n := newFakeNet(ip1)
		var got []byte
		n.server(ip1).set(func(s *fakeServer) {
			s.answer = func(query []byte) [][]byte {
				got = bytes.Clone(query)
				return [][]byte{answer(query, ip1)}
			}
		})
		bubble(t, n, Config{Servers: []string{ip1}, Cookies: on}, func(t *testing.T, g *Group) {
			m := new(dns.Msg).SetQuestion("www.test.", dns.TypeA)
			m.SetEdns0(1232, false)
			m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "636f6f6b69652121"}}
			octets, err := m.Pack()
			if err != nil {
				t.Fatal(err)
			}
			q := new(message.Query)
			q.Parse(octets)
			if got, want := ask(t, g, q), "NOERROR "+ip1; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			if bytes.Contains(got, []byte("cookie!!")) || (shownIn(got) != nil) != on {
				t.Errorf("cookies %t: the server saw %x", on, got)
			}
		})
	}
}

// TestRFC7873BadCookie: a server that says BADCOOKIE is asked once more with the cookie that came with it, and if that won't do, over TCP (section 5.3).
func TestRFC7873BadCookie(t *testing.T) {
	server := []byte("-server-")
	for _, tt := range []struct {
		name    string
		always  bool
		packets [3]int // of three queries one after the other
		conns   [3]int
	}{
		{"once", false, [3]int{2, 1, 1}, [3]int{}},
		{"always", true, [3]int{3, 3, 3}, [3]int{1, 1, 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := newFakeNet(ip1)
			var c cookieServer
			c.install(n.server(ip1), func(query, shown []byte) [][]byte {
				msg := answer(query, ip1)
				if tt.always || !bytes.Equal(shown[cookie.ClientSize:], server) {
					msg = bad(msg)
				}
				return [][]byte{withCookie(msg, shown[:cookie.ClientSize], server)}
			})
			bubble(t, n, Config{Servers: []string{ip1}, Cookies: true, HealthyRCODEs: []string{"NOERROR"}}, func(t *testing.T, g *Group) {
				for i := range 3 {
					if got, took := timed(t, g); got != "NOERROR "+ip1 || took != 0 {
						t.Errorf("query %d: got %q in %v, want an answer at once", i, got, took)
					}
					if shown, conns := c.take(); len(shown) != tt.packets[i] || conns != tt.conns[i] {
						t.Errorf("query %d: %d messages, %d of them over TCP; want %d and %d", i, len(shown), conns, tt.packets[i], tt.conns[i])
					}
				}
				if s := g.Stats()[0]; !s.Up || s.Fails != 0 {
					t.Errorf("up %t with %d fails, want up without any", s.Up, s.Fails)
				}
			})
		})
	}
}

// formerr makes FORMERR, with nothing but its OPT, of a query.
func formerr(query []byte) []byte {
	m, response := new(dns.Msg), new(dns.Msg)
	if err := m.Unpack(query); err != nil {
		panic(err)
	}
	response.SetRcode(m, dns.RcodeFormatError)
	response.SetEdns0(1232, false)
	octets, err := response.Pack()
	if err != nil {
		panic(err)
	}
	return octets
}

// TestRFC7873FormatError: a server should ignore a cookie that it does not know (section 5.2.1); one that says FORMERR instead is asked once more without
// it, and not shown one for ten minutes when that has helped.
func TestRFC7873FormatError(t *testing.T) {
	for _, tt := range []struct {
		name    string
		without func(query []byte) [][]byte // what it says to a query without a cookie
		want    string
		packets []int // of queries one after the other
		known   bool  // for a server that takes no cookie
	}{
		{"to a cookie", func(query []byte) [][]byte { return [][]byte{answer(query, ip1)} }, "NOERROR " + ip1, []int{2, 1, 1}, true},
		{"to everything", func(query []byte) [][]byte { return [][]byte{formerr(query)} }, "FORMERR", []int{2, 2, 2}, false},
		{"to a cookie, and silence", func([]byte) [][]byte { return nil }, "FORMERR", nil, false},
		{"to a cookie, and to EDNS", noEDNS, "NOERROR " + ip1, []int{3, 1, 1}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := newFakeNet(ip1)
			one := n.server(ip1)
			one.set(func(s *fakeServer) {
				s.answer = func(query []byte) [][]byte {
					if shownIn(query) != nil {
						return [][]byte{formerr(query)}
					}
					return tt.without(query)
				}
			})
			bubble(t, n, Config{Servers: []string{ip1}, Transport: "udp", Cookies: true}, func(t *testing.T, g *Group) {
				seen := 0
				for i, want := range tt.packets {
					if got, took := timed(t, g); got != tt.want || took != 0 {
						t.Errorf("query %d: got %q in %v, want %q at once", i, got, took, tt.want)
					}
					if got := one.seen() - seen; got != want {
						t.Errorf("query %d: %d packets, want %d", i, got, want)
					}
					seen = one.seen()
				}
				if tt.packets == nil {
					if got, took := timed(t, g); got != tt.want || took > budget {
						t.Errorf("got %q in %v, want %q within the budget", got, took, tt.want)
					}
				}
				if got := g.Stats()[0].NoCookie; got != tt.known {
					t.Errorf("the server is known to take no cookie: %v, want %v", got, tt.known)
				}
				if tt.known {
					<-time.After(quirkMemory)
					if timed(t, g); one.seen() != seen+2 {
						t.Errorf("after 10 minutes: %d packets, want 2, with a cookie again", one.seen()-seen)
					}
				}
			})
		})
	}
	t.Run("forged, for a server that knows cookies", func(t *testing.T) {
		n := newFakeNet(ip1)
		var c cookieServer
		forged := false
		c.install(n.server(ip1), func(query, shown []byte) [][]byte {
			if forged {
				return [][]byte{formerr(query)}
			}
			return [][]byte{withCookie(answer(query, ip1), shown[:cookie.ClientSize], []byte("-server-"))}
		})
		bubble(t, n, Config{Servers: []string{ip1}, Cookies: true}, func(t *testing.T, g *Group) {
			timed(t, g)
			c.take()
			forged = true
			if got, _ := timed(t, g); got != "NOERROR "+ip1 {
				t.Errorf("got %q, want the answer over TCP", got)
			}
			if shown, conns := c.take(); len(shown) != 2 || conns != 1 || g.Stats()[0].NoCookie {
				t.Errorf("%d messages, %d of them over TCP, and no cookies any more: %v; want 2, 1 and false", len(shown), conns, g.Stats()[0].NoCookie)
			}
		})
	})
}

// TestRFC7873Spoofed: a response with another client cookie than that shown, or a cookie of no possible size, is no response, and the right one is waited
// for (section 5.3).
func TestRFC7873Spoofed(t *testing.T) {
	for _, tt := range []struct {
		name  string
		forge func(msg, client []byte) []byte
	}{
		{"another client cookie", func(msg, client []byte) []byte {
			other := bytes.Clone(client)
			other[7] ^= 1
			return withCookie(msg, other, []byte("-server-"))
		}},
		{"none of the client's", func(msg, _ []byte) []byte { return withCookie(msg, nil, nil) }},
		{"half of it", func(msg, client []byte) []byte { return withCookie(msg, client[:4], nil) }},
		{"a server cookie that is too short", func(msg, client []byte) []byte { return withCookie(msg, client, []byte("1234567")) }},
		{"a server cookie that is too long", func(msg, client []byte) []byte { return withCookie(msg, client, make([]byte, 33)) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := newFakeNet(ip1)
			var c cookieServer
			c.install(n.server(ip1), func(query, shown []byte) [][]byte {
				client := shown[:cookie.ClientSize]
				return [][]byte{tt.forge(answer(query, "192.0.2.66"), client), withCookie(answer(query, ip1), client, []byte("-server-"))}
			})
			bubble(t, n, Config{Servers: []string{ip1}, Cookies: true}, func(t *testing.T, g *Group) {
				for i := range 3 {
					if got, took := timed(t, g); got != "NOERROR "+ip1 || took != 0 {
						t.Errorf("query %d: got %q in %v, want the right one at once", i, got, took)
					}
					if shown, _ := c.take(); i > 0 && string(shown[0][cookie.ClientSize:]) != "-server-" {
						t.Errorf("query %d: shown %x, want the cookie of the right one", i, shown[0])
					}
				}
			})
		})
	}
}

// TestCookieMissing: a response without a cookie, from a server that has given one, may be forged, so it is asked over TCP; and when it answers there, it
// does not want cookies any more.
func TestCookieMissing(t *testing.T) {
	n := newFakeNet(ip1)
	var c cookieServer
	gives := true
	c.install(n.server(ip1), func(query, shown []byte) [][]byte {
		if gives {
			return [][]byte{withCookie(answer(query, ip1), shown[:cookie.ClientSize], []byte("-server-"))}
		}
		return [][]byte{answer(query, "192.0.2.66")} // as somebody would who does not see the queries
	})
	bubble(t, n, Config{Servers: []string{ip1}, Cookies: true}, func(t *testing.T, g *Group) {
		timed(t, g)
		gives = false
		if got, _ := timed(t, g); got != "NOERROR "+ip1 {
			t.Errorf("got %q, want the answer over TCP", got)
		}
		if shown, conns := c.take(); len(shown) != 3 || conns != 1 {
			t.Errorf("%d messages, %d over TCP; want 3 and 1", len(shown), conns)
		}
		if got, _ := timed(t, g); got != "NOERROR 192.0.2.66" {
			t.Errorf("then: got %q, want what the server says without cookies", got)
		}
		if shown, _ := c.take(); len(shown) != 1 || len(shown[0]) != cookie.ClientSize {
			t.Errorf("then: shown %x, want the client cookie alone", shown)
		}
	})
}

// TestRFC9018PerServer: no two servers see the same client cookie (section 3). TCP sees none.
func TestRFC9018PerServer(t *testing.T) {
	n := newFakeNet(ip1, ip2)
	var one, two cookieServer
	respond := func(query, shown []byte) [][]byte { return [][]byte{answer(query, ip1)} }
	one.install(n.server(ip1), respond)
	two.install(n.server(ip2), respond)
	bubble(t, n, Config{Servers: []string{ip1, ip2}, Policy: "round_robin", Cookies: true}, func(t *testing.T, g *Group) {
		for range 20 {
			timed(t, g)
		}
		first, _ := one.take()
		second, _ := two.take()
		if len(first) != 10 || len(second) != 10 || bytes.Equal(first[0], second[0]) {
			t.Errorf("the servers saw %x and %x, want 10 each, and not the same", first, second)
		}
	})
	bubble(t, n, Config{Servers: []string{"tcp://" + ip1}, Cookies: true}, func(t *testing.T, g *Group) {
		timed(t, g)
		if shown, conns := one.take(); len(shown) != 1 || conns != 1 {
			t.Errorf("over TCP: shown %x, want none", shown)
		}
	})
}

// TestCookieJar has many learn, find and forget at the same time. What is found is what was learnt for that client cookie.
func TestCookieJar(t *testing.T) {
	var jar cookieJar
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			client := [cookie.ClientSize]byte{byte(i % 3), byte(i)}
			for n := range 2000 {
				server := bytes.Repeat([]byte{byte(i)}, 8+n%25)
				jar.learn(client, server)
				if c := jar.find(client); c != nil && (c.client != client || c.octets[0] != byte(i) || c.octets[c.size-1] != byte(i)) {
					t.Errorf("found %+v for %x", c, client)
				}
				if n%100 == 0 {
					jar.forget()
				}
			}
		})
	}
	wg.Wait()
}

// FuzzFindCookie: whatever follows a response, nothing panics, and what is found is an option of it.
func FuzzFindCookie(f *testing.F) {
	q := query(f, "www.test.", dns.TypeA)
	plain := answer(q.AppendUpstream(nil, 7, offeredSize), ip1)
	opt := plain[len(plain)-headOPT:]
	f.Add(opt)
	f.Add(withCookie(opt, []byte("-client-"), nil))
	f.Add(withCookie(opt, []byte("-client-"), []byte("-server-")))
	f.Add(withCookie(withCookie(opt, nil, nil)[:headOPT+3], nil, nil))
	f.Add([]byte{0, 0, 41, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0, 10, 0xFF, 0xFF})
	f.Fuzz(func(t *testing.T, tail []byte) {
		var option []byte
		var ok bool
		fuzzing.Bounded(t, 0, 1<<10, func() { option, ok = findCookie(tail) })
		if !ok {
			return
		}
		head := append([]byte{0, message.OptionCookie}, binary.BigEndian.AppendUint16(nil, uint16(len(option)))...)
		if !bytes.Contains(tail[headOPT:], append(head, option...)) {
			t.Errorf("%x is not in %x", option, tail)
		}
	})
}

// FuzzCookieResponse gives any octets to a UDP try that has shown a cookie. What is taken has it, or goes to TCP.
func FuzzCookieResponse(f *testing.F) {
	q := query(f, "www.test.", dns.TypeA)
	sent := q.AppendUpstream(nil, 7, offeredSize)
	g, err := New("fuzz", Config{Servers: []string{ip1}, Cookies: true}, Env{})
	if err != nil {
		f.Fatal(err)
	}
	k := &socket{server: (*g.servers.Load())[0], cookies: true, client: [cookie.ClientSize]byte([]byte("-client-"))} // which is the same in each run
	k.server.cookies.learn(k.client, []byte("-server-"))
	f.Add(answer(sent, ip1))
	f.Add(withCookie(answer(sent, ip1), k.client[:], []byte("-server-")))
	f.Add(withCookie(answer(sent, ip1), []byte("12345678"), []byte("-server-")))
	f.Add(bad(withCookie(answer(sent, ip1), k.client[:], nil)))
	f.Fuzz(func(t *testing.T, octets []byte) {
		if len(octets) < 2 {
			return // which the socket does not give to the try
		}
		octets = bytes.Clone(octets)
		octets[0], octets[1] = 0, 7
		var outcome outcomeKind
		fuzzing.Bounded(t, len(octets), readSize+4<<10, func() { // the try's buffer, and the exchange
			x := newExchange(g)
			u := &x.tries[0]
			u.server, u.edns = k.server, true
			u.build(q, &x.random, false)
			u.socket = k
			u.showCookie(k)
			u.id = 7
			outcome = u.take(bytes.Clone(octets))
		})
		if outcome == outcomeResponse && !message.Truncated(octets) && !bytes.Contains(octets, k.client[:]) {
			t.Errorf("took %x, without the cookie", octets)
		}
	})
}
