//go:build !wasip1

package sdktest

import (
	"math/bits"
	"math/rand/v2"
	"net"
	"net/netip"
	"regexp"
	"strings"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/abi"
	"github.com/weirdns/weir/sdk"
)

// generator makes up queries and responses that have to do with a file of cases.
type generator struct {
	random    *rand.Rand
	names     []string // presentation format, with the last dot
	addresses []netip.Addr
	upstreams []string
	queries   []query // of the cases
}

var (
	nameLike    = regexp.MustCompile(`[A-Za-z0-9_*-]+(\.[A-Za-z0-9_*-]+)*\.?`)
	addressLike = regexp.MustCompile(`[0-9a-fA-F:]*:[0-9a-fA-F:]+|[0-9]+(\.[0-9]+){3}`)
)

// newGenerator collects what looks like a name or an address in the configuration, the tables and the cases of a file.
func newGenerator(f *File, random *rand.Rand) *generator {
	g := &generator{random: random, names: []string{"."}, addresses: []netip.Addr{{}}, upstreams: append([]string{""}, f.Upstreams...)}
	texts := []string{string(f.Config)}
	for _, t := range f.tables {
		texts = append(texts, t.text)
		for _, key := range newTableKeys(t) {
			g.names = append(g.names, string(sdk.AppendText(nil, []byte(key))))
		}
	}
	for _, c := range f.Cases {
		g.names = append(g.names, c.Steps[0].Query.name)
		g.addresses = append(g.addresses, c.Steps[0].Query.address)
		g.queries = append(g.queries, *c.Steps[0].Query)
	}
	for _, text := range texts {
		for _, s := range nameLike.FindAllString(text, -1) {
			if _, ok := dns.IsDomainName(s); ok {
				g.names = append(g.names, dns.Fqdn(s))
			}
		}
		for _, s := range addressLike.FindAllString(text, -1) {
			if a, err := netip.ParseAddr(s); err == nil {
				g.addresses = append(g.addresses, a)
			}
		}
	}
	return g
}

// newTableKeys returns the names in a table, owners in zones with their $ORIGIN among them.
func newTableKeys(s source) []string {
	t, err := newTable(s.name, s.kind, s.text)
	if err != nil {
		return nil
	}
	return t.keys
}

// choose returns one of several values.
func choose[T any](g *generator, values ...T) T { return values[g.random.IntN(len(values))] }

// one reports true one time in n.
func (g *generator) one(n int) bool { return g.random.IntN(n) == 0 }

var commonTypes = []uint16{
	dns.TypeA, dns.TypeAAAA, dns.TypeMX, dns.TypeTXT, dns.TypeNS, dns.TypeSOA, dns.TypeCNAME, dns.TypePTR, dns.TypeSRV, dns.TypeDS, dns.TypeDNAME,
	dns.TypeHTTPS, dns.TypeANY, dns.TypeAXFR, dns.TypeIXFR, dns.TypeRRSIG, dns.TypeNSEC, dns.TypeHINFO, dns.TypeCAA, 65280,
}

// query makes up a query: one of the cases with something changed, or any.
func (g *generator) query() *query {
	if len(g.queries) > 0 && g.one(2) {
		q, other := choose(g, g.queries...), g.any()
		for range g.random.IntN(3) {
			switch g.random.IntN(5) {
			case 0:
				q.name = other.name
			case 1:
				q.qtype = other.qtype
			case 2:
				q.address = other.address
			case 3:
				q.flags, q.norec, q.transport = other.flags, other.norec, other.transport
			case 4:
				q.name = strings.ToUpper(q.name[:1]) + q.name[1:]
			}
		}
		return &q
	}
	return g.any()
}

// any makes up any query.
func (g *generator) any() *query {
	q := &query{name: g.name(), qtype: choose(g, commonTypes...), qclass: dns.ClassINET, norec: g.one(8), transport: byte(g.random.IntN(5)), address: g.address()}
	if g.one(3) {
		q.qtype = choose(g, dns.TypeA, dns.TypeAAAA)
	}
	if g.one(50) {
		q.qtype = uint16(g.random.IntN(65536))
	}
	if g.one(20) {
		q.qclass = choose[uint16](g, dns.ClassCHAOS, dns.ClassHESIOD, dns.ClassANY, 77)
	}
	switch g.random.IntN(4) {
	case 0:
		q.flags = abi.FlagEDNS
	case 1:
		q.flags = abi.FlagEDNS | abi.FlagDO
	}
	if g.one(4) {
		q.flags |= abi.FlagExplain
	}
	if g.one(8) {
		q.flags |= abi.FlagForwarded
	}
	return q
}

// name makes up a name: mostly one that is known, or one beside, above or below it.
func (g *generator) name() string {
	name := choose(g, g.names...)
	for range g.random.IntN(3) {
		labels := dns.SplitDomainName(name)
		switch n := len(labels); g.random.IntN(9) {
		case 0: // below
			name = g.label() + "." + strings.TrimPrefix(name, ".")
		case 1: // far below
			for range g.random.IntN(30) {
				name = g.label() + "." + strings.TrimPrefix(name, ".")
			}
		case 2: // above
			if n > 0 {
				name = dns.Fqdn(strings.Join(labels[1:], "."))
			}
		case 3: // beside
			if n > 0 {
				labels[g.random.IntN(n)] = g.label()
				name = dns.Fqdn(strings.Join(labels, "."))
			}
		case 4: // another first label of a known name
			name = choose(g, dns.SplitDomainName(choose(g, g.names...)+"x.")...) + "." + strings.TrimPrefix(name, ".")
		case 5: // a border in another place
			if i := strings.IndexByte(name, '.'); n > 1 && i > 0 && name[i-1] != '\\' {
				name = name[:i] + name[i+1:]
			}
		case 6: // letters in the other case
			name = strings.ToUpper(name)
		case 7: // as long as can be
			for len(exact(name)) < 190 && !g.one(20) {
				name = strings.Repeat("l", 1+g.random.IntN(63)) + "." + strings.TrimPrefix(name, ".")
			}
		}
		if len(exact(name)) == 0 {
			name = choose(g, g.names...)
		}
	}
	return name
}

