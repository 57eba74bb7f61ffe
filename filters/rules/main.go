// Command rules is the filter that chooses an upstream by the longest zone. README.md beside this file is its manual page.
package main

import (
	"strconv"

	"github.com/weirdns/weir/sdk"
)

func init() { sdk.Register(newFilter()) }

func main() {}

// newFilter is not inlined, since the compiler inlines nothing in what becomes a part of init.
//
//go:noinline
func newFilter() sdk.Filter {
	f := new(rules)
	return sdk.Filter{
		Configure: f.configure,
		// What the rule for the longest zone says. Nearly always this is all there is on the way of a query: no call, and no jump that is
		// taken, see [sdk.Suffixes].
		Query: func(q sdk.Query) sdk.Verdict {
			i, size, ok := q.FoundName()
			if !ok || i >= len(f.verdicts) || f.verdicts[i] == special || q.Explained() {
				return f.rest(q, i, size, ok)
			}
			return f.verdicts[i]
		},
	}
}

// special is no verdict for a query: there is more to do for the rule.
const special = sdk.Kept

// rules is a configured filter.
type rules struct {
	root     bool          // there is a rule for the root
	rules    []rule        // the number of a rule's zone among the own names is its index
	verdicts []sdk.Verdict // of the rules, or special
}

// rule is what is done with names in a zone.
type rule struct {
	action   action
	upstream string    // forward: its name, for whoever explains
	rcode    sdk.RCODE // answer
	ede      sdk.EDE   // answer
}

type action uint8

const (
	pass action = iota // as if there were no rule
	forward
	answer
	drop
)

// rest is the query phase for all that isn't just a verdict.
func (f *rules) rest(q sdk.Query, i, size int, ok bool) sdk.Verdict {
	if !ok || i >= len(f.rules) {
		return sdk.Next
	}
	if e := q.Explain(); e != nil {
		f.explain(e, q, i, size)
	}
	r := &f.rules[i]
	if r.action == answer {
		return q.RespondRCODE(r.rcode, r.ede)
	}
	return f.verdicts[i]
}

// explain names the rule.
func (f *rules) explain(e *sdk.Line, q sdk.Query, i, size int) {
	name := q.QNAME()
	e.Text("{rule[").Int(i).Text("]}: zone ").Name(name[len(name)-size:]).Text(" -> ")
	switch r := &f.rules[i]; r.action {
	case forward:
		e.Text("upstream ").Text(r.upstream)
	case answer:
		e.Class(sdk.Class(r.rcode))
	case drop:
		e.Text("drop")
	default:
		e.Text("pass")
	}
	e.End()
}

// configure reads the rules.
func (f *rules) configure(c *sdk.Config) sdk.Interest {
	for key := range c.Object() {
		if key != "rule" {
			c.Unknown()
			continue
		}
		for i := range c.Array() {
			f.read(c, i)
		}
	}
	if len(f.rules) == 0 {
		return 0
	}
	if f.final() {
		return sdk.Queries | sdk.Lookup | sdk.Final
	}
	return sdk.Queries | sdk.Lookup
}

// final reports whether every query gets a verdict that ends it: there is a rule for the root, and no rule lets one go on.
func (f *rules) final() bool {
	if !f.root {
		return false
	}
	for _, r := range f.rules {
		if r.action == forward || r.action == pass {
			return false
		}
	}
	return true
}

// read reads a rule, which is number i.
func (f *rules) read(c *sdk.Config, i int) {
	path := c.Path()
	r := rule{ede: sdk.NoEDE}
	var zone []byte
	verdict := sdk.Next
	hasZone, hasEDE, actions := false, false, 0
	for key := range c.Object() {
		switch key {
		case "zone":
			hasZone = true
			zone = c.Zone()
		case "upstream":
			i := c.Upstream()
			r.action, verdict, r.upstream = forward, sdk.Query{}.Forward(i), c.UpstreamName(i)
			actions++
		case "pass", "drop":
			if !c.Bool() {
				continue // as if the key were absent
			}
			r.action, verdict = pass, sdk.Next
			if key == "drop" {
				r.action, verdict = drop, sdk.Drop
			}
			actions++
		case "rcode":
			r.action, verdict, r.rcode = answer, special, c.RCODE()
			actions++
		case "ede":
			hasEDE = true
			r.ede = sdk.EDE(c.Int(0, 65534))
		default:
			c.Unknown()
		}
	}
	switch {
	case !hasZone:
		c.MistakeAt(path, "has no zone: want the zone that the rule is for, \".\" for all names")
	case actions != 1:
		c.MistakeAt(path, "wants exactly one of upstream, pass = true, rcode and drop = true")
	case hasEDE && r.action != answer:
		c.MistakeAt(path+".ede", "goes with rcode only: without a response there is nothing to explain")
	case !hasEDE && r.action == answer:
		r.ede = why(r.rcode)
	}
	f.rules, f.verdicts = append(f.rules, r), append(f.verdicts, verdict)
	if zone == nil { // that was a mistake: the configuration will not be used, so the numbers don't matter any more
		return
	}
	f.root = f.root || len(zone) == 1
	if earlier, ok := c.AddName(zone); !ok {
		c.MistakeAt(path+".zone", "there is a rule for "+string(sdk.AppendText(nil, zone))+" already, at {rule["+strconv.Itoa(earlier)+"].zone}: want one rule for a zone")
	}
}

// why returns the INFO-CODE for an RCODE that a rule gives, where one says more than the RCODE does. RFC 8914 section 4
func why(rcode sdk.RCODE) sdk.EDE {
	switch rcode {
	case sdk.REFUSED:
		return sdk.Prohibited // this client, or everybody, may not ask
	case sdk.NXDOMAIN, sdk.NOERROR:
		return sdk.Blocked // the name may well exist
	}
	return sdk.NoEDE
}
