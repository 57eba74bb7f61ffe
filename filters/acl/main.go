// Command acl is the filter that decides who may ask what. README.md beside this file is its manual page.
package main

import "github.com/weirdns/weir/sdk"

func init() { sdk.Register(newFilter()) }

func main() {}

func newFilter() sdk.Filter {
	f := new(acl)
	return sdk.Filter{Configure: f.configure, Query: f.query}
}

// acl is a configured filter.
type acl struct {
	rules  []rule
	buffer sdk.Buffer // for texts of tables, which nobody looks at
}

// rule is what is done with some queries.
type rule struct {
	action  action
	clients *clients     // whose queries, nil for everybody's if there are no tables
	tables  []*sdk.Table // of prefixes of further clients
	zones   *sdk.Suffixes
	types   []sdk.Type
}

type action uint8

const (
	allow action = iota
	refuse
	filter
	drop
)

// actions are their names in the configuration.
var actions = [...]string{"allow", "refuse", "filter", "drop"}

// query does what the first rule for the query says.
func (f *acl) query(q sdk.Query) sdk.Verdict {
	for i := range f.rules {
		r := &f.rules[i]
		if !f.fits(r, q) {
			continue
		}
		if e := q.Explain(); e != nil {
			explain(e.Text("{rule[").Int(i).Text("]}: "), q).Text(" -> ").Text(actions[r.action]).End()
		}
		switch r.action {
		case refuse:
			return q.RespondRCODE(sdk.REFUSED, sdk.Prohibited)
		case filter:
			// Blocked and not Filtered: that one is for what the client itself asked to be filtered. RFC 8914 sections 4.16 and 4.18
			return q.RespondRCODE(sdk.NOERROR, sdk.Blocked)
		case drop:
			return sdk.Drop
		}
		return sdk.Next
	}
	if e := q.Explain(); e != nil {
		explain(e, q).Text(": no rule").End()
	}
	return sdk.Next
}

// explain writes who asks what.
func explain(e *sdk.Line, q sdk.Query) *sdk.Line {
	if address, _ := q.Client(); address != nil {
		e.Text("client ").Address(address)
	} else {
		e.Text("no client")
	}
	return e.Text(", ").Name(q.QNAME()).Text(" ").Type(q.QTYPE())
}

// fits reports whether a rule is for a query. What costs least is looked at first.
func (f *acl) fits(r *rule, q sdk.Query) bool {
	if r.types != nil {
		found := false
		for _, t := range r.types {
			found = found || t == q.QTYPE()
		}
		if !found {
			return false
		}
	}
	if r.zones != nil {
		if _, _, ok := q.Longest(r.zones); !ok {
			return false
		}
	}
	if r.clients == nil && r.tables == nil {
		return true
	}
	client, _ := q.Client()
	client = sdk.Unmap(client)
	if client == nil {
		return false
	}
	if r.clients != nil && r.clients.contain(client) {
		return true
	}
	for _, t := range r.tables {
		if _, _, ok := t.Prefix(client, &f.buffer); ok {
			return true
		}
	}
	return false
}