// label makes up a label, sometimes of any octets.
func (g *generator) label() string {
	switch g.random.IntN(6) {
	case 0:
		return choose(g, "www", "*", "_tcp", "a", "x-1", "ns", "1", "0")
	case 1:
		octets := make([]byte, 1+g.random.IntN(5))
		for i := range octets {
			octets[i] = byte(g.random.IntN(256))
		}
		text := string(sdk.AppendText(nil, append([]byte{byte(len(octets))}, append(octets, 0)...)))
		return strings.TrimSuffix(text, ".")
	}
	letters := make([]byte, 1+g.random.IntN(8))
	for i := range letters {
		letters[i] = "abcdefghijklmnopqrstuvwxyz0123456789-"[g.random.IntN(37)]
	}
	return string(letters)
}

// address makes up a client: one that is known, one beside it, any, or none.
func (g *generator) address() netip.Addr {
	a := choose(g, g.addresses...)
	if !a.IsValid() {
		if g.one(2) {
			return a
		}
		a = choose(g, netip.AddrFrom4([4]byte{}), netip.IPv6Unspecified())
	}
	octets := a.AsSlice()
	switch g.random.IntN(4) {
	case 0:
		for i := range octets {
			octets[i] = byte(g.random.IntN(256))
		}
	case 1:
		octets[g.random.IntN(len(octets))] ^= 1 << g.random.IntN(8)
	case 2:
		if len(octets) == 4 && g.one(2) {
			b := netip.AddrFrom4([4]byte(octets)).As16() // IPv4 in the form of IPv6
			octets = b[:]
		}
	}
	a, _ = netip.AddrFromSlice(octets)
	return a
}

// response makes up a response to a query. interest has a bit for each class of responses that the filter wants to see.
func (g *generator) response(q *query, interest uint64) *response {
	r := &response{upstream: choose(g, g.upstreams...)}
	switch g.random.IntN(4) {
	case 0:
		r.rcode = choose(g, dns.RcodeServerFailure, dns.RcodeNameError, dns.RcodeRefused, dns.RcodeFormatError, dns.RcodeNotImplemented, dns.RcodeYXDomain, dns.RcodeBadCookie, 24, 4000)
		r.silent = r.rcode == dns.RcodeServerFailure && g.one(2)
	case 1:
		r.rcode = dns.RcodeNameError
	case 2: // one that the filter wants to see
		if n := bits.OnesCount32(uint32(interest)); n > 0 {
			for range g.random.IntN(n) {
				interest &= interest - 1
			}
			if rcode := bits.TrailingZeros32(uint32(interest)); rcode < abi.ClassNODATA {
				r.rcode = rcode
			}
		}
	}
	g.records(r, q.name, q.qtype)
	return r
}

// asked makes up the response to what a filter asked with a verdict and its octets, nil if it did not.
func (g *generator) asked(verdict uint64, octets []byte) *response {
	kind, _, length, _ := abi.Unpack(verdict)
	if kind != abi.Ask {
		return nil
	}
	name, n, err := dns.UnpackDomainName(octets[:length], 0)
	if err != nil {
		return nil
	}
	qtype := uint16(octets[n])<<8 | uint16(octets[n+1])
	if g.one(10) { // the zone changed meanwhile, and this is the answer to what it asked before
		name = g.name()
	}
	r := &response{asked: &dns.Question{Name: name, Qtype: qtype, Qclass: dns.ClassINET}, rcode: choose(g, 0, 0, 0, dns.RcodeNameError, dns.RcodeServerFailure)}
	g.records(r, name, qtype)
	return r
}

// records adds records of the type and others.
func (g *generator) records(r *response, name string, qtype uint16) {
	add := func(section int, rrtype uint16, rr dns.RR) {
		*rr.Header() = dns.RR_Header{Name: name, Rrtype: rrtype, Class: dns.ClassINET, Ttl: uint32(g.random.IntN(1000))}
		r.records[section] = append(r.records[section], rr)
	}
	if r.rcode == 0 || g.one(4) {
		for range g.random.IntN(3) {
			if g.one(3) {
				target := g.name()
				add(0, dns.TypeCNAME, &dns.CNAME{Target: target})
				name = target
			}
			switch qtype {
			case dns.TypeAAAA:
				add(0, qtype, &dns.AAAA{AAAA: net.IPv6loopback})
			case dns.TypeMX:
				add(0, qtype, &dns.MX{Preference: 10, Mx: g.name()})
			case dns.TypeA, dns.TypeANY:
				add(0, dns.TypeA, &dns.A{A: net.IPv4(192, 0, 2, 1)})
			default:
				add(0, dns.TypeTXT, &dns.TXT{Txt: []string{"x"}})
			}
		}
	}
	switch name = g.name(); g.random.IntN(4) {
	case 0:
		add(1, dns.TypeSOA, &dns.SOA{Ns: g.name(), Mbox: g.name(), Serial: 1, Minttl: 5})
	case 1:
		add(1, dns.TypeNS, &dns.NS{Ns: g.name()})
		add(2, dns.TypeA, &dns.A{A: net.IPv4(192, 0, 2, 1)})
	}
}
