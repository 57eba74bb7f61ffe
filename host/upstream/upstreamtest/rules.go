// Package upstreamtest plays the DNS servers of the outside world in tests: servers on loopback that answer from rules, in one
// line of text each, and count what they are asked.
//
//	127.0.0.1:15354 udp tcp: www.example.com. A -> NOERROR 192.0.2.80 ttl 60; *.gone.test. * -> NXDOMAIN; * * -> silence
//
// It is written with miekg/dns, not with weir's own parser, so that the two check each other. It is not for production.
package upstreamtest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// defaultTTL is the TTL of a rule without one, in seconds.
const defaultTTL = 300

// Spec describes one server: where it listens, and what it answers.
type Spec struct {
	Address   string   // host:port; port 0 lets the system choose
	Protocols []string // "udp", "tcp" or both
	Rules     []Rule   // the first that matches answers; REFUSED when none does
}

// Kind is what a rule does other than answering at once.
type Kind uint8

// The kinds of rules.
const (
	Answer    Kind = iota // RCODE and RDATA
	Silence               // no response, ever
	Truncated             // TC and no records over UDP; over TCP the RDATA of the rule, or a set larger than 1232 octets
	WrongID               // an otherwise good response whose ID is off by one
)

// Rule is one rule of a server.
type Rule struct {
	Name  string // absolute and in lower case, "*" for any, "*.zone." for all names below the zone
	Type  uint16 // dns.TypeNone for any
	Kind  Kind
	RCODE int
	RDATA []string // in zone file format, one record each
	TTL   uint32
	Delay time.Duration // between query and response
}

// Parse reads one server a line. Lines that are empty or begin with # are skipped. Errors name the line.
//
//	ADDRESS PROTOCOLS: RULE; RULE …
//
// A rule is "NAME-or-* TYPE-or-* -> OUTCOME", where the outcome is one of
//
//	RCODE [RDATA …] [ttl N]            RDATA with blanks in it stands in quotes
//	after MS RCODE [RDATA …] [ttl N]   the same, MS milliseconds late
//	truncated [RDATA …] [ttl N]
//	wrong-id [RDATA …] [ttl N]
//	silence
func Parse(r io.Reader) ([]Spec, error) {
	var specs []Spec
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		spec, err := ParseLine(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		specs = append(specs, spec)
	}
	return specs, lines.Err()
}

// ParseLine reads the description of one server, see [Parse].
func ParseLine(line string) (Spec, error) {
	head, rules, ok := strings.Cut(line, ": ")
	fields := strings.Fields(head)
	if !ok || len(fields) < 2 {
		return Spec{}, fmt.Errorf("%q: want \"ADDRESS PROTOCOLS: RULE; RULE …\"", line)
	}
	spec := Spec{Address: fields[0], Protocols: fields[1:]}
	if _, _, err := net.SplitHostPort(spec.Address); err != nil {
		return Spec{}, err
	}
	for _, p := range spec.Protocols {
		if p != "udp" && p != "tcp" {
			return Spec{}, fmt.Errorf("protocol %q: want udp or tcp", p)
		}
	}
	for _, text := range split(rules, ';') {
		if text == "" { // behind the last semicolon
			continue
		}
		rule, err := parseRule(text)
		if err != nil {
			return Spec{}, fmt.Errorf("rule %q: %w", text, err)
		}
		spec.Rules = append(spec.Rules, rule)
	}
	return spec, nil
}

func parseRule(text string) (Rule, error) {
	match, outcome, ok := strings.Cut(text, "->")
	words := strings.Fields(match)
	if !ok || len(words) != 2 {
		return Rule{}, fmt.Errorf("want \"NAME TYPE -> OUTCOME\"")
	}
	rule := Rule{Name: "*", TTL: defaultTTL}
	if words[0] != "*" {
		rule.Name = dns.CanonicalName(words[0])
	}
	if words[1] != "*" {
		if rule.Type, ok = dns.StringToType[words[1]]; !ok {
			return Rule{}, fmt.Errorf("unknown type %q", words[1])
		}
	}
	rest := slices.DeleteFunc(split(outcome, ' '), func(s string) bool { return s == "" })
	if len(rest) >= 3 && rest[0] == "after" {
		ms, err := strconv.Atoi(rest[1])
		if err != nil || ms < 0 {
			return Rule{}, fmt.Errorf("after %q: want milliseconds", rest[1])
		}
		rule.Delay, rest = time.Duration(ms)*time.Millisecond, rest[2:]
	}
	if n := len(rest); n >= 3 && rest[n-2] == "ttl" {
		ttl, err := strconv.ParseUint(rest[n-1], 10, 31)
		if err != nil {
			return Rule{}, fmt.Errorf("ttl %q: want seconds", rest[n-1])
		}
		rule.TTL, rest = uint32(ttl), rest[:n-2]
	}
	if len(rest) == 0 {
		return Rule{}, fmt.Errorf("has no outcome")
	}
	switch rest[0] {
	case "silence":
		rule.Kind = Silence
	case "truncated":
		rule.Kind = Truncated
	case "wrong-id":
		rule.Kind = WrongID
	default:
		if rule.RCODE, ok = dns.StringToRcode[rest[0]]; !ok {
			return Rule{}, fmt.Errorf("unknown outcome %q", rest[0])
		}
	}
	rule.RDATA = rest[1:]
	if rule.Type != dns.TypeNone {
		if _, err := rule.records("check.", rule.Type); err != nil {
			return Rule{}, err
		}
	}
	return rule, nil
}

