package host

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/weirdns/weir/host/message"
	mt "github.com/weirdns/weir/host/message/messagetest"
)

// TestRFC1035Header: a response has the ID, the opcode, RD and the question of the query, QR and RA, and counts that are those of its sections
// (section 4.1.1).
func TestRFC1035Header(t *testing.T) {
	soa := mt.Record([]byte{0}, message.TypeSOA, mt.Join([]byte{0, 0}, make([]byte, 20))...)
	_, clients := startWire(t, func(query []byte) []byte {
		return response(query, 0, 2, 1, 1, address(), address(), soa, mt.Record([]byte{0}, message.TypeA, 192, 0, 2, 2))
	}, "[upstream.up]", "[upstream.up]\nnorecurse = \"forward\"")
	for _, c := range clients {
		for _, rd := range []uint16{0, message.FlagRD} {
			query := flagged(rd, c.nameFor("Header", rd), message.TypeA)
			got := c.exchange(query)
			if want := message.FlagQR | message.FlagRA | rd; got.flags() != want || !bytes.Equal(got.question(), query[12:]) {
				t.Errorf("%s: flags %04x, want %04x; question %q, want %q", c.name, got.flags(), want, got.question(), query[12:])
			}
			sections := [3]uint16{}
			for r := range message.Records(got) {
				sections[r.Section]++
			}
			if n := got.counts(); n != [4]uint16{1, 2, 1, 1} || sections != [3]uint16{2, 1, 1} {
				t.Errorf("%s: counts %d, records %d", c.name, n, sections)
			}
		}
	}
}

// refused asks over each transport, wants a header with the RCODE, and that the upstream hears nothing.
func refused(t *testing.T, rcode uint16, queries ...[]byte) {
	t.Helper()
	e, clients := startWire(t, answerAddress)
	for _, c := range clients {
		for _, query := range queries {
			got := c.exchange(query)
			if got.rcode() != rcode || got.flags()>>11&15 != wireMessage(query).flags()>>11&15 || len(got.records()) > 0 {
				t.Errorf("%s: query %x: got %x, want RCODE %d", c.name, query, got, rcode)
			}
		}
		if got := c.exchange(mt.Canary()); got.rcode() != message.NOERROR {
			t.Errorf("%s: the next query got %x", c.name, got)
		}
	}
	for _, q := range e.take() {
		if !bytes.Contains(q, []byte("canary")) {
			t.Errorf("the upstream was asked %x", q)
		}
	}
}

// TestRFC5936Refused: AXFR is refused over each transport, for a cache of answers can't serve a zone (section 2.2).
func TestRFC5936Refused(t *testing.T) {
	refused(t, message.REFUSED, flagged(0, "zone.example", message.TypeAXFR))
}

// TestRFC1995Refused: IXFR is refused over each transport, with the SOA that it comes with or without (section 3).
func TestRFC1995Refused(t *testing.T) {
	soa := mt.Record(mt.Pointer(12), message.TypeSOA, mt.Join([]byte{0, 0}, make([]byte, 20))...)
	with := mt.Join(mt.Header(0, 0, 1, 0, 1, 0), mt.Question("zone.example", message.TypeIXFR), soa)
	refused(t, message.REFUSED, flagged(0, "zone.example", message.TypeIXFR), with)
}

// TestRFC1996Notify: a NOTIFY gets NOTIMP over each transport, and goes to no upstream (section 3).
func TestRFC1996Notify(t *testing.T) {
	refused(t, message.NOTIMP, flagged(4<<11|message.FlagAA, "zone.example", message.TypeSOA))
}

// TestRFC2136Update: an UPDATE gets NOTIMP over each transport, and goes to no upstream (section 3).
func TestRFC2136Update(t *testing.T) {
	update := mt.Join(mt.Header(0, 5<<11, 1, 0, 1, 0), mt.Question("zone.example", message.TypeSOA), address())
	refused(t, message.NOTIMP, update)
}

// TestRFC8490DSO: a DNS Stateful Operation gets NOTIMP over each transport, as from all who don't have it (section 5.1).
func TestRFC8490DSO(t *testing.T) {
	keepalive := mt.Join(mt.Header(0, 6<<11, 0, 0, 0, 0), []byte{0, 1, 0, 8, 0, 0, 0x3a, 0x98, 0, 0, 0x3a, 0x98})
	refused(t, message.NOTIMP, keepalive)
}

// TestRFC9619QDCOUNT: a query with a QDCOUNT other than 1 gets FORMERR over each transport (section 4).
func TestRFC9619QDCOUNT(t *testing.T) {
	q := mt.Question("www.example", message.TypeA)
	refused(t, message.FORMERR, mt.Header(0, message.FlagRD, 0, 0, 0, 0), mt.Join(mt.Header(0, message.FlagRD, 2, 0, 0, 0), q, q),
		mt.Join(mt.Header(0, message.FlagRD, 65535, 0, 0, 0), q))
}

