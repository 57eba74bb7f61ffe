// Command tags is a filter that chooses the upstream by the client: a table says which tag a client's network has, and the configuration
// which upstream is for the tag.
package main

import "github.com/weirdns/weir/sdk"

func init() { sdk.Register(newFilter()) }

func main() {}

func newFilter() sdk.Filter {
	f := new(filter)
	return sdk.Filter{Configure: f.configure, Query: f.query}
}

type filter struct {
	clients *sdk.Table // prefixes, with a tag as the text of each
	tags    []tag
	buffer  sdk.Buffer
	unknown sdk.Counter
}

// tag is what is done with clients that have it.
type tag struct {
	name     string
	upstream int // -1: they are refused
}

func (f *filter) configure(c *sdk.Config) sdk.Interest {
	f.unknown = c.Counter("unknown")
	f.buffer.Grow(0) // now, so that the first query needs not
	for key := range c.Object() {
		switch key {
		case "clients":
			f.clients = c.Table(sdk.PrefixesTable)
		case "tag":
			for range c.Array() {
				f.read(c)
			}
		default:
			c.Unknown()
		}
	}
	if f.clients == nil {
		c.MistakeAt("clients", "want the name of a table with prefixes of clients, and a tag behind each")
	}
	return sdk.Queries
}

// read reads what a tag means.
func (f *filter) read(c *sdk.Config) {
	t := tag{upstream: -1}
	path, refuse := c.Path(), false
	for key := range c.Object() {
		switch key {
		case "name":
			t.name = c.String()
		case "upstream":
			t.upstream = c.Upstream()
		case "refuse":
			refuse = c.Bool()
		default:
			c.Unknown()
		}
	}
	if refuse == (t.upstream >= 0) {
		c.MistakeAt(path, "wants either upstream or refuse = true")
	}
	f.tags = append(f.tags, t)
}

// query looks the client up: the longest prefix of the table that holds its address counts. Clients in none, and those with a tag that
// nothing is said about, go on to the upstream of the chain.
func (f *filter) query(q sdk.Query) sdk.Verdict {
	address, _ := q.Client()
	if address == nil {
		return sdk.Next // a query of weir's own
	}
	name, bits, ok := f.clients.Prefix(address, &f.buffer)
	if !ok {
		return sdk.Next
	}
	for i := range f.tags {
		t := &f.tags[i]
		if t.name != string(name) {
			continue
		}
		if e := q.Explain(); e != nil {
			e.Text("client ").Address(address).Text(" is in a /").Int(bits).Text(" with the tag ").Text(t.name).End()
		}
		if t.upstream < 0 {
			return q.RespondRCODE(sdk.REFUSED, sdk.Prohibited)
		}
		return q.Forward(t.upstream)
	}
	f.unknown.Add(1)
	if e := q.Explain(); e != nil {
		e.Text("nothing is said about the tag ").Octets(name).End()
	}
	return sdk.Next
}
