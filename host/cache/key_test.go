package cache

import (
	"bytes"
	"testing"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/host/message"
)

// TestKey changes one thing of a query at a time.
func TestKey(t *testing.T) {
	full := func(m *dns.Msg) {
		m.CheckingDisabled = true
		m.SetEdns0(1232, true)
	}
	base := ask("www.example.", dns.TypeA, epoch, full)
	key := func(q *message.Query) []byte { return appendKey(nil, q) }
	for _, test := range []struct {
		name string
		q    *message.Query
		same bool
	}{
		{"nothing", ask("www.example.", dns.TypeA, epoch, full), true},
		{"case", ask("wWw.EXAMPLE.", dns.TypeA, epoch, full), true},
		{"payload size", ask("www.example.", dns.TypeA, epoch, full, func(m *dns.Msg) { m.IsEdns0().SetUDPSize(4096) }), true},
		{"EDNS options", ask("www.example.", dns.TypeA, epoch, full, func(m *dns.Msg) {
			o := m.IsEdns0()
			o.Option = append(o.Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0102030405060708"})
		}), true},
		{"AD", ask("www.example.", dns.TypeA, epoch, full, func(m *dns.Msg) { m.AuthenticatedData = true }), true},
		{"ID", ask("www.example.", dns.TypeA, epoch, full, func(m *dns.Msg) { m.Id++ }), true},
		{"another label", ask("wwv.example.", dns.TypeA, epoch, full), false},
		{"below", ask("www.example.www.example.", dns.TypeA, epoch, full), false},
		{"above", ask("example.", dns.TypeA, epoch, full), false},
		{"root", ask(".", dns.TypeA, epoch, full), false},
		{"a dot in a label", ask(`www\.example.`, dns.TypeA, epoch, full), false},
		{"type, low octet", ask("www.example.", dns.TypeNS, epoch, full), false},
		{"type, high octet", ask("www.example.", 0x0101, epoch, full), false},
		{"class, low octet", ask("www.example.", dns.TypeA, epoch, full, func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }), false},
		{"class, high octet", ask("www.example.", dns.TypeA, epoch, full, func(m *dns.Msg) { m.Question[0].Qclass = 0x0101 }), false},
		{"DO", ask("www.example.", dns.TypeA, epoch, full, func(m *dns.Msg) { m.IsEdns0().SetDo(false) }), false},
		{"CD", ask("www.example.", dns.TypeA, epoch, full, func(m *dns.Msg) { m.CheckingDisabled = false }), false},
		{"RD", ask("www.example.", dns.TypeA, epoch, full, func(m *dns.Msg) { m.RecursionDesired = false }), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := bytes.Equal(key(base), key(test.q)); got != test.same {
				t.Errorf("keys are the same: %t, want %t", got, test.same)
			}
			// And in the store: what was stored for base is found for test.q, or not.
			var now clock
			c := open(t, preset("weir"), says(0, "an www.example. 300 IN A 192.0.2.1"), now.now)
			if _, err := c.Resolve(t.Context(), base, nil); err != nil {
				t.Fatal(err)
			}
			if _, got := c.Cached(test.q, nil); got != test.same {
				t.Errorf("found: %t, want %t", got, test.same)
			}
			// A key makes the query that made it.
			var again message.Query
			queryOf(&again, key(test.q), nil)
			if !bytes.Equal(key(&again), key(test.q)) {
				t.Errorf("got the key % x from the query of the key % x", key(&again), key(test.q))
			}
			var parsed message.Query
			if rcode, ok := parsed.Parse(again.Message); !ok || !bytes.Equal(key(&parsed), key(test.q)) {
				t.Errorf("the message of that query says something else (RCODE %d)", rcode)
			}
		})
	}
}

// TestCollision has two keys with one hash: neither gets the other's answer.
func TestCollision(t *testing.T) {
	c := preset("weir")
	s := newStore(&c)
	item := func(name string) ([]byte, item) {
		q := ask(name, dns.TypeA, epoch)
		k := appendKey(nil, q)
		r, err := says(0, "an "+name+" 300 IN A 192.0.2.1").Resolve(t.Context(), q, nil)
		if err != nil {
			t.Fatal(err)
		}
		return k, newItem(k, &r, c.decide(&r), 0, nil)
	}
	const hash = 0x1234567890ABCDEF
	k1, i1 := item("one.example.")
	k2, i2 := item("other.example.")
	var f found
	s.insert(hash, &i1, 0)
	if s.lookup(&f, k2, hash, 0, nil, false); f.state != missing {
		t.Error("the item of another key was found")
	}
	s.remove(k2, hash)
	s.fail(k2, hash, 0)
	if s.lookup(&f, k1, hash, 0, nil, false); f.state != live {
		t.Error("an operation on another key changed the item")
	}
	s.insert(hash, &i2, 0)
	for _, k := range [][]byte{k1, k2} { // there is room for both
		s.lookup(&f, k, hash, 0, nil, false)
		if name := k[:len(k)-keyTail]; f.state != live || !bytes.Equal(f.response.Message[12:][:len(name)], name) {
			t.Errorf("got state %d, message % x", f.state, f.response.Message)
		}
	}
	s.remove(k1, hash)
	if s.lookup(&f, k1, hash, 0, nil, false); f.state != missing {
		t.Error("an item that was removed was found")
	}
	if s.lookup(&f, k2, hash, 0, nil, false); f.state != live {
		t.Error("an item left with another one")
	}
}
