package host

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/weirdns/weir/host/message"
	mt "github.com/weirdns/weir/host/message/messagetest"
)

const flagDO = 1 << 15 // in the TTL of an OPT

// ofOPT returns what an OPT says: the payload size, the extended RCODE, the version and the flags.
func ofOPT(opt []byte) (size uint16, extended, version byte, flags uint16) {
	if opt == nil { // which is what a test looks for, by an EDNS version that there isn't
		return 0, 0, 0xFF, 0xFFFF
	}
	return binary.BigEndian.Uint16(opt[3:]), opt[5], opt[6], binary.BigEndian.Uint16(opt[7:])
}

// TestRFC6891OPT: there is an OPT in a response if and only if the query has one (sections 6.1.1 and 7).
func TestRFC6891OPT(t *testing.T) {
	_, clients := startWire(t, func(query []byte) []byte { return response(query, 0, 1, 0, 1, address(), mt.OPT(1232, 0)) })
	for _, c := range clients {
		for range 2 { // from the upstream, then from the cache
			if got := c.exchange(wireQuery(c.nameFor("opt"), message.TypeA)); got.opt() != nil || len(got.records()) == 0 {
				t.Errorf("%s: without EDNS: got %x", c.name, got)
			}
			got := c.exchange(wireQuery(c.nameFor("opt"), message.TypeA, mt.OPT(1232, 0)))
			if got.opt() == nil || len(got.records()) == 0 {
				t.Fatalf("%s: with EDNS: got %x", c.name, got)
			}
			if size, extended, version, flags := ofOPT(got.opt()); size != 1232 || extended != 0 || version != 0 || flags != 0 {
				t.Errorf("%s: the OPT has size %d, extended RCODE %d, version %d, flags %04x", c.name, size, extended, version, flags)
			}
		}
	}
}

// TestRFC6891Version: a version above 0 gets BADVERS, which comes with an OPT of version 0 and no answer (section 6.1.3).
func TestRFC6891Version(t *testing.T) {
	e, clients := startWire(t, answerAddress)
	for _, c := range clients {
		for _, version := range []uint32{1, 2, 255} {
			got := c.exchange(wireQuery(c.nameFor("version"), message.TypeA, mt.OPT(1232, version<<16|flagDO)))
			if got.opt() == nil || len(got.records()) > 0 {
				t.Fatalf("%s: version %d: got %x", c.name, version, got)
			}
			if _, extended, version, _ := ofOPT(got.opt()); extended<<4|byte(got.rcode()) != message.BADVERS || version != 0 {
				t.Errorf("%s: got RCODE %d, version %d", c.name, extended<<4|byte(got.rcode()), version)
			}
		}
	}
	if asked := e.take(); len(asked) > 0 {
		t.Errorf("the upstream was asked %x", asked)
	}
}

// TestRFC6891Size: over UDP, a payload size below 512 means 512 octets (section 6.2.3).
func TestRFC6891Size(t *testing.T) {
	text := mt.Record(mt.Pointer(12), 16, mt.Join([]byte{255}, mt.Repeat(255, 'x'), []byte{150}, mt.Repeat(150, 'x'))...)
	_, clients := startWire(t, func(query []byte) []byte {
		if query[12] == 3 { // a name of three letters: an answer that is larger
			return response(query, 0, 2, 0, 0, text, text)
		}
		return response(query, 0, 1, 0, 0, text)
	})
	for _, c := range clients {
		for _, size := range []uint16{0, 1, 12, 511, 512} {
			fits := c.exchange(wireQuery("fits.example", 16, mt.OPT(size, 0)))
			if len(fits) > 512 || fits.flags()&message.FlagTC != 0 || len(fits.records()) != len(text) {
				t.Errorf("%s, %d: got %x", c.name, size, fits)
			}
			not := c.exchange(wireQuery("not.example", 16, mt.OPT(size, 0)))
			if want := c.name == "udp"; (not.flags()&message.FlagTC != 0) != want || want && (len(not) > 512 || not.opt() == nil) || !want && len(not.records()) != 2*len(text) {
				t.Errorf("%s, %d: got %x", c.name, size, not)
			}
		}
	}
}

