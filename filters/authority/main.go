// Command authority is the filter that answers from zones held here. README.md beside this file is its manual page.
package main

import "github.com/weirdns/weir/sdk"

func init() { sdk.Register(newFilter()) }

func main() {}

// newFilter is not inlined, since the compiler inlines nothing in what becomes a part of init.
//
//go:noinline
func newFilter() sdk.Filter {
	a := new(authority)
	return sdk.Filter{
		Configure: a.configure,
		// What is in the zones is answered, and everything else goes on. The host looked the QNAME up, and calls only for names in zones.
		Query: func(q sdk.Query) sdk.Verdict {
			// The name exists and has the type, or it doesn't exist and goes on: that is nearly always so, and all there is to it. Whatever is
			// special goes to rest.
			if a.simple && !q.Explained() {
				if a.throughAll && q.Absent() && !isTransfer(q.QTYPE()) {
					return sdk.Next
				}
				if verdict, ok := q.AnswerFound(); ok {
					return verdict
				}
			}
			return a.rest(q)
		},
		Response: a.response,
	}
}

// authority is a configured filter and its scratch memory: nothing in it outlives a call but the configuration.
type authority struct {
	zones      sdk.Suffixes // apexes to indexes of tables, delegated zones to delegated
	tables     []*sdk.Table
	places     []int        // of the same indexes: where in the configuration's list the table is, for whoever explains
	through    sdk.Suffixes // zones in which names that don't exist go down the chain
	throughAll bool
	ttl        int64 // of all records, in seconds; -1 as they are
	simple     bool  // no TTL is replaced and no zone is delegated: what a table has is the answer

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
