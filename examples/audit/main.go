// Command audit is a filter that writes a line to the log for each query in some zones, or with some outcome: who asked for what, and what
// came of it.
package main

import "github.com/weirdns/weir/sdk"

func init() { sdk.Register(newFilter()) }

func main() {}

func newFilter() sdk.Filter {
	f := new(filter)
	return sdk.Filter{Configure: f.configure, Response: f.response}
}

type filter struct {
	zones sdk.Suffixes // empty: all names
	lines sdk.Counter
}

func (f *filter) configure(c *sdk.Config) sdk.Interest {
	f.lines = c.Counter("lines")
	interest := sdk.Interest(0)
	for key := range c.Object() {
		switch key {
		case "zones":
			for i := range c.Array() {
				if zone := c.Zone(); zone != nil {
					f.zones.Set(zone, i)
				}
			}
		case "rcodes":
			for range c.Array() {
				rcode := c.RCODE()
				interest |= sdk.Responses(sdk.Class(rcode))
				if rcode == sdk.NOERROR {
					interest |= sdk.Responses(sdk.NODATA)
				}
			}
		default:
			c.Unknown()
		}
	}
	if interest == 0 {
		interest = sdk.AllResponses
	}
	return interest
}

// response writes the line. It changes nothing.
func (f *filter) response(r sdk.Response) sdk.Verdict {
	if f.zones.Len() > 0 {
		if _, _, ok := r.Longest(&f.zones); !ok {
			return sdk.Next
		}
	}
	f.lines.Add(1)
	address, port := r.Client()
	line := sdk.LogLine(sdk.Info).Text("client=").Address(address).Text("#").Int(int(port)).
		Text(" name=").Name(r.QNAME()).Text(" type=").Type(r.QTYPE()).Text(" rcode=").RCODE(r.RCODE())
	for w := r.Message().Records(); w.Next(); {
		if target, ok := w.Address(); ok && w.Section == sdk.Answer {
			line.Text(" address=").Address(target)
		}
	}
	if r.Silent() {
		line.Text(" upstream=silent")
	}
	line.End()
	return sdk.Next
}