// TestRFC6891OneOPT: a second OPT, or one that is not at the root or not in the additional section, makes a query malformed (section 6.1.1).
func TestRFC6891OneOPT(t *testing.T) {
	q, opt := mt.Question("www.example", message.TypeA), mt.OPT(1232, 0)
	refused(t, message.FORMERR, mt.Join(mt.Header(0, message.FlagRD, 1, 0, 0, 2), q, opt, opt), mt.Join(mt.Header(0, message.FlagRD, 1, 0, 0, 1), q, []byte{1, 'x'}, opt),
		mt.Join(mt.Header(0, message.FlagRD, 1, 1, 0, 0), q, opt), mt.Join(mt.Header(0, message.FlagRD, 1, 0, 1, 0), q, opt))
}

// TestRFC6891Z: flags of EDNS other than DO are sent by nobody but the client, and change nothing (section 6.1.4).
func TestRFC6891Z(t *testing.T) {
	e, clients := startWire(t, func(query []byte) []byte { return response(query, 0, 1, 0, 1, address(), mt.OPT(1232, 0x7FFF)) })
	for _, c := range clients {
		for _, flags := range []uint16{0x7FFF, 0xFFFF} {
			got := c.exchange(wireQuery(c.nameFor("z", flags), message.TypeA, mt.OPT(1232, uint32(flags))))
			if len(got.records()) == 0 || got.opt() == nil {
				t.Fatalf("%s: got %x", c.name, got)
			}
			if _, _, _, flags := ofOPT(got.opt()); flags&^flagDO != 0 {
				t.Errorf("%s: the client got flags %04x", c.name, flags)
			}
		}
	}
	for _, q := range e.take() {
		if _, _, _, flags := ofOPT(wireMessage(q).opt()); flags&^flagDO != 0 {
			t.Errorf("the upstream got flags %04x", flags)
		}
	}
}

// optionsOf makes the options of an OPT, each with two octets of data.
func optionsOf(numbers ...uint16) (options []byte) {
	for _, n := range numbers {
		options = append(binary.BigEndian.AppendUint16(options, n), 0, 2, 0x5A, 0xA5)
	}
	return options
}

// TestRFC6891HopByHop: options are between neighbours: those of the client do not reach the upstream, nor those of the upstream the client, whether known or
// unknown (section 6.1.1).
func TestRFC6891HopByHop(t *testing.T) {
	numbers := []uint16{1, 3, 5, 6, 7, 9, 13, 14, 16, 17, 18, 19, 4242, 26946, 65001, 65535} // assigned, unassigned, and for local use
	e, clients := startWire(t, func(query []byte) []byte {
		return response(query, 0, 1, 0, 1, address(), mt.OPT(4096, 0, optionsOf(numbers...)...))
	})
	for _, c := range clients {
		for range 2 {
			got := c.exchange(wireQuery(c.nameFor("hop"), message.TypeA, mt.OPT(1232, 0, optionsOf(numbers...)...)))
			if options := got.options(); got.opt() == nil || len(options) > 0 || len(got.records()) == 0 {
				t.Errorf("%s: the client got %x", c.name, got)
			}
		}
	}
	for _, q := range e.take() {
		for number, data := range wireMessage(q).options() {
			if bytes.Contains(data, []byte{0x5A, 0xA5}) {
				t.Errorf("the upstream got option %d: %x", number, data)
			}
		}
	}
}

// TestRFC9567ReportChannel: the option Report-Channel is neither sent nor passed on nor kept, for reports are for those who validate (section 5).
func TestRFC9567ReportChannel(t *testing.T) {
	const option = 18
	agent := mt.Name("agent.example")
	channel := mt.OPT(1232, 0, mt.Join([]byte{0, option, 0, byte(len(agent))}, agent)...)
	e, clients := startWire(t, func(query []byte) []byte { return response(query, 0, 1, 0, 1, address(), channel) })
	for _, c := range clients {
		for range 2 {
			if got := c.exchange(wireQuery(c.nameFor("report"), message.TypeA, channel)); bytes.Contains(got, []byte("agent")) || len(got.records()) == 0 {
				t.Errorf("%s: got %x", c.name, got)
			}
		}
	}
	for _, q := range e.take() {
		if _, there := wireMessage(q).options()[option]; there || bytes.Contains(q, []byte("agent")) {
			t.Errorf("the upstream got %x", q)
		}
	}
}

