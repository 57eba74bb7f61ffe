// Package explain is the trail of a query: which chain the client got, what each filter decided and why, what the cache had, whom the upstream
// asked and how long that took. It reads the question, and shows the trail to people and programs; what is in it the parts of weir say themselves
// (see [message.Trace]), and package host walks the query through them.
//
//	Question ─► host.Server.Explain ─► message.Trace ─► New ─► Trail ─► text, JSON
//
// Nothing that came from outside is shown as it is: names, the lines of filters, records and the texts of Extended DNS Errors have only printable
// characters, so that they harm neither a terminal nor who reads the JSON.
package explain

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/host/chain"
	"github.com/weirdns/weir/host/message"
	"github.com/weirdns/weir/host/wasm"
)

// Trail is what happened to one query. Its JSON form is stable: fields may be added, and those that are here keep their names and meanings. Times are in
// microseconds.
type Trail struct {
	Name     string    `json:"name"` // of the question, in presentation format
	Type     string    `json:"type"`
	Client   string    `json:"client"`   // address
	Over     string    `json:"over"`     // "udp", "tcp", "tls", "https" or "quic"
	Listener string    `json:"listener"` // its address in the configuration
	Position string    `json:"position"` // where the configuration has the listener, as "weir.toml:12"
	Steps    []Step    `json:"steps"`
	Response *Response `json:"response"` // null when a filter dropped the query
	TookUS   int64     `json:"took_us"`
}

// Step is one step of a trail. Fields that have nothing to say are absent in JSON. [message.Step] says which events there are, and with which fields.
type Step struct {
	AfterUS  int64   `json:"after_us"` // since the query began
	Part     string  `json:"part"`     // "listener", "chain", "filter", "cache", "upstream"
	Name     string  `json:"name,omitempty"`
	Phase    string  `json:"phase,omitempty"`
	Event    string  `json:"event"`
	Text     string  `json:"text"` // for people; places are filled in
	Places   []Place `json:"places,omitempty"`
	Chain    string  `json:"chain,omitempty"`
	Verdict  string  `json:"verdict,omitempty"`
	Upstream string  `json:"upstream,omitempty"`
	Server   string  `json:"server,omitempty"`
	Over     string  `json:"over,omitempty"`
	RCODE    string  `json:"rcode,omitempty"`
	Octets   int     `json:"octets,omitempty"`
	TookUS   int64   `json:"took_us,omitempty"`
}

// Place is a key of the configuration that a step is about.
type Place struct {
	Key      string `json:"key"`      // from the top of the file: "filter.rules.config.rule[3]"
	Position string `json:"position"` // "weir.toml:23", or the environment variable that set it
}

// Response is what the client would get.
type Response struct {
	RCODE      string   `json:"rcode"`
	Flags      []string `json:"flags"`  // "qr", "aa", "tc", "rd", "ra", "ad", "cd"
	Octets     int      `json:"octets"` // on the wire
	EDE        []EDE    `json:"ede,omitempty"`
	Answer     []string `json:"answer"` // records in presentation format
	Authority  []string `json:"authority"`
	Additional []string `json:"additional"` // without the OPT record
	Upstream   string   `json:"upstream,omitempty"`
	Cached     bool     `json:"cached"`
}

// EDE is an Extended DNS Error, RFC 8914.
type EDE struct {
	Code uint16 `json:"code"`
	Text string `json:"text,omitempty"`
}

// Run is a query that has been walked, for New.
type Run struct {
	Exchange *chain.Exchange // done
	Wire     []byte          // the response as the client would get it; nil if it would get none
	Listener string          // address
	Upstream string          // whose answer it is, "" none
	Start    time.Time
	Took     time.Duration
	// Position says where a key of the configuration is, as config.File.Position.
	Position func(path string) string
}

// New makes the trail of r.
func New(r Run) *Trail {
	q := &r.Exchange.Query
	t := &Trail{
		Name: message.NameString(q.Name), Type: dns.Type(q.Type).String(), Client: q.Client.Addr().String(), Over: q.Transport.String(),
		Listener: r.Listener, Position: r.Position(fmt.Sprintf("listener[%d].address", q.Listener)), TookUS: r.Took.Microseconds(),
		Steps: []Step{},
	}
	for _, s := range q.Trace.Steps {
		t.Steps = append(t.Steps, newStep(&s, &r))
	}
	if r.Wire != nil {
		t.Response = newResponse(r.Wire, r.Upstream, r.Exchange.Response.Cached)
	}
	return t
}

