// Command hosts is the filter that answers from hosts files. README.md beside this file is its manual page.
package main

import (
	"strconv"

	"github.com/weirdns/weir/sdk"
	"github.com/weirdns/weir/sdk/json"
)

func init() { sdk.Register(newFilter()) }

func main() {}

func newFilter() sdk.Filter {
	f := new(hosts)
	return sdk.Filter{Configure: f.configure, Query: f.query}
}

// hosts is a configured filter and its scratch memory.
type hosts struct {
	tables     []*sdk.Table // in the order of the configuration
	order      []int        // place in tables of each table that the host knows
	zones      sdk.Suffixes // in which no other names exist
	through    sdk.Suffixes // in which they may
	throughAll bool
	ttl        int64 // of all records, in seconds; -1 as they are

	builder sdk.Builder
	node    sdk.Buffer
}

const (
	classIN   = 1
	maxTTL    = 1<<31 - 1 // RFC 2181 section 8
	maxTables = 100       // a call looks into each, and may call 1,000 host functions
)

// query answers for the names in the tables.
func (f *hosts) query(q sdk.Query) sdk.Verdict {
	if f.ttl < 0 && !q.Explained() {
		if verdict, ok := q.AnswerFound(); ok { // nearly always, and all there is to it
			return verdict
		}
	}
	if q.QCLASS() != classIN {
		return sdk.Next
	}
	table, node := f.find(q)
	if node == nil {
		return f.unknown(q)
	}
	f.builder.Reset(q.Call)
	f.builder.SetAA(true)
	set, ok := node.RRset(q.QTYPE())
	if !ok && q.QTYPE() == sdk.TypeANY { // one RRset is enough. RFC 8482 section 4.1
		_, set = node.At(0)
		ok = true
	}
	what := "NODATA"
	if ok {
		f.builder.RRset(sdk.Answer, sdk.QNAME, set, f.ttl)
		what = "answer"
	}
	if e := q.Explain(); e != nil {
		e.Text("{tables}: table ").Text(table.Name).Text(": ").Name(q.QNAME()).Text(" -> ").Text(what).End()
	}
	return q.Respond(f.builder.Message())
}

// find returns what the first table that has the QNAME has for it. The host may have found an ancestor of the name, in a table before that.
func (f *hosts) find(q sdk.Query) (*sdk.Table, sdk.Node) {
	name := q.QNAME()
	if i, value, matched, ok := q.Found(); ok && matched == len(name) && value != nil {
		return f.tables[f.order[i]], f.node.Keep(value) // the builder writes over it
	}
	for _, t := range f.tables {
		if value, ok := t.Get(name, &f.node); ok {
			return t, value
		}
	}
	return nil, nil
}

// unknown is query for a name that no table has.
func (f *hosts) unknown(q sdk.Query) sdk.Verdict {
	name := q.QNAME()
	_, size, ok := q.Longest(&f.zones)
	if !ok {
		if e := q.Explain(); e != nil {
			e.Text("nothing here holds ").Name(name).End()
		}
		return sdk.Next
	}
	zone := name[len(name)-size:]
	if _, _, ok := q.Longest(&f.through); ok || f.throughAll {
		if e := q.Explain(); e != nil {
			e.Text("{zones}: zone ").Name(zone).Text(": ").Name(name).Text(" -> no such name: falls through").End()
		}
		return sdk.Next
	}
	rcode, what := sdk.NXDOMAIN, "NXDOMAIN"
	if f.isAbove(name) {
		rcode, what = sdk.NOERROR, "NODATA"
	}
	f.builder.Reset(q.Call)
	f.builder.SetAA(true)
	f.builder.SetRCODE(rcode)
	if e := q.Explain(); e != nil {
		e.Text("{zones}: zone ").Name(zone).Text(": ").Name(name).Text(" -> ").Text(what).End()
	}
	return q.Respond(f.builder.Message())
}

// isAbove reports whether a name that no table has is above one that some table has, so that it exists (RFC 8020): in canonical order,
// what is below a name comes right behind it.
func (f *hosts) isAbove(name []byte) bool {
	for _, t := range f.tables {
		if next, _, ok := t.Next(name, &f.node); ok && sdk.IsWithin(next, name) {
			return true
		}
	}
	return false
}

// configure reads the configuration that README.md describes.
func (f *hosts) configure(c *sdk.Config) sdk.Interest {
	f.ttl = -1
	f.node.Grow(0)
	through := ""
	for key := range c.Object() {
		switch key {
		case "tables":
			for range c.Array() {
				f.addTable(c)
			}
		case "zones":
			for range c.Array() {
				if zone := c.Zone(); zone != nil {
					f.zones.Set(zone, 0)
				}
			}
		case "fallthrough":
			if c.Kind() == json.Bool {
				if f.throughAll = c.Bool(); f.throughAll {
					through = c.Path()
				}
				continue
			}
			through = c.Path()
			for range c.Array() {
				if zone := c.Zone(); zone != nil {
					f.through.Set(zone, 0)
				}
			}
		case "ttl":
			f.ttl = c.Seconds(maxTTL)
		default:
			c.Unknown()
		}
	}
	if len(f.tables) > maxTables {
		c.MistakeAt("tables", "has "+strconv.Itoa(len(f.tables))+" elements, at most "+strconv.Itoa(maxTables)+" are allowed: put several files together")
	}
	if through != "" && f.zones.Len() == 0 && len(c.Mistakes()) == 0 {
		c.MistakeAt(through, "goes with zones only: without them, every name that is in no table goes on down the chain anyway; delete it")
	}
	switch {
	case len(f.tables) == 0:
		return 0
	case f.zones.Len() > 0:
		return sdk.Queries // also for names that no table has
	}
	return sdk.Queries | sdk.Lookup
}

// addTable reads the name of a table.
func (f *hosts) addTable(c *sdk.Config) {
	t := c.Table(sdk.HostsTable)
	if t == nil {
		return
	}
	for len(f.order) <= t.Index() {
		f.order = append(f.order, 0)
	}
	f.order[t.Index()] = len(f.tables)
	f.tables = append(f.tables, t)
}
