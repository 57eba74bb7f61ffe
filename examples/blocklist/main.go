// Command blocklist is a filter that blocks the names of lists, which may be large: they are tables, which weir holds once and watches. A list of
// exceptions wins, and names that hide behind a CNAME are found as well.
package main

import "github.com/weirdns/weir/sdk"

func init() { sdk.Register(newFilter()) }

func main() {}

func newFilter() sdk.Filter {
	f := new(filter)
	return sdk.Filter{Configure: f.configure, Query: f.query, Response: f.response}
}

type filter struct {
	block, allow []*sdk.Table
	address      []byte // of IPv4 that blocked names get, nil for NXDOMAIN
	ttl          uint32 // in seconds
	blocked      sdk.Counter
	uncovered    sdk.Counter // found behind a CNAME
	buffer       sdk.Buffer
	name         []byte // room for the target of a CNAME
	builder      sdk.Builder
}

// defaultTTL is for how long a client keeps that a name is blocked: long enough to spare queries, and short for who lifts a block.
const defaultTTL = 300

func (f *filter) configure(c *sdk.Config) sdk.Interest {
	f.ttl, f.name = defaultTTL, make([]byte, 0, sdk.MaxName)
	f.blocked, f.uncovered = c.Counter("blocked"), c.Counter("uncovered")
	f.buffer.Grow(0) // now, so that the first query needs not
	interest := sdk.Queries | sdk.Lookup
	for key := range c.Object() {
		switch key {
		case "block":
			f.block = tables(c)
		case "allow":
			f.allow = tables(c)
		case "address":
			f.address = address(c)
		case "ttl":
			f.ttl = uint32(c.Seconds(86400))
		case "cnames":
			if c.Bool() {
				interest |= sdk.Responses(sdk.Class(sdk.NOERROR), sdk.NODATA)
			}
		default:
			c.Unknown()
		}
	}
	return interest
}

func tables(c *sdk.Config) (list []*sdk.Table) {
	for range c.Array() {
		if t := c.Table(sdk.NamesTable); t != nil {
			list = append(list, t)
		}
	}
	return list
}

func address(c *sdk.Config) []byte {
	text := c.String()
	octets, ok := sdk.AppendAddress(nil, []byte(text))
	if !ok || len(octets) != 4 {
		c.Mistake("\"" + text + "\" is no IPv4 address: want one such as \"0.0.0.0\"")
	}
	return octets
}

// query is called for names that are in a list, or below a name in one; the host looked (the interest Lookup), so all others cost nothing.
func (f *filter) query(q sdk.Query) sdk.Verdict {
	list := f.listed(q.QNAME())
	if list == nil {
		return sdk.Next
	}
	f.blocked.Add(1)
	if e := q.Explain(); e != nil {
		e.Name(q.QNAME()).Text(" is blocked by ").Text(list.Name).End()
	}
	return f.refuse(q.Call)
}

// response looks behind CNAMEs: trackers give their names to the sites that use them.
func (f *filter) response(r sdk.Response) sdk.Verdict {
	for w := r.Message().Records(); w.Next(); {
		if w.Section != sdk.Answer || w.Type != sdk.TypeCNAME {
			continue
		}
		target, ok := w.AppendTarget(f.name[:0])
		if !ok {
			continue
		}
		sdk.Canonicalize(target)
		list := f.listed(target)
		if list == nil || f.in(f.allow, r.QNAME()) != nil {
			continue
		}
		f.uncovered.Add(1)
		if e := r.Explain(); e != nil {
			e.Name(r.QNAME()).Text(" leads to ").Name(target).Text(", which is blocked by ").Text(list.Name).End()
		}
		return f.refuse(r.Call)
	}
	return sdk.Next
}

// listed returns the list that blocks a name, nil if none does or it is excepted.
func (f *filter) listed(name []byte) *sdk.Table {
	list := f.in(f.block, name)
	if list == nil || f.in(f.allow, name) != nil {
		return nil
	}
	return list
}

// in returns the first list that holds a name or an ancestor of it.
func (f *filter) in(lists []*sdk.Table, name []byte) *sdk.Table {
	for _, t := range lists {
		if _, _, ok := t.Longest(name, &f.buffer); ok {
			return t
		}
	}
	return nil
}

// refuse answers in place of what is blocked.
func (f *filter) refuse(c *sdk.Call) sdk.Verdict {
	f.builder.Reset(c)
	switch {
	case f.address == nil:
		f.builder.SetRCODE(sdk.NXDOMAIN)
	case c.QTYPE() == sdk.TypeA:
		f.builder.Address(sdk.Answer, sdk.QNAME, f.ttl, f.address)
	}
	if f.builder.Count(sdk.Answer) == 0 {
		f.builder.NegativeSOA(c, len(c.QNAME()), f.ttl)
	}
	c.SetEDE(sdk.Blocked)
	return c.Respond(f.builder.Message())
}
