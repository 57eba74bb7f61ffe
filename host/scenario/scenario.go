// Package scenario reads and plays whole situations: a configuration, the servers that play the outside world, queries in order and what a
// client must see. Tests of the host are written in this form, as folders or as txtar files, so that they read as stories.
//
// A line of expect.txt is
//
//	[@LISTENER] [from CLIENT] [over tcp] NAME TYPE -> RCODE [aa] [ANSWER ...] [| what else must hold]
//
// ANSWERs are RDATA in presentation format, quoted when they have spaces or to tell strings from names, in any order; "..." alone means some.
// Without ANSWERs the answer section is not looked at. AA has to be set if and only if the line says so. In what follows the
// bar, these phrases are checked, the rest is for the reader: "NODATA with" and "no answer" (the answer section is empty), "with the SOA" (there is one
// in the authority section), "TTL at most N", "TTL N:", "EDE N" (one of those named), "an EDE", "a referral" (NS in the authority section, no SOA), "TC" at the start (over TCP too).
package scenario

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Query is a line of expect.txt.
type Query struct {
	Line     int
	Text     string
	Listener string     // address, empty: the first listener
	From     netip.Addr // the client's address, zero: any
	TCP      bool
	Name     string
	Type     uint16
	RCODE    string
	AA       bool
	Answers  []string // RDATA; nil: not looked at
	Some     bool     // there is an answer
	Note     string
}

// Parse reads expect.txt. Empty lines and those that begin with # are passed over.
func Parse(text string) ([]Query, error) {
	var queries []Query
	for i, line := range strings.Split(text, "\n") {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		q, err := parseLine(line)
		if err != nil {
			return nil, fmt.Errorf("expect.txt:%d: %w", i+1, err)
		}
		q.Line, q.Text = i+1, line
		queries = append(queries, q)
	}
	return queries, nil
}

func parseLine(line string) (q Query, err error) {
	line, q.Note, _ = strings.Cut(line, " | ")
	ask, want, ok := strings.Cut(line, " -> ")
	if !ok {
		return q, fmt.Errorf("%q has no ->", line)
	}
	words := strings.Fields(ask)
	for len(words) > 2 {
		switch {
		case strings.HasPrefix(words[0], "@"):
			q.Listener, words = words[0][1:], words[1:]
		case words[0] == "from":
			if q.From, err = netip.ParseAddr(words[1]); err != nil {
				return q, err
			}
			words = words[2:]
		case words[0] == "over" && (words[1] == "tcp" || words[1] == "udp"):
			q.TCP, words = words[1] == "tcp", words[2:]
		default:
			return q, fmt.Errorf("%q is not understood before NAME TYPE", words[0])
		}
	}
	if len(words) != 2 {
		return q, fmt.Errorf("%q has no NAME and TYPE", ask)
	}
	q.Name = dns.Fqdn(words[0])
	if q.Type, ok = dns.StringToType[words[1]]; !ok {
		if _, err := fmt.Sscanf(words[1], "TYPE%d", &q.Type); err != nil {
			return q, fmt.Errorf("%q is not a type", words[1])
		}
	}
	answers := split(want)
	if len(answers) == 0 {
		return q, fmt.Errorf("no RCODE in %q", want)
	}
	q.RCODE, answers = answers[0], answers[1:]
	if len(answers) > 0 && answers[0] == "aa" {
		q.AA, answers = true, answers[1:]
	}
	if q.Some = slices.Equal(answers, []string{"..."}); !q.Some && len(answers) > 0 {
		q.Answers = answers
	}
	return q, nil
}

// split takes words apart; a quoted one may have spaces.
func split(s string) (words []string) {
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimSpace(s) {
		var word string
		if s[0] == '"' {
			word, s, _ = strings.Cut(s[1:], `"`)
		} else {
			word, s, _ = strings.Cut(s, " ")
		}
		words = append(words, word)
	}
	return words
}

// Play asks the query of the server at addr and returns what is wrong with its response, or nil.
func (q *Query) Play(ctx context.Context, addr string) error {
	m := new(dns.Msg)
	m.Id = dns.Id()
	m.RecursionDesired = true
	m.Question = []dns.Question{{Name: q.Name, Qtype: q.Type, Qclass: dns.ClassINET}}
	m.SetEdns0(1232, false)
	r, err := q.exchange(ctx, m, addr, q.TCP)
	if err == nil && r.Truncated && !q.TCP {
		r, err = q.exchange(ctx, m, addr, true)
	}
	if err != nil {
		return err
	}
	return q.check(r)
}

