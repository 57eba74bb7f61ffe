// Command authority is the filter that answers from zones held here. README.md beside this file is its manual page.
package main

import "github.com/weirdns/weir/sdk"

func init() { sdk.Register(newFilter()) }

func main() {}

func newFilter() sdk.Filter {
	a := new(authority)
	return sdk.Filter{Configure: a.configure, Query: a.query, Response: a.response}
}

// authority is a configured filter and its scratch memory: nothing in it outlives a call but the configuration.
type authority struct {
	zones      sdk.Suffixes // apexes to indexes of tables, delegated zones to delegated
	tables     []*sdk.Table
	places     []int        // of the same indexes: where in the configuration's list the table is, for whoever explains
	through    sdk.Suffixes // zones in which names that don't exist go down the chain
	throughAll bool
	ttl        int64 // of all records, in seconds; -1 as they are
	delegates  bool  // zones has delegated zones

	builder  sdk.Builder
	node     sdk.Buffer // the node that answers
	other    sdk.Buffer // the apex, for its SOA, or glue
	parent   sdk.Buffer // the node of a child zone in its parent
	name     [sdk.MaxName]byte
	question [sdk.MaxName + 4]byte

	// The chain of CNAMEs, link by link.
	targets   [maxLinks][sdk.MaxName]byte // canonical names that it led to
	sizes     [maxLinks]int               // of these names
	redirects [maxLinks][]byte            // owners of the DNAMEs that it went through, nil where it was a CNAME
}

// delegated is the value of a zone that isn't answered here, among the indexes of tables.
const delegated = -1

// maxLinks bounds a chain of CNAMEs. Real ones rarely have more than 5 links; Knot ends at 20, unbound at 11.
const maxLinks = 16

// maxTTL is the highest TTL there is, in seconds. RFC 2181 section 8.
const maxTTL = 1<<31 - 1
