// Command template is the filter that makes answers from templates. README.md beside this file is its manual page.
package main

import (
	"github.com/weirdns/weir/filters/internal/pattern"
	"github.com/weirdns/weir/sdk"
)

func init() { sdk.Register(newFilter()) }

func main() {}

func newFilter() sdk.Filter {
	f := new(filter)
	return sdk.Filter{Configure: f.configure, Query: f.query}
}

// filter is a configured filter and its scratch memory.
type filter struct {
	templates []template
	matcher   pattern.Matcher
	patterns  int // number of regular expressions

	builder sdk.Builder
	values  values
	text    [maxText]byte // of a record
	octets  int           // of text in the records of this response
	record  [maxRecord]byte
}

const (
	// maxText and maxRecord bound a record, as text and in wire format.
	maxText   = 4096
	maxRecord = 4096
	// maxDynamic bounds the text of a response that is made anew for each query. To read it takes some 400 units of fuel for each octet, of which
	// a call has 1,000,000 by default.
	maxDynamic = 1000
)

// template is what becomes of some queries.
type template struct {
	class   uint16
	zones   *sdk.Suffixes    // nil for all
	types   []sdk.Type       // nil for all
	regex   *pattern.Pattern // nil for all
	groups  bool             // records have groups of regex in them
	through bool             // a name that regex does not match goes on
	some    *sdk.Suffixes    // or does so in these zones
	rcode   sdk.RCODE
	ede     sdk.EDE
	records []record
	named   bool // some record has the name or the zone in it
}

// record is a record of a response.
type record struct {
	section sdk.Section
	index   int       // in the configuration
	wire    []byte    // if there are no actions in it: what follows the owner
	owner   []byte    // of wire, canonical
	parts   []segment // else
	isName  bool      // the owner is the QNAME, and not in parts
}

// query answers with the first template for the query.
func (f *filter) query(q sdk.Query) sdk.Verdict {
	matching := false // the matcher has the name
	for i := range f.templates {
		t := &f.templates[i]
		if t.class != q.QCLASS() || t.types != nil && !contains(t.types, q.QTYPE()) {
			continue
		}
		zone := 1
		if t.zones != nil {
			_, size, ok := q.Longest(t.zones)
			if !ok {
				continue
			}
			zone = size
		}
		if t.regex != nil {
			if !matching {
				f.matcher.SetName(q.QNAME())
				matching = true
			}
			if !f.matcher.Match(t.regex) {
				if t.zones == nil || t.goesOn(q) {
					continue
				}
				if e := q.Explain(); e != nil {
					describe(e.Text("{template[").Int(i).Text("]}: "), q).Text(" -> NXDOMAIN: regex does not match").End()
				}
				return q.RespondRCODE(sdk.NXDOMAIN, t.ede)
			}
		}
		return f.answer(q, i, zone)
	}
	if e := q.Explain(); e != nil {
		describe(e, q).Text(": no template").End()
	}
	return sdk.Next
}

func describe(e *sdk.Line, q sdk.Query) *sdk.Line {
	return e.Name(q.QNAME()).Text(" ").Type(q.QTYPE())
}

func contains(types []sdk.Type, t sdk.Type) bool {
	for _, o := range types {
		if o == t {
			return true
		}
	}
	return false
}

// goesOn reports whether a name that the regular expression does not match goes on down the chain.
func (t *template) goesOn(q sdk.Query) bool {
	if t.through || t.some == nil {
		return t.through
	}
	_, _, ok := q.Longest(t.some)
	return ok
}

// answer answers with template i; zone is the size of the zone that the name is in.
func (f *filter) answer(q sdk.Query, i, zone int) sdk.Verdict {
	t := &f.templates[i]
	if len(t.records) == 0 {
		f.explain(q, i)
		return q.RespondRCODE(t.rcode, t.ede)
	}
	if t.groups {
		f.matcher.Find(t.regex)
	}
	name := q.QNAME()
	f.values.set(q, zone)
	f.octets = 0
	if t.named { // the text of the name
		if t.regex == nil {
			f.matcher.SetName(name)
		}
		f.values.text = f.matcher.Text()
	}
	f.builder.Reset(q.Call)
	f.builder.SetAA(true)
	f.builder.SetRCODE(t.rcode)
	for n := range t.records {
		r := &t.records[n]
		octets, wrong := f.make(r, name)
		if wrong != "" {
			if e := q.Explain(); e != nil {
				describe(e.Text("{template[").Int(i).Text("]}: "), q).Text(" -> SERVFAIL: ").Text(sections[r.section]).Text("[").Int(r.index).Text("] ").Text(wrong).End()
			}
			return q.RespondRCODE(sdk.SERVFAIL, sdk.OtherError)
		}
		f.builder.Records(r.section, octets, 1)
	}
	f.explain(q, i)
	return q.Respond(f.builder.Message())
}

// sections are the names of the sections in the configuration.
var sections = [...]string{"answer", "authority", "additional"}

// make makes a record in wire format, in f.record.
func (f *filter) make(r *record, qname []byte) (octets []byte, wrong string) {
	if r.parts == nil {
		return append(f.appendOwner(r.owner, qname), r.wire...), ""
	}
	text, wrong := f.expand(f.text[:0], r.parts)
	if wrong != "" {
		return nil, wrong
	}
	if f.octets += len(text); f.octets > maxDynamic {
		return nil, "makes the records longer than 1,000 octets of text"
	}
	s := scanner{text: text}
	if r.isName {
		return s.appendRest(f.appendOwner(qname, qname))
	}
	return s.appendRecord(f.record[:0])
}

// appendOwner writes an owner, which is a pointer if it is the QNAME. RFC 1035 section 4.1.4
func (f *filter) appendOwner(owner, qname []byte) []byte {
	if len(owner) > 1 && string(owner) == string(qname) {
		return append(f.record[:0], 0xC0, sdk.QNAME)
	}
	return append(f.record[:0], owner...)
}

// explain says what was answered.
func (f *filter) explain(q sdk.Query, i int) {
	if e := q.Explain(); e != nil {
		t := &f.templates[i]
		describe(e.Text("{template[").Int(i).Text("]}: "), q).Text(" -> ").Class(sdk.Class(t.rcode)).Text(", records: ").Int(len(t.records)).End()
	}
}