// TestRFC3225DO: DO goes to the upstream as the client sets it, and back to the client, and answers with and without it are kept apart (section 3).
func TestRFC3225DO(t *testing.T) {
	e, clients := startWire(t, func(query []byte) []byte { return response(query, 0, 1, 0, 1, address(), mt.OPT(1232, flagDO)) })
	for _, c := range clients {
		for _, do := range []uint32{0, flagDO} {
			before, name := e.fetched(), c.nameFor("do")
			for range 2 {
				got := c.exchange(wireQuery(name, message.TypeA, mt.OPT(1232, do)))
				if _, _, _, flags := ofOPT(got.opt()); flags != uint16(do) {
					t.Errorf("%s: flags %04x, want %04x", c.name, flags, do)
				}
			}
			if got := e.fetched() - before; got != 1 {
				t.Errorf("%s: %d queries went to the upstream, want 1", c.name, got)
			}
			asked := e.askedFor(name)
			if !slices.ContainsFunc(asked, func(q wireMessage) bool { _, _, _, flags := ofOPT(q.opt()); return flags == uint16(do) }) {
				t.Errorf("%s: the upstream was asked %x, want flags %04x", c.name, asked, do)
			}
		}
	}
}

// TestRFC4035CD: CD goes to the upstream as the client sets it, and back to the client, and answers with and without it are kept apart (sections 3.2.2 and
// 4.7).
func TestRFC4035CD(t *testing.T) {
	e, clients := startWire(t, answerAddress)
	for _, c := range clients {
		for _, cd := range []uint16{0, message.FlagCD} {
			before, name := e.fetched(), c.nameFor("cd")
			for range 2 {
				if got := c.exchange(flagged(message.FlagRD|cd, name, message.TypeA)); got.flags()&message.FlagCD != cd {
					t.Errorf("%s: flags %04x, want CD %04x", c.name, got.flags(), cd)
				}
			}
			if got := e.fetched() - before; got != 1 {
				t.Errorf("%s: %d queries went to the upstream, want 1", c.name, got)
			}
			asked := e.askedFor(name)
			if !slices.ContainsFunc(asked, func(q wireMessage) bool { return q.flags()&message.FlagCD == cd }) {
				t.Errorf("%s: the upstream was asked %x, want CD %04x", c.name, asked, cd)
			}
		}
	}
}

// TestRFC4035Strip: records that authenticate others reach a client without DO only if it asks for their type, even if the upstream sends them
// (section 3.2.1).
func TestRFC4035Strip(t *testing.T) {
	sig := func(owner []byte, covered byte) []byte {
		return mt.Record(owner, message.TypeRRSIG, mt.Join([]byte{0, covered, 8, 2}, make([]byte, 14), mt.Name("example"), mt.Repeat(32, 0xC0))...)
	}
	// The owners of what stays lead into what goes.
	answer := func(query []byte) []byte {
		end := byte(12 + len(wireMessage(query).question()))
		nsec := mt.Record(mt.Name("zone.example"), message.TypeNSEC, mt.Join(mt.Name("next.example"), []byte{0, 1, 0x40})...)
		ns := mt.Record(mt.Pointer(int(end)), message.TypeNS, mt.Join([]byte{2, 'n', 's'}, mt.Pointer(int(end)))...)
		return response(query, 0, 3, 2, 0, nsec, address(), sig(mt.Pointer(12), message.TypeA), ns, sig(mt.Pointer(int(end)), message.TypeNS))
	}
	_, clients := startWire(t, answer)
	for _, c := range clients {
		for _, tt := range []struct {
			name  string
			qtype uint16
			do    uint32
			want  []uint16
		}{
			{"plain", message.TypeA, 0, []uint16{message.TypeA, message.TypeNS}},
			{"NSEC", message.TypeNSEC, 0, []uint16{message.TypeNSEC, message.TypeA, message.TypeNS}},
			{"ANY", message.TypeANY, 0, []uint16{message.TypeNSEC, message.TypeA, message.TypeRRSIG, message.TypeNS, message.TypeRRSIG}},
			{"DO", message.TypeA, flagDO, []uint16{message.TypeNSEC, message.TypeA, message.TypeRRSIG, message.TypeNS, message.TypeRRSIG}},
		} {
			for range 2 { // from the upstream, then from the cache
				got := c.exchange(wireQuery(c.nameFor("strip", tt.name), tt.qtype, mt.OPT(1232, tt.do)))
				var types []uint16
				server := ""
				for r := range message.Records(got) {
					if r.Type == message.TypeNS {
						name, _, err := message.AppendName(nil, got, r.At+6)
						if err != nil {
							t.Fatalf("%s: %x: %v", c.name, got, err)
						}
						server = message.NameString(name)
					}
					if r.Type != message.TypeOPT {
						types = append(types, r.Type)
					}
				}
				if !slices.Equal(types, tt.want) || server != "ns.zone.example." {
					t.Errorf("%s, %s: got types %d, server %s, want %d and ns.zone.example.", c.name, tt.name, types, server, tt.want)
				}
			}
		}
	}
}