func newStep(s *message.Step, r *Run) Step {
	part, name, _ := strings.Cut(s.Part, " ")
	base := ""
	if part == "filter" {
		base = "filter." + name + ".config"
	}
	step := Step{
		AfterUS: max(s.Time.Sub(r.Start), 0).Microseconds(), Part: part, Name: name, Phase: s.Phase, Event: s.Event, Chain: s.Chain,
		Verdict: s.Verdict, Upstream: s.Upstream, Server: s.Server, Over: s.Over, RCODE: s.RCODE, Octets: s.Octets, TookUS: s.Took.Microseconds(),
	}
	if s.Event != "explain" { // what weir itself says has places from the top
		base = ""
	}
	step.Text = printable(wasm.Expand(s.Text, base, func(path string) string {
		p := Place{path, r.Position(path)}
		step.Places = append(step.Places, p)
		return p.Position + " " + strings.TrimPrefix(path, base+".")
	}))
	return step
}

func newResponse(wire []byte, upstream string, cached bool) *Response {
	r := &Response{Octets: len(wire), Upstream: upstream, Cached: cached, Answer: []string{}, Authority: []string{}, Additional: []string{}, Flags: []string{}}
	m := new(dns.Msg)
	if err := m.Unpack(wire); err != nil { // records of a known type with RDATA that is not of that type
		r.RCODE = message.RCODEString(uint16(wire[3] & 0xF))
		r.EDE = []EDE{{message.EDEInvalidData, "not shown: " + printable(err.Error())}}
		return r
	}
	for _, f := range []struct {
		set  bool
		name string
	}{
		{m.Response, "qr"}, {m.Authoritative, "aa"}, {m.Truncated, "tc"}, {m.RecursionDesired, "rd"}, {m.RecursionAvailable, "ra"},
		{m.AuthenticatedData, "ad"}, {m.CheckingDisabled, "cd"},
	} {
		if f.set {
			r.Flags = append(r.Flags, f.name)
		}
	}
	rcode := uint16(m.Rcode)
	for _, section := range []struct {
		records []dns.RR
		to      *[]string
	}{{m.Answer, &r.Answer}, {m.Ns, &r.Authority}, {m.Extra, &r.Additional}} {
		for _, rr := range section.records {
			if opt, ok := rr.(*dns.OPT); ok {
				r.EDE = edes(opt)
				continue
			}
			*section.to = append(*section.to, printable(strings.ReplaceAll(rr.String(), "\t", " ")))
		}
	}
	r.RCODE = message.RCODEString(rcode)
	return r
}

func edes(opt *dns.OPT) (list []EDE) {
	for _, o := range opt.Option {
		if e, ok := o.(*dns.EDNS0_EDE); ok {
			list = append(list, EDE{e.InfoCode, printable(e.ExtraText)})
		}
	}
	return list
}

// printable returns s with what is not a printable character written as \DDD, octet by octet.
func printable(s string) string {
	var b strings.Builder
	for i, r := range s {
		if r != utf8.RuneError && unicode.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		_, size := utf8.DecodeRuneInString(s[i:])
		for _, c := range []byte(s[i : i+size]) {
			fmt.Fprintf(&b, `\%03d`, c)
		}
	}
	return b.String()
}

// Question is what is to be explained.
type Question struct {
	Name     string     // in presentation format, the last dot may be left out
	Type     string     // "AAAA", "TYPE65280"; empty: A
	Client   netip.Addr // who asks; the zero Addr: 127.0.0.1
	Listener string     // address of a listener in the configuration; empty: the first
	Over     message.Transport
	Path     string // of the URL, over HTTPS
}

// QuestionError says what is wrong with a Question.
type QuestionError struct{ Text string }

// Error returns the text.
func (e *QuestionError) Error() string { return e.Text }

// Wire returns the query as a client would send it: with RD, and an OPT that takes 1,232 octets. An error is a [QuestionError].
func (q Question) Wire() ([]byte, error) {
	if _, ok := dns.IsDomainName(q.Name); !ok || q.Name == "" {
		return nil, &QuestionError{fmt.Sprintf("%q is not a domain name", q.Name)}
	}
	qtype, err := ParseType(q.Type)
	if err != nil {
		return nil, err
	}
	m := new(dns.Msg).SetQuestion(dns.Fqdn(q.Name), qtype)
	m.SetEdns0(message.OwnSize, false)
	wire, err := m.Pack()
	if err != nil {
		return nil, &QuestionError{fmt.Sprintf("%q is not a domain name: %v", q.Name, err)}
	}
	return wire, nil
}

// ParseType reads a type, as "AAAA" or "TYPE65280" (RFC 3597 section 5), in any case; empty is A. An error is a [QuestionError].
func ParseType(s string) (uint16, error) {
	s = strings.ToUpper(s)
	if s == "" {
		return dns.TypeA, nil
	}
	if t, ok := dns.StringToType[s]; ok {
		return t, nil
	}
	var t uint16
	if n, err := fmt.Sscanf(s, "TYPE%d", &t); n != 1 || err != nil || s != fmt.Sprintf("TYPE%d", t) {
		return 0, &QuestionError{fmt.Sprintf("%q is not a type: write A, MX, HTTPS …, or a number as TYPE65280", s)}
	}
	return t, nil
}
