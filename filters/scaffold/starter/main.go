// Command starter is a filter for weir: names in the zones of its configuration get NXDOMAIN, all others go on.
package main

import "github.com/weirdns/weir/sdk"

// The host loads the module, which runs init, and then calls the functions of the filter. main is never called.
func init() { sdk.Register(newFilter()) }

func main() {}

// newFilter returns the functions of the filter. Tests call it, too, to have a filter that runs natively.
func newFilter() sdk.Filter {
	f := new(filter)
	return sdk.Filter{Configure: f.configure, Query: f.query}
}

// filter is what configure makes of the configuration. Whatever a query needs is made there: query allocates nothing.
type filter struct {
	zones   sdk.Suffixes // the zones, for finding the longest one that a name is in
	blocked sdk.Counter  // weir_filter_metric_total{filter="starter",metric="blocked"}
}

// configure reads the table [filter.starter.config] of the operator's file, once, and says what the filter wants to see. It notes mistakes
// and reads on; the operator gets all of them at once, with file and line. filter.json has the schema of the same table.
func (f *filter) configure(c *sdk.Config) sdk.Interest {
	f.blocked = c.Counter("blocked")
	for key := range c.Object() {
		if key != "zones" {
			c.Unknown()
			continue
		}
		for i := range c.Array() {
			if zone := c.Zone(); zone != nil {
				f.zones.Set(zone, i)
			}
		}
	}
	return sdk.Queries
}

// query gives a verdict for each query on its way down. Next lets it go on to the filter below, or to the upstream.
func (f *filter) query(q sdk.Query) sdk.Verdict {
	_, size, ok := q.Longest(&f.zones)
	if !ok {
		return sdk.Next
	}
	f.blocked.Add(1)
	if e := q.Explain(); e != nil { // somebody wants to know why
		name := q.QNAME()
		e.Text("blocked by zone ").Name(name[len(name)-size:]).End()
	}
	return q.RespondRCODE(sdk.NXDOMAIN, sdk.Blocked)
}