// startTrusted is startWire with a trusted server over TLS.
func startTrusted(t *testing.T, respond played) []wireClient {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	t.Cleanup(serving.Wait)
	t.Cleanup(func() { l.Close() })
	e, clients := startWire(t, respond, `servers = ["UP"]`, fmt.Sprintf("servers = [\"tls://%s\"]\nca = \"ca.pem\"\ntrusted = true\n", l.Addr()))
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go playStream(tls.Server(c, &tls.Config{Certificates: []tls.Certificate{e.authority.Pair("up.example")}}), respond)
		}
	})
	return clients
}

// TestRFC6840AD: AD reaches a client that sets AD or DO, if the upstream is trusted, and no other (sections 5.7 and 5.8).
func TestRFC6840AD(t *testing.T) {
	authentic := func(query []byte) []byte { return response(query, message.FlagAD, 1, 0, 0, address()) }
	for _, trusted := range []bool{false, true} {
		t.Run(fmt.Sprintf("trusted %t", trusted), func(t *testing.T) {
			var clients []wireClient
			if trusted {
				clients = startTrusted(t, authentic)
			} else {
				_, clients = startWire(t, authentic)
			}
			for _, c := range clients {
				for i, tt := range []struct {
					flags uint16
					opt   uint32
					want  bool
				}{{0, 0, false}, {message.FlagAD, 0, true}, {0, flagDO, true}, {message.FlagAD, flagDO, true}} {
					for _, from := range []string{"upstream", "cache"} {
						got := c.exchange(flagged(message.FlagRD|tt.flags, c.nameFor("ad", i), message.TypeA, mt.OPT(1232, tt.opt)))
						if ad := got.flags()&message.FlagAD != 0; ad != (tt.want && trusted) || len(got.records()) == 0 {
							t.Errorf("%s, from the %s: AD %04x, DO %04x: got AD %t", c.name, from, tt.flags, tt.opt, ad)
						}
					}
				}
			}
		})
	}
}

// TestRFC5625Flags: a query with flags that nobody expects is forwarded like any other (section 4.1).
func TestRFC5625Flags(t *testing.T) {
	const all = message.FlagAA | message.FlagTC | message.FlagRD | message.FlagRA | message.FlagZ | message.FlagAD | message.FlagCD | 0xF
	e, clients := startWire(t, answerAddress)
	for _, c := range clients {
		if got := c.exchange(flagged(all, c.nameFor("flags"), message.TypeA)); got.rcode() != 0 || len(got.records()) == 0 || got.flags()&(message.FlagAA|message.FlagTC|message.FlagZ) != 0 {
			t.Errorf("%s: got %x", c.name, got)
		}
	}
	for _, q := range e.take() {
		if got, want := wireMessage(q).flags(), uint16(message.FlagRD|message.FlagAD|message.FlagCD); got != want {
			t.Errorf("the upstream got flags %04x, want %04x", got, want)
		}
	}
}

// TestRFC5625TCP: a listener that says nothing of protocols is there over UDP and TCP, and an answer that UDP has no room for comes over TCP (section 4.4.1).
func TestRFC5625TCP(t *testing.T) {
	text := mt.Record(mt.Pointer(12), 16, mt.Join([]byte{255}, mt.Repeat(255, 'x'))...)
	_, clients := startWire(t, func(query []byte) []byte { return response(query, 0, 20, 0, 0, mt.Repeat(20, text...)) })
	for _, c := range clients[:2] {
		got := c.exchange(wireQuery("large.example", 16))
		if c.name == "udp" && (got.flags()&message.FlagTC == 0 || len(got.records()) > 0) || c.name == "tcp" && len(got.records()) != 20*len(text) {
			t.Errorf("%s: got %x", c.name, got)
		}
	}
}

