// Command no-aaaa is a filter that hides IPv6 addresses: AAAA queries in some zones are answered with NODATA, so that clients use IPv4.
package main

import "github.com/weirdns/weir/sdk"

func init() { sdk.Register(newFilter()) }

func main() {}

func newFilter() sdk.Filter {
	f := new(filter)
	return sdk.Filter{Configure: f.configure, Query: f.query}
}

type filter struct {
	zones   sdk.Suffixes // zones and exceptions to suppress or except
	ttl     uint32       // seconds for which clients keep that there is none
	builder sdk.Builder
}

// What a zone is in the configuration for.
const (
	suppress = iota
	except
)

// defaultTTL is short, so that a change of the configuration shows soon.
const defaultTTL = 60

func (f *filter) configure(c *sdk.Config) sdk.Interest {
	f.ttl = defaultTTL
	for key := range c.Object() {
		switch key {
		case "zones":
			f.read(c, suppress)
		case "except":
			f.read(c, except)
		case "ttl":
			f.ttl = uint32(c.Seconds(86400))
		default:
			c.Unknown()
		}
	}
	return sdk.Queries
}

// read reads a list of zones. The longest one that a name is in counts, so a zone can't be in both lists.
func (f *filter) read(c *sdk.Config, what int) {
	for range c.Array() {
		zone := c.Zone()
		if zone == nil {
			continue // a mistake, which is noted already
		}
		if earlier, ok := f.zones.Set(zone, what); !ok && earlier != what {
			c.Mistake("is in the other list, too: decide for zones or except")
		}
	}
}

// query answers AAAA queries in a zone. The SOA record lets clients keep the answer (RFC 2308 section 5).
func (f *filter) query(q sdk.Query) sdk.Verdict {
	if q.QTYPE() != sdk.TypeAAAA || q.QCLASS() != 1 {
		return sdk.Next
	}
	what, size, ok := q.Longest(&f.zones)
	if !ok || what == except {
		return sdk.Next
	}
	if e := q.Explain(); e != nil {
		name := q.QNAME()
		e.Text("AAAA is suppressed in ").Name(name[len(name)-size:]).End()
	}
	f.builder.Reset(q.Call)
	f.builder.NegativeSOA(q.Call, size, f.ttl)
	q.SetEDE(sdk.Filtered)
	return q.Respond(f.builder.Message())
}
