// Command rewrite is the filter that has another name, or another type, be asked. README.md beside this file is its manual page.
package main

import (
	"github.com/weirdns/weir/filters/internal/pattern"
	"github.com/weirdns/weir/sdk"
)

func init() { sdk.Register(newFilter()) }

func main() {}

func newFilter() sdk.Filter {
	f := new(rewrite)
	return sdk.Filter{Configure: f.configure, Query: f.query}
}

// rewrite is a configured filter and its scratch memory.
type rewrite struct {
	rules   []rule
	matcher pattern.Matcher

	patterns int // number of regular expressions

	text     [maxText]byte
	question [sdk.MaxName + 4]byte
}

// rule is what becomes of some questions. Of exact, zone and regex, at most one is set.
type rule struct {
	exact  []byte // canonical
	zone   []byte // canonical
	regex  *pattern.Pattern
	types  []sdk.Type // nil for all
	target []byte     // exact, zone: canonical, nil leaves the name
	parts  []part     // regex: what the name is made of
	groups bool       // some of that are groups
	toType sdk.Type   // 0 leaves the type
}

// part is a piece of a new name: a group of the match or, if that is below 0, a text.
type part struct {
	group int
	text  string
}

const (
	classIN = 1
	// maxText is room for a name with all its octets escaped, and more than a name can have.
	maxText = 4*sdk.MaxName + 1
	tooLong = "is longer than 255 octets"
)

// query asks what the first rule for the question says.
func (f *rewrite) query(q sdk.Query) sdk.Verdict {
	if q.QCLASS() != classIN {
		return f.none(q)
	}
	name := q.QNAME()
	matching := false // the matcher has the name
	for i := range f.rules {
		r := &f.rules[i]
		if r.types != nil && !contains(r.types, q.QTYPE()) {
			continue
		}
		switch {
		case r.exact != nil:
			if string(name) != string(r.exact) {
				continue
			}
		case r.zone != nil:
			if !sdk.IsWithin(name, r.zone) {
				continue
			}
		case r.regex != nil:
			if !matching {
				f.matcher.SetName(name)
				matching = true
			}
			if !f.matcher.Match(r.regex) {
				continue
			}
		}
		return f.apply(q, i, r)
	}
	return f.none(q)
}

func contains(types []sdk.Type, t sdk.Type) bool {
	for _, o := range types {
		if o == t {
			return true
		}
	}
	return false
}

// none is the end of a query that no rule is for.
func (f *rewrite) none(q sdk.Query) sdk.Verdict {
	if e := q.Explain(); e != nil {
		e.Text("no rule for ").Name(q.QNAME()).Text(" ").Type(q.QTYPE()).End()
	}
	return sdk.Next
}

// apply makes the new question.
func (f *rewrite) apply(q sdk.Query, i int, r *rule) sdk.Verdict {
	name := q.QNAME()
	target, wrong := f.target(r, name)
	if wrong != "" {
		if e := q.Explain(); e != nil {
			e.Text("{rule[").Int(i).Text("]}: ").Name(name).Text(" -> the new name ").Text(wrong).End()
		}
		if r.zone != nil { // it can only be too long, as with a DNAME. RFC 6672 section 2.2
			return q.RespondRCODE(sdk.YXDOMAIN, sdk.NoEDE)
		}
		return q.RespondRCODE(sdk.SERVFAIL, sdk.OtherError)
	}
	qtype := q.QTYPE()
	if r.toType != 0 {
		qtype = r.toType
	}
	if e := q.Explain(); e != nil {
		e.Text("{rule[").Int(i).Text("]}: ").Name(name).Text(" ").Type(q.QTYPE()).Text(" -> ").Name(target).Text(" ").Type(qtype).End()
	}
	if qtype == q.QTYPE() && string(target) == string(name) {
		return sdk.Next // as it is
	}
	return q.Rewrite(sdk.AppendQuestion(f.question[:0], target, qtype)) // where the target is already
}

// target returns the new name, in f.question, or what is wrong with it.
func (f *rewrite) target(r *rule, name []byte) (target []byte, wrong string) {
	switch {
	case r.regex != nil && r.parts != nil:
		if r.groups {
			f.matcher.Find(r.regex)
		}
		text := f.text[:0]
		for _, p := range r.parts {
			size := len(p.text)
			var group []byte
			if p.group >= 0 {
				group = f.matcher.Group(p.group)
				size = len(group)
			}
			if len(text)+size > maxText {
				return nil, tooLong
			}
			text = append(append(text, p.text...), group...)
		}
		return sdk.AppendName(f.question[:0], text)
	case r.target == nil:
		return append(f.question[:0], name...), ""
	case r.zone == nil:
		return append(f.question[:0], r.target...), ""
	}
	above := name[:len(name)-len(r.zone)] // the labels that stay
	if len(above)+len(r.target) > sdk.MaxName {
		return nil, tooLong
	}
	return append(append(f.question[:0], above...), r.target...), ""
}
