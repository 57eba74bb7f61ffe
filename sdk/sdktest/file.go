//go:build !wasip1

package sdktest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/miekg/dns"
	"golang.org/x/tools/txtar"

	"github.com/weirdns/weir/abi"
)

// File is a file of cases. The package comment describes the format.
type File struct {
	Name      string
	Config    []byte // JSON
	Upstreams []string
	Interest  *uint64 // that configure must return, nil if it isn't said
	Error     string  // that configure must return instead
	Cases     []Case
	tables    []source
}

type source struct{ name, kind, text string }

// Tables calls visit with the name, the kind and the text of the source of each table.
func (f *File) Tables(visit func(name, kind, text string)) {
	for _, t := range f.tables {
		visit(t.name, t.kind, t.text)
	}
}

// Case is a query and everything that happens to it.
type Case struct {
	Line  int // in the file
	Steps []Step
}

// Step is one call of the filter and the verdict that it must give.
type Step struct {
	Line      int
	Call      string // the line "query …" or "response …"
	Query     *query
	Response  *response // nil in the first step
	Verdict   string    // the normalized line behind "verdict"
	Records   []string  // normalized, each with its section in front
	Explained []string
	Logged    []string // each with its level as a number in front, as in [Host]
}

type query struct {
	name          string
	qtype, qclass uint16
	flags         byte
	norec         bool
	transport     byte
	address       netip.Addr
}

type response struct {
	rcode    int
	silent   bool
	upstream string
	asked    *dns.Question
	records  [3][]dns.RR
}

// ReadFile reads a file of cases.
func ReadFile(name string) (*File, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	return ParseFile(name, data)
}

// ParseFile is ReadFile for a file that is in memory; name is for errors.
func ParseFile(name string, data []byte) (f *File, err error) {
	f = &File{Name: name, Config: []byte("{}")}
	at := 0 // lines up to the section, with its marker
	archive := txtar.Parse(data)
	at += bytes.Count(archive.Comment, newline)
	for _, s := range archive.Files {
		at++
		words := strings.Fields(s.Name)
		switch {
		case s.Name == "config.json":
			f.Config = s.Data
			if err := json.Unmarshal(s.Data, new(map[string]any)); err != nil {
				return nil, fmt.Errorf("%s:%d: config.json: %w", name, at, err)
			}
		case s.Name == "upstreams":
			f.Upstreams = strings.Fields(string(s.Data))
		case s.Name == "error":
			f.Error = strings.TrimSpace(string(s.Data))
		case s.Name == "interest":
			i, err := parseInterest(strings.Fields(string(s.Data)))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			f.Interest = &i
		case len(words) == 3 && words[0] == "table":
			f.tables = append(f.tables, source{words[1], words[2], string(s.Data)})
		case s.Name == "cases":
			if f.Cases, err = parseCases(string(s.Data), at); err != nil {
				return nil, fmt.Errorf("%s:%w", name, err)
			}
		default:
			return nil, fmt.Errorf("%s:%d: there is no section %q", name, at, s.Name)
		}
		at += bytes.Count(s.Data, newline)
	}
	return f, nil
}

func parseInterest(words []string) (interest uint64, err error) {
	for _, w := range words {
		switch w {
		case "queries":
			interest |= abi.InterestQuery
		case "lookup":
			interest |= abi.InterestLookup
		case "final":
			interest |= abi.InterestFinal
		case "responses":
			interest |= abi.InterestClasses
		case "none":
		case "NODATA":
			interest |= 1 << abi.ClassNODATA
		case "higher":
			interest |= 1 << abi.ClassOther
		default:
			rcode, ok := dns.StringToRcode[w]
			if !ok {
				return 0, fmt.Errorf("interest %q: want queries, final, responses, none, higher or a class", w)
			}
			interest |= 1 << rcode
		}
	}
	return interest, nil
}

var newline = []byte{'\n'}

// parseCases reads the section of cases, which begins behind line n of the file.
func parseCases(text string, n int) (cases []Case, err error) {
	var c *Case
	var step *Step
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" {
			c, step = nil, nil
			continue
		}
		if line[0] == '#' {
			continue
		}
		word, rest, _ := strings.Cut(line, " ")
		rest = strings.TrimSpace(rest)
		if word != "query" && step == nil {
			return nil, fmt.Errorf("%d: a case begins with a query", n)
		}
		switch word {
		case "query":
			if c != nil {
				return nil, fmt.Errorf("%d: an empty line ends a case", n)
			}
			cases = append(cases, Case{Line: n})
			c = &cases[len(cases)-1]
			c.Steps = append(c.Steps, Step{Line: n, Call: line})
			step = &c.Steps[0]
			step.Query, err = parseQuery(strings.Fields(rest))
		case "response":
			q := step.Query
			c.Steps = append(c.Steps, Step{Line: n, Call: line, Query: q})
			step = &c.Steps[len(c.Steps)-1]
			step.Response, err = parseResponse(strings.Fields(rest))
		case "record":
			section, text, _ := strings.Cut(rest, " ")
			s := slices.Index(sections, section)
			var rr dns.RR
			if rr, err = dns.NewRR(text); s < 0 || rr == nil || step.Response == nil {
				return nil, fmt.Errorf("%d: want a section and a record behind a response: %v", n, err) //nolint:errorlint // there may be none
			}
			step.Response.records[s] = append(step.Response.records[s], rr)
		case "verdict":
			if step.Verdict != "" {
				return nil, fmt.Errorf("%d: a second verdict", n)
			}
			step.Verdict, err = normalizeVerdict(strings.Fields(rest))
		case "answer", "authority", "additional":
			var rr dns.RR
			if rr, err = dns.NewRR(rest); err == nil && rr == nil {
				err = fmt.Errorf("no record")
			}
			if err == nil {
				step.Records = append(step.Records, word+" "+text1(rr))
			}
		case "log":
			level, text, _ := strings.Cut(rest, " ")
			number := slices.Index(levels, level)
			if number < 0 {
				err = fmt.Errorf("there is no level %q: want %s", level, strings.Join(levels, ", "))
			}
			step.Logged = append(step.Logged, fmt.Sprintf("%d %s", number, strings.TrimSpace(text)))
		case "explain":
			step.Explained = append(step.Explained, rest)
		default:
			err = fmt.Errorf("there is no %q", word)
		}
		if err != nil {
			return nil, fmt.Errorf("%d: %w", n, err)
		}
	}
	return cases, nil
}

