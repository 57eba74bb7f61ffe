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
	blocked sdk.Counter // weir_filter_metric_total{filter="starter",metric="blocked"}
}

// configure reads the table [filter.starter.config] of the operator's file, once, and says what the filter wants to see. It notes mistakes
// and reads on; the operator gets all of them at once, with file and line. filter.json has the schema of the same table.
func (f *filter) configure(c *sdk.Config) sdk.Interest {
	f.blocked = c.Counter("blocked")
	zones := 0
	for key := range c.Object() {
		if key != "zones" {
			c.Unknown()
			continue
		}
		for range c.Array() {
			if zone := c.Zone(); zone != nil {
				c.AddName(zone) // the host keeps it, and looks each QNAME up
				zones++
			}
		}
	}
	if zones == 0 {
		return 0 // nothing to see
	}
	return sdk.Queries | sdk.Lookup
}

// query gives a verdict for a query on its way down, for which the host found one of the zones; it is not called for others. Next would let the
// query go on to the filter below, or to the upstream.
func (f *filter) query(q sdk.Query) sdk.Verdict {
	f.blocked.Add(1)
	if e := q.Explain(); e != nil { // somebody wants to know why
		_, size, _ := q.FoundName()
		name := q.QNAME()
		e.Text("blocked by zone ").Name(name[len(name)-size:]).End()
	}
	return q.RespondRCODE(sdk.NXDOMAIN, sdk.Blocked)
}