// TestRFC8945Refused: a query with TSIG is refused, for weir can't change it on its way, which it would have to, and neither it nor an answer to it is kept; a
// TSIG that is not the last record makes it malformed (sections 5.1 and 5.5).
func TestRFC8945Refused(t *testing.T) {
	tsig := mt.Record(mt.Name("key.example"), message.TypeTSIG, mt.Join(mt.Name("hmac-sha256"), make([]byte, 10+32+6))...)
	refused(t, message.REFUSED, wireQuery("www.example", message.TypeA, tsig), wireQuery("www.example", message.TypeA, mt.OPT(1232, 0), tsig))
	refused(t, message.FORMERR, wireQuery("www.example", message.TypeA, tsig, mt.OPT(1232, 0)), wireQuery("www.example", message.TypeA, tsig, tsig))
}

// TestRFC2931Refused: a query with SIG(0) is refused, as one with TSIG is (section 3).
func TestRFC2931Refused(t *testing.T) {
	refused(t, message.REFUSED, wireQuery("www.example", message.TypeA, mt.Record([]byte{0}, message.TypeSIG, mt.Repeat(40, 0)...)))
}

// TestRFC9460Opaque: SVCB and HTTPS records pass octet by octet, with keys that nobody knows, and targets in any case, over each transport and from the
// cache (sections 2.2 and 4.3).
func TestRFC9460Opaque(t *testing.T) {
	params := []byte{0, 1, 0, 3, 2, 'h', '2', 0, 4, 0, 4, 192, 0, 2, 1, 0xFF, 0x00, 0, 2, 0xC0, 12}
	for _, qtype := range []uint16{64, 65} {
		record := mt.Record(mt.Pointer(12), qtype, mt.Join([]byte{0, 1}, mt.Name("Svc.Example"), params)...)
		alias := mt.Record(mt.Pointer(12), qtype, 0, 0, 0)
		_, clients := startWire(t, func(query []byte) []byte { return response(query, 0, 2, 0, 0, record, alias) })
		for _, c := range clients {
			for range 2 {
				got := c.exchange(wireQuery(c.nameFor("svc"), qtype)).records()
				if len(got) == len(record)+len(alias) {
					copy(got[6:], record[6:10])
					copy(got[len(record)+6:], record[6:10])
				}
				if !bytes.Equal(got, mt.Join(record, alias)) {
					t.Errorf("%s: type %d: got %x, want %x", c.name, qtype, got, record)
				}
			}
		}
	}
}

// TestRFC8914Passed: an Extended DNS Error of the upstream reaches the clients that have EDNS, from the upstream and from the cache, with its text and more than one
// (section 3).
func TestRFC8914Passed(t *testing.T) {
	errors := mt.Join([]byte{0, 15, 0, 8, 0, 18}, []byte("family"), []byte{0, 15, 0, 2, 0, 4})
	_, clients := startWire(t, func(query []byte) []byte {
		return response(query, message.NXDOMAIN, 0, 1, 1, mt.Record([]byte{0}, message.TypeSOA, mt.Join([]byte{0, 0}, mt.Repeat(20, 0, 0, 0, 60))[:22]...), mt.OPT(1232, 0, errors...))
	})
	for _, c := range clients {
		for _, from := range []string{"upstream", "cache"} {
			got := c.exchange(wireQuery(c.nameFor("ede"), message.TypeA, mt.OPT(1232, 0)))
			if got.rcode() != message.NXDOMAIN || got.opt() == nil || !bytes.HasPrefix(got.opt()[11:], errors) {
				t.Errorf("%s, from the %s: got %x, want %x in it", c.name, from, got, errors)
			}
		}
		if got := c.exchange(wireQuery(c.nameFor("ede"), message.TypeA)); got.opt() != nil || strings.Contains(string(got), "family") {
			t.Errorf("%s, without EDNS: got %x", c.name, got)
		}
	}
}