// TestRFC8906Malformed: each malformed query that has a header is answered with FORMERR, or what is wrong with it, over each transport, and so is the query
// after it (sections 3 and 5).
func TestRFC8906Malformed(t *testing.T) {
	_, clients := startWire(t, answerAddress)
	asked := 0
	for _, c := range clients {
		for _, tt := range mt.Queries() {
			if tt.RCODE == message.NOERROR || tt.RCODE == message.Ignore {
				continue
			}
			asked++
			got := c.exchange(tt.Octets)
			extended := uint16(0)
			if opt := got.opt(); opt != nil {
				extended = uint16(opt[5])
			}
			if rcode := extended<<4 | got.rcode(); rcode != tt.RCODE || (got.opt() != nil) != tt.OPT || len(got.records()) > 0 {
				t.Errorf("%s: %s: got %x, want %s", c.name, tt.Name, got, message.RCODEString(tt.RCODE))
			}
			if got := c.exchange(mt.Canary()); got.rcode() != message.NOERROR || len(got.records()) == 0 {
				t.Errorf("%s: after %s: got %x", c.name, tt.Name, got)
			}
		}
	}
	if asked < 60*len(clients) {
		t.Errorf("there are %d malformed queries", asked)
	}
}

// everyOctet are names whose first labels have each octet that there is, in one label or another.
func everyOctet() (names [][]byte) {
	for first := 0; first < 256; first += 32 {
		label := []byte{32}
		for o := first; o < first+32; o++ {
			label = append(label, byte(o))
		}
		names = append(names, mt.Join(label, mt.Name("octets.example")))
	}
	return names
}

// TestRFC2181AnyOctet: a label may have any octet, and goes to the upstream and back as it is, over each transport and from the cache (section 11).
func TestRFC2181AnyOctet(t *testing.T) {
	e, clients := startWire(t, answerAddress)
	for _, c := range clients {
		for _, name := range everyOctet() {
			query := mt.Join(mt.Header(0, message.FlagRD, 1, 0, 0, 0), name, []byte{0, 1, 0, 1})
			if got := c.exchange(query); got.rcode() != message.NOERROR || !bytes.Equal(got.question(), query[12:]) || !bytes.HasPrefix(got.records(), mt.Pointer(12)) {
				t.Errorf("%s: %q: got %x", c.name, name, got)
			}
		}
	}
	if got, want := e.fetched(), len(everyOctet()); got != want { // all others are from the cache
		t.Errorf("%d queries went to the upstream, want %d", got, want)
	}
	names := map[string]bool{}
	for _, name := range everyOctet() {
		names[string(name)] = true
	}
	for _, q := range e.take() {
		if got := wireMessage(q).question(); !names[string(got[:len(got)-4])] {
			t.Errorf("the upstream was asked for %q", got)
		}
	}
}

// TestRFC3597Unknown: records of types and classes that nobody knows pass octet by octet, and what looks like a compressed name in them is none, over
// each transport and from the cache (sections 3 and 4).
func TestRFC3597Unknown(t *testing.T) {
	const qtype, class = 0xFF01, 0xFEDC
	record := mt.Record(mt.Pointer(12), qtype, mt.Join(mt.Pointer(12), []byte{3, 'w', 'W', 'w'}, mt.Pointer(16), mt.Repeat(40, 0xC0, 0xFF, 0))...)
	binary.BigEndian.PutUint16(record[4:], class)
	empty := mt.Record(mt.Pointer(12), qtype)
	e, clients := startWire(t, func(query []byte) []byte { return response(query, 0, 2, 0, 0, record, empty) })
	for _, c := range clients {
		query := wireQuery(c.nameFor("unknown"), qtype)
		binary.BigEndian.PutUint16(query[len(query)-2:], class)
		for _, from := range []string{"upstream", "cache"} {
			got := c.exchange(query).records()
			if len(got) == len(record)+len(empty) {
				copy(got[6:], record[6:10]) // the TTL, which is less after some time
				copy(got[len(record)+6:], record[6:10])
			}
			if !bytes.Equal(got, mt.Join(record, empty)) || !bytes.Equal(c.exchange(query).question(), query[12:]) {
				t.Errorf("%s: from the %s: got %x, want %x", c.name, from, got, record)
			}
		}
	}
	if got := e.fetched(); got != len(clients) {
		t.Errorf("the upstream was asked %d times, want %d", got, len(clients))
	}
}

// TestRFC4343Case: names that differ in the case of ASCII letters only are one name, for rules and the cache, other octets have no case, and each response
// has the case of its query (sections 3 and 4.1).
func TestRFC4343Case(t *testing.T) {
	e, clients := startWire(t, answerAddress, "filters = []", `filters = ["rules"]`, "[upstream.up]", `[filter.rules.config]
rule = [ { zone = "Ruled.Example", rcode = "NXDOMAIN" } ]
[upstream.up]`)
	for _, c := range clients {
		for _, name := range []string{"www.CASE.example", "WWW.case.EXAMPLE", "wWw.cAsE.eXaMpLe"} {
			if got := c.exchange(wireQuery(name, message.TypeA)); !bytes.HasPrefix(got.question(), mt.Name(name)) || len(got.records()) == 0 {
				t.Errorf("%s: %s: got %q", c.name, name, got)
			}
		}
		if got := c.exchange(wireQuery("wWw.rUlEd.eXaMpLe", message.TypeA)); got.rcode() != message.NXDOMAIN || !bytes.HasPrefix(got.question(), mt.Name("wWw.rUlEd.eXaMpLe")) {
			t.Errorf("%s: got %q", c.name, got)
		}
		for _, name := range []string{"\xc4\x80[.case.example", "\xe4\xa0{.case.example"} { // 0x20 apart
			c.exchange(wireQuery(name, message.TypeA))
		}
	}
	if got := e.fetched(); got != 3 {
		t.Errorf("the upstream was asked %d times, want once for the name in three cases, and for each of the others", got)
	}
}