var levels = []string{"debug", "info", "warning", "error"}

var sections = []string{"answer", "authority", "additional"}

// text1 is the presentation format of a record with single blanks.
func text1(rr dns.RR) string { return strings.Join(strings.Fields(rr.String()), " ") }

func parseQuestion(words []string) (name string, qtype uint16, err error) {
	if len(words) < 2 {
		return "", 0, fmt.Errorf("want a name and a type")
	}
	if _, ok := dns.IsDomainName(words[0]); !ok {
		return "", 0, fmt.Errorf("%q is no name", words[0])
	}
	qtype, err = parseType(words[1])
	return dns.Fqdn(words[0]), qtype, err
}

func parseType(s string) (uint16, error) {
	if t, ok := dns.StringToType[s]; ok {
		return t, nil
	}
	if n, err := strconv.ParseUint(strings.TrimPrefix(s, "TYPE"), 10, 16); err == nil {
		return uint16(n), nil
	}
	return 0, fmt.Errorf("there is no type %q", s)
}

func parseQuery(words []string) (*query, error) {
	name, qtype, err := parseQuestion(words)
	if err != nil {
		return nil, err
	}
	q := &query{name: name, qtype: qtype, qclass: dns.ClassINET, address: netip.MustParseAddr("127.0.0.1")}
	for i := 2; i < len(words); i++ {
		switch w := words[i]; w {
		case "do":
			q.flags |= abi.FlagDO | abi.FlagEDNS
		case "edns":
			q.flags |= abi.FlagEDNS
		case "explain":
			q.flags |= abi.FlagExplain
		case "forwarded":
			q.flags |= abi.FlagForwarded
		case "norec":
			q.norec = true
		case "over", "from":
			i++
			if i == len(words) {
				return nil, fmt.Errorf("%s: want something behind it", w)
			}
			if w == "from" && words[i] == "nobody" { // a query of the host's own
				q.address = netip.Addr{}
				continue
			}
			if w == "from" {
				if q.address, err = netip.ParseAddr(words[i]); err != nil {
					return nil, err
				}
				continue
			}
			t := slices.Index([]string{"udp", "tcp", "tls", "https", "quic"}, words[i])
			if t < 0 {
				return nil, fmt.Errorf("there is no transport %q", words[i])
			}
			q.transport = byte(t)
		default:
			class, ok := dns.StringToClass[w]
			if !ok {
				return nil, fmt.Errorf("query: %q is not known", w)
			}
			q.qclass = class
		}
	}
	return q, nil
}

func parseResponse(words []string) (*response, error) {
	r := &response{}
	for i := 0; i < len(words); i++ {
		switch w := words[i]; {
		case w == "silent":
			r.silent = true
		case w == "from" && i+1 < len(words):
			i++
			r.upstream = words[i]
		case w == "asked":
			name, qtype, err := parseQuestion(words[i+1:])
			if err != nil {
				return nil, err
			}
			r.asked = &dns.Question{Name: name, Qtype: qtype, Qclass: dns.ClassINET}
			i += 2
		default:
			rcode, ok := dns.StringToRcode[w]
			if n, err := strconv.Atoi(strings.TrimPrefix(w, "RCODE")); !ok && err == nil {
				rcode, ok = n, true
			}
			if !ok || i > 0 {
				return nil, fmt.Errorf("response: %q is not known", w)
			}
			r.rcode = rcode
		}
	}
	return r, nil
}

func normalizeVerdict(words []string) (string, error) {
	if len(words) == 0 {
		return "", fmt.Errorf("want a verdict")
	}
	switch words[0] {
	case "ask", "rewrite":
		name, qtype, err := parseQuestion(words[1:])
		return words[0] + " " + name + " " + dns.Type(qtype).String(), err
	case "next", "drop", "kept", "respond", "forward":
		return strings.Join(words, " "), nil
	}
	return "", fmt.Errorf("there is no verdict %q", words[0])
}