func (q *Query) exchange(ctx context.Context, m *dns.Msg, addr string, tcp bool) (*dns.Msg, error) {
	c := dns.Client{Timeout: 5 * time.Second, Net: "udp", Dialer: &net.Dialer{}}
	if q.From.IsValid() {
		c.Dialer.LocalAddr = &net.UDPAddr{IP: q.From.AsSlice()}
	}
	if tcp {
		c.Net = "tcp"
		if q.From.IsValid() {
			c.Dialer.LocalAddr = &net.TCPAddr{IP: q.From.AsSlice()}
		}
	}
	r, _, err := c.ExchangeContext(ctx, m, addr)
	return r, err
}

var (
	ttlAtMost = regexp.MustCompile(`TTL at most (\d+)`)
	ttlIs     = regexp.MustCompile(`TTL (\d+)\b`)
	edeIs     = regexp.MustCompile(`\bEDE (\d+)`)
	orNumber  = regexp.MustCompile(`\bor (\d+)`)
)

func (q *Query) check(r *dns.Msg) error {
	var wrong []string
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	if got := r.Question[0].Name; got != q.Name {
		say("the question came back as %s", got)
	}
	if got := dns.RcodeToString[r.Rcode]; got != q.RCODE {
		say("RCODE %s, want %s", got, q.RCODE)
	}
	if r.Authoritative != q.AA {
		say("AA %v, want %v", r.Authoritative, q.AA)
	}
	if tc := strings.HasPrefix(q.Note, "TC"); r.Truncated != tc {
		say("TC %v, want %v", r.Truncated, tc)
	}
	got := rdata(r.Answer)
	want := slices.Clone(q.Answers)
	slices.Sort(want)
	empty := strings.Contains(q.Note, "NODATA with") || strings.Contains(q.Note, "no answer")
	switch {
	case q.Answers != nil && !slices.Equal(got, want):
		say("answers %q, want %q", got, want)
	case q.Some && len(got) == 0:
		say("no answer, want some")
	case empty && len(got) > 0:
		say("answers %q, want none", got)
	}
	hasNS, hasSOA := false, false
	for _, rr := range r.Ns {
		hasNS = hasNS || rr.Header().Rrtype == dns.TypeNS
		hasSOA = hasSOA || rr.Header().Rrtype == dns.TypeSOA
	}
	if strings.Contains(q.Note, "with the SOA") && !hasSOA {
		say("no SOA in the authority section")
	}
	if strings.Contains(q.Note, "a referral") && (!hasNS || hasSOA) {
		say("not a referral: %v", r.Ns)
	}
	q.checkTTL(r, say)
	q.checkEDE(r, say)
	if wrong == nil {
		return nil
	}
	return fmt.Errorf("%s\n%s", strings.Join(wrong, "; "), r)
}

func (q *Query) checkTTL(r *dns.Msg, say func(string, ...any)) {
	records := slices.Concat(r.Answer, r.Ns)
	if m := ttlAtMost.FindStringSubmatch(q.Note); m != nil {
		most, _ := strconv.Atoi(m[1]) // the expression has digits only
		for _, rr := range records {
			if int(rr.Header().Ttl) > most {
				say("TTL %d, want at most %d", rr.Header().Ttl, most)
			}
		}
	} else if m := ttlIs.FindStringSubmatch(q.Note); m != nil {
		want, _ := strconv.Atoi(m[1])
		for _, rr := range records {
			if got := int(rr.Header().Ttl); got > want || got < want-1 {
				say("TTL %d, want %d", got, want)
			}
		}
	}
}

func (q *Query) checkEDE(r *dns.Msg, say func(string, ...any)) {
	var codes []string
	if opt := r.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if e, ok := o.(*dns.EDNS0_EDE); ok {
				codes = append(codes, strconv.Itoa(int(e.InfoCode)))
			}
		}
	}
	if m := edeIs.FindStringSubmatch(q.Note); m != nil {
		want := []string{m[1]}
		for _, o := range orNumber.FindAllStringSubmatch(q.Note, -1) {
			want = append(want, o[1])
		}
		if !slices.ContainsFunc(codes, func(c string) bool { return slices.Contains(want, c) }) {
			say("EDE %v, want one of %v", codes, want)
		}
	} else if strings.Contains(q.Note, "an EDE") && len(codes) == 0 {
		say("no EDE")
	}
}

// rdata returns the RDATA of records in presentation format, sorted; strings without their quotes.
func rdata(records []dns.RR) []string {
	var s []string
	for _, rr := range records {
		text := strings.TrimPrefix(rr.String(), rr.Header().String())
		if _, ok := rr.(*dns.TXT); ok {
			text = strings.ReplaceAll(text, `"`, "")
		}
		s = append(s, text)
	}
	slices.Sort(s)
	return s
}