// TestRFC4592Ordinary: to the cache, to rules, and in a query, the label * is like any other: what holds for it holds for no other name (section 2.1.3).
func TestRFC4592Ordinary(t *testing.T) {
	e, clients := startWire(t, answerAddress, "filters = []", `filters = ["rules"]`, "[upstream.up]", `[filter.rules.config]
rule = [ { zone = "*.ruled.example", rcode = "NXDOMAIN" } ]
[upstream.up]`)
	for _, c := range clients {
		before := e.fetched()
		names := []string{"*", "a", "b.a", "*.a", "**"}
		for range 2 {
			for _, label := range names {
				name := label + "." + c.nameFor("star")
				if got := c.exchange(wireQuery(name, message.TypeA)); !bytes.HasPrefix(got.question(), mt.Name(name)) || len(got.records()) == 0 {
					t.Errorf("%s: %s: got %x", c.name, name, got)
				}
			}
		}
		if got := e.fetched() - before; got != len(names) {
			t.Errorf("%s: %d queries went to the upstream, want one for each of %s", c.name, got, strings.Join(names, ", "))
		}
		for name, want := range map[string]uint16{"*.ruled.example": message.NXDOMAIN, "a.*.ruled.example": message.NXDOMAIN, "a.ruled.example": message.NOERROR} {
			if got := c.exchange(wireQuery(name, message.TypeA)); got.rcode() != want {
				t.Errorf("%s: %s: got %x, want RCODE %d", c.name, name, got, want)
			}
		}
	}
}

// TestRFC8482Forwarded: ANY is a type like any other: the upstream decides how little of an answer that is, and it is kept for ANY alone (section 4).
func TestRFC8482Forwarded(t *testing.T) {
	hinfo := mt.Record(mt.Pointer(12), 13, mt.Join([]byte{7}, []byte("RFC8482"), []byte{0})...)
	e, clients := startWire(t, func(query []byte) []byte {
		if q := wireMessage(query).question(); binary.BigEndian.Uint16(q[len(q)-4:]) == message.TypeANY {
			return response(query, 0, 1, 0, 0, hinfo)
		}
		return answerAddress(query)
	})
	for _, c := range clients {
		for range 2 {
			got := c.exchange(wireQuery(c.nameFor("any"), message.TypeANY)).records()
			if len(got) == len(hinfo) {
				copy(got[6:], hinfo[6:10])
			}
			if !bytes.Equal(got, hinfo) {
				t.Errorf("%s: got %x, want %x", c.name, got, hinfo)
			}
		}
		if got := c.exchange(wireQuery(c.nameFor("any"), message.TypeA)).records(); len(got) < 4 || got[3] != message.TypeA {
			t.Errorf("%s: got %x for A", c.name, got)
		}
	}
	if got, want := e.fetched(), 2*len(clients); got != want {
		t.Errorf("the upstream was asked %d times, want %d", got, want)
	}
}

// TestRFC6672DNAME: a DNAME and the CNAME that was made of it pass as they are, over each transport and from the cache, and none is made for another name
// (section 3.4).
func TestRFC6672DNAME(t *testing.T) {
	answer := func(query []byte) []byte {
		owner := mt.Pointer(12 + 1 + int(query[12]))
		dname := mt.Record(owner, 39, mt.Name("other.example")...)
		cname := mt.Record(mt.Pointer(12), message.TypeCNAME, mt.Join([]byte("\x03www"), mt.Name("other.example"))...)
		return response(query, 0, 3, 0, 0, dname, cname, mt.Record(mt.Join([]byte("\x03www"), mt.Name("other.example")), message.TypeA, 192, 0, 2, 1))
	}
	e, clients := startWire(t, answer)
	for i, c := range clients {
		query := wireQuery("www."+c.nameFor("dname"), message.TypeA)
		want := wireMessage(answer(query)).records()
		for range 2 {
			if got := c.exchange(query).records(); !bytes.Equal(got, want) {
				t.Errorf("%s: got %x, want %x", c.name, got, want)
			}
		}
		c.exchange(wireQuery("a.b."+c.nameFor("dname"), message.TypeA))
		if got, want := e.fetched(), 2*(i+1); got != want {
			t.Errorf("%s: %d queries went to the upstream, want %d", c.name, got, want)
		}
	}
}