// split cuts s at each separator outside quotes, and takes blanks off the parts.
func split(s string, separator rune) []string {
	quoted := false
	parts := strings.FieldsFunc(s, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return r == separator && !quoted
	})
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return parts
}

// matches reports whether the rule is for this question; name is canonical.
func (r *Rule) matches(name string, qtype uint16) bool {
	if r.Type != dns.TypeNone && r.Type != qtype {
		return false
	}
	if zone, ok := strings.CutPrefix(r.Name, "*."); ok {
		return dns.IsSubDomain(zone, name) && name != zone
	}
	return r.Name == "*" || r.Name == name
}

// records makes the records of the rule for a question.
func (r *Rule) records(owner string, qtype uint16) ([]dns.RR, error) {
	var records []dns.RR
	for _, rdata := range r.RDATA {
		if qtype != dns.TypeTXT {
			rdata = strings.Trim(rdata, `"`)
		}
		rr, err := dns.NewRR(fmt.Sprintf("%s %d IN %s %s", owner, r.TTL, dns.Type(qtype), rdata))
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", dns.Type(qtype), rdata, err)
		}
		records = append(records, rr)
	}
	return records, nil
}

// large makes an RRset that fits into no UDP response of 1232 octets.
func (r *Rule) large(owner string, qtype uint16) []dns.RR {
	header := dns.RR_Header{Name: owner, Rrtype: qtype, Class: dns.ClassINET, Ttl: r.TTL}
	var records []dns.RR
	for i := range 100 {
		switch qtype {
		case dns.TypeA:
			records = append(records, &dns.A{Hdr: header, A: net.IPv4(198, 51, 100, byte(i))})
		case dns.TypeAAAA:
			records = append(records, &dns.AAAA{Hdr: header, AAAA: net.ParseIP(fmt.Sprintf("2001:db8::%x", i))})
		default:
			header.Rrtype = dns.TypeTXT
			records = append(records, &dns.TXT{Hdr: header, Txt: []string{fmt.Sprintf("part %d of an answer too large for UDP", i)}})
		}
	}
	return records
}

// soa makes the SOA record of a negative response, whose TTL is that of the rule (RFC 2308 section 3). The zone is that of the
// pattern, or the root.
func (r *Rule) soa() dns.RR {
	zone := "."
	if parent, ok := strings.CutPrefix(r.Name, "*."); ok {
		zone = parent
	}
	return &dns.SOA{
		Hdr: dns.RR_Header{Name: zone, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: r.TTL},
		Ns:  "ns.test.", Mbox: "hostmaster.test.", Serial: 1, Refresh: 7200, Retry: 1800, Expire: 86400, Minttl: r.TTL,
	}
}

// respond makes the response to query, or nil for silence. An empty NOERROR and NXDOMAIN get an SOA record, so that they can
// be cached.
func (s *Spec) respond(query *dns.Msg, tcp bool) (response *dns.Msg, delay time.Duration) {
	response = new(dns.Msg)
	if len(query.Question) != 1 {
		return response.SetRcode(query, dns.RcodeFormatError), 0
	}
	question := query.Question[0]
	i := slices.IndexFunc(s.Rules, func(r Rule) bool { return r.matches(dns.CanonicalName(question.Name), question.Qtype) })
	if i < 0 {
		return response.SetRcode(query, dns.RcodeRefused), 0
	}
	rule := &s.Rules[i]
	if rule.Kind == Silence {
		return nil, 0
	}
	response.SetRcode(query, rule.RCODE)
	response.RecursionAvailable = true
	if opt := query.IsEdns0(); opt != nil {
		response.SetEdns0(1232, opt.Do())
	}
	// A rule for any type has RDATA of one type only. A question for another type finds no data.
	response.Answer, _ = rule.records(question.Name, question.Qtype)
	switch {
	case rule.Kind == Truncated && !tcp:
		response.Truncated, response.Answer = true, nil
		return response, rule.Delay
	case rule.Kind == Truncated && len(rule.RDATA) == 0:
		response.Answer = rule.large(question.Name, question.Qtype)
	case rule.Kind == WrongID:
		response.Id++
	}
	if len(response.Answer) == 0 && (rule.RCODE == dns.RcodeSuccess || rule.RCODE == dns.RcodeNameError) {
		response.Ns = []dns.RR{rule.soa()}
	}
	return response, rule.Delay
}
