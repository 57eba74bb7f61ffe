package main

import "github.com/weirdns/weir/sdk"

// outcome is how a walk over the zones ended.
type outcome uint8

const (
	answered outcome = iota // the builder holds the response
	outside                 // the name isn't answered here; it is a link of a chain if link > 0
	refused                 // a transfer
)

const classIN = 1

// rest is the query phase for all that isn't simple.
func (a *authority) rest(q sdk.Query) sdk.Verdict {
	if q.QCLASS() != classIN {
		return sdk.Next
	}
	if a.ttl < 0 && !a.simple && !q.Explained() && !a.isDelegated(q) {
		if verdict, ok := q.AnswerFound(); ok {
			return verdict
		}
	}
	how, link := a.walk(q.Call, a.found(q))
	switch {
	case how == answered:
		return q.Respond(a.builder.Message())
	case how == refused:
		return q.RespondRCODE(sdk.REFUSED, sdk.NoEDE)
	case link == 0:
		return sdk.Next
	case !q.RD():
		// Whoever doesn't ask for recursion gets what an authoritative server says: the CNAME. RFC 1034 section 4.3.1
		return q.Respond(a.builder.Message())
	}
	return a.ask(q.Call, link)
}

// isTransfer reports whether a QTYPE asks for a zone.
func isTransfer(t sdk.Type) bool { return t == sdk.TypeAXFR || t == sdk.TypeIXFR }

// isDelegated reports whether the QNAME is in a delegated zone.
func (a *authority) isDelegated(q sdk.Query) bool {
	table, _, held := q.Longest(&a.zones)
	return held && table == delegated
}

// found is what there is for a name: the zone, and in it the closest encloser, or the zone cut or DNAME on the way to it.
type found struct {
	held    bool // there is a zone, or a delegated one
	table   int  // index of its table, or delegated
	size    int  // octets of the zone's name
	ok      bool // the table still holds the zone
	node    sdk.Node
	matched int // octets of the owner of the node
}

// found is what the host found for the QNAME. A delegated zone may be between the name and the apex of its table.
func (a *authority) found(q sdk.Query) found {
	table, value, matched, ok := q.Found()
	inner, size, held := q.Longest(&a.zones)
	if !ok || value == nil || inner != table {
		return a.find(q.QNAME())
	}
	return found{held, table, size, true, a.node.Keep(value), matched}
}

// find looks a name up.
func (a *authority) find(name []byte) (f found) {
	f.table, f.size, f.held = a.zones.Longest(name)
	if f.held && f.table != delegated {
		var value []byte
		value, f.matched, f.ok = a.tables[f.table].Longest(name, &a.node)
		f.node = value
	}
	return f
}

// response is called with the answer to what query asked: the end of a chain that leads outside. The chain is walked again, since
// nothing is remembered between calls, and the answer is put behind it.
func (a *authority) response(r sdk.Response) sdk.Verdict {
	if !r.Asked() {
		return sdk.Next
	}
	how, link := a.walk(r.Call, a.find(r.QNAME()))
	switch {
	case how == answered: // the zone changed meanwhile
		return r.Respond(a.builder.Message())
	case how == refused || link == 0:
		return r.RespondRCODE(sdk.SERVFAIL, sdk.NoEDE)
	}
	asked := r.Message()
	if !asked.Asks(a.target(link), r.QTYPE()) {
		if r.Attempt()+2 > maxRounds {
			return r.RespondRCODE(sdk.SERVFAIL, sdk.NoEDE)
		}
		return a.ask(r.Call, link) // the zone changed meanwhile, and the chain leads elsewhere
	}
	if e := r.Explain(); e != nil {
		e.Text("asked below for ").Name(a.target(link)).Text(": ").Class(r.Class()).End()
	}
	// The RCODE is that of the last name of the chain, AA that of the first. RFC 6604 sections 2.1 and 3.
	a.builder.SetRCODE(r.RCODE())
	for rr := asked.Records(); rr.Next(); {
		switch {
		case rr.Section == sdk.Answer:
			a.builder.Record(sdk.Answer, asked, rr.Record)
		case rr.Section == sdk.Authority && rr.Type == sdk.TypeSOA:
			a.builder.Record(sdk.Authority, asked, rr.Record) // how long a negative answer holds. RFC 2308 section 2
		}
	}
	return r.Respond(a.builder.Message())
}

// maxRounds is how many verdicts Ask the contract allows for a query.
const maxRounds = 8

// ask has the name be resolved that a chain of so many links ended at.
func (a *authority) ask(c *sdk.Call, link int) sdk.Verdict {
	return c.Ask(sdk.AppendQuestion(a.question[:0], a.target(link), c.QTYPE()))
}

// target returns the name that the chain is at after so many links.
func (a *authority) target(link int) []byte { return a.targets[link-1][:a.sizes[link-1]] }

// place is where a walk is: a name, and what is known about it.
type place struct {
	name  []byte     // canonical
	owner int        // offset of that name in the response
	zone  *sdk.Table // that holds it
	apex  []byte     // of the zone
}

// walk answers the question from the zones, beginning with what was found for the QNAME. RFC 1034 section 4.3.2, with RFC 4592 for
// wildcards and RFC 6672 for DNAME. It returns how that ended, and after how many links of CNAMEs.
func (a *authority) walk(c *sdk.Call, f found) (how outcome, link int) {
	qtype := c.QTYPE()
	at := place{name: c.QNAME(), owner: sdk.QNAME}
	for ; ; f = a.find(at.name) {
		// Step 2: the zone that is the nearest ancestor.
		if !f.held || f.table == delegated {
			if e := c.Explain(); e != nil {
				a.explainOutside(e, at.name, f.size, f.held)
			}
			return outside, link
		}
		at.zone, at.apex = a.tables[f.table], at.name[len(at.name)-f.size:]
		if link == 0 {
			if isTransfer(qtype) {
				return refused, 0
			}
			a.builder.Reset(c)
			a.builder.SetAA(true)
		}
		if qtype == sdk.TypeDS && f.size == len(at.name) && f.size > 1 {
			a.parentSide(&at, &f)
		}
		if !f.ok {
			return outside, link // the table doesn't hold this zone any more
		}
		// Step 3: the closest encloser, or the zone cut or DNAME on the way to it.
		node, matched := f.node, f.matched
		flags := node.Flags()
		exact := matched == len(at.name)
		switch {
		case flags&sdk.NodeCut != 0 && !(exact && qtype == sdk.TypeDS):
			a.refer(&at, node, matched, link)
			a.explain(c, &at, "referral")
			return answered, link
		case !exact && flags&sdk.NodeDNAME != 0:
			a.explain(c, &at, "DNAME")
			if !a.redirect(&at, node, matched, link) {
				return answered, link
			}
			link++
			if a.stop(link, c.QNAME()) {
				return answered, link
			}
			continue
		case !exact && flags&sdk.NodeWildcard != 0:
			// The source of synthesis is the child "*" of the closest encloser. RFC 4592 section 3.3.1
			wildcard := append(append(a.name[:0], 1, '*'), at.name[len(at.name)-matched:]...)
			value, ok := at.zone.Get(wildcard, &a.node)
			if !ok {
				return outside, link
			}
			node = value
			flags = node.Flags()
		case !exact:
			if a.throughAll || a.fallsThrough(at.name) {
				a.explain(c, &at, "no such name: falls through")
				return outside, link
			}
			a.builder.SetRCODE(sdk.NXDOMAIN)
			a.negative(&at, node)
			a.explain(c, &at, "NXDOMAIN")
			return answered, link
		}
		// Steps 3.a and 3.c: the name exists, or a wildcard stands for it.
		set, ok := node.RRset(qtype)
		if !ok && qtype == sdk.TypeANY {
			set, ok = anyOf(node)
		}
		if ok {
			a.builder.RRset(sdk.Answer, at.owner, set, a.ttl)
			a.explain(c, &at, pick(exact, "answer", "answer from a wildcard"))
			return answered, link
		}
		if flags&sdk.NodeCNAME == 0 {
			a.negative(&at, node)
			a.explain(c, &at, "NODATA")
			return answered, link
		}
		a.explain(c, &at, "CNAME")
		a.alias(&at, node, link)
		link++
		if a.stop(link, c.QNAME()) {
			return answered, link
		}
	}
}

// parentSide moves at from a child zone to its parent, if that is held here too and has something at the name: records of type DS
// are the parent's. Without a parent, the child says that it has none. RFC 4035 section 3.1.4.1
func (a *authority) parentSide(at *place, f *found) {
	parent := at.name[1+int(at.name[0]):]
	table, size, ok := a.zones.Longest(parent)
	if !ok || table == delegated {
		return
	}
	zone := a.tables[table]
	if value, matched, ok := zone.Longest(at.name, &a.parent); ok && matched == len(at.name) {
		at.zone, at.apex = zone, parent[len(parent)-size:]
		f.node, f.matched, f.ok = value, matched, true
	}
}

// anyOf chooses the RRset that answers the QTYPE ANY: the first one that isn't of DNSSEC. RFC 8482 section 4.1
func anyOf(node sdk.Node) (set sdk.RRset, ok bool) {
	for i := range node.Len() {
		switch t, set := node.At(i); t {
		case sdk.TypeRRSIG, sdk.TypeNSEC, sdk.TypeNSEC3:
		default:
			return set, true
		}
	}
	return sdk.RRset{}, false
}

// refer makes a referral: the NS records of the zone cut, and the addresses that this zone has for them. RFC 1034 step 3.b. At the
// end of a chain, AA stays as it is, for it is about the first name.
func (a *authority) refer(at *place, node sdk.Node, matched, link int) {
	if link == 0 {
		a.builder.SetAA(false)
	}
	set, ok := node.RRset(sdk.TypeNS)
	if !ok {
		return
	}
	owner := at.owner + len(at.name) - matched
	server := a.builder.RRset(sdk.Authority, owner, set, a.ttl)
	end := a.builder.Size()
	for range min(set.Count, maxServers) {
		if server+12 > end {
			return
		}
		// The owner of the address is the name in the NS record, so it can be a pointer there.
		head := a.builder.Octets(server, 12)
		size := int(head[10])<<8 | int(head[11])
		name := append(a.name[:0], a.builder.Octets(server+12, min(size, sdk.MaxName))...)
		sdk.Canonicalize(name)
		if sdk.IsWithin(name, at.apex) {
			if value, ok := at.zone.Get(name, &a.other); ok {
				for _, t := range [...]sdk.Type{sdk.TypeA, sdk.TypeAAAA} {
					if set, ok := sdk.Node(value).RRset(t); ok {
						a.builder.RRset(sdk.Additional, server+12, set, a.ttl)
					}
				}
			}
		}
		server += 12 + size
	}
}

// maxServers bounds how many name servers of a referral get addresses. The root has 13.
const maxServers = 16

// redirect answers with a DNAME and the CNAME that is made from it, and goes to the new name. It is false if that is too long.
// RFC 6672 section 3.1
func (a *authority) redirect(at *place, node sdk.Node, matched, link int) bool {
	set, ok := node.RRset(sdk.TypeDNAME)
	if !ok {
		return false
	}
	above := len(at.name) - matched // octets of the labels that stay
	a.redirects[link] = at.name[above:]
	if !a.redirected(link) {
		a.builder.RRset(sdk.Answer, at.owner+above, set, a.ttl)
	}
	data := set.Data()
	if above+len(data) > sdk.MaxName {
		a.builder.SetRCODE(sdk.YXDOMAIN)
		return false
	}
	target := append(a.targets[link][:0], a.builder.Octets(at.owner, above)...)
	target = append(target, data...)
	ttl := set.TTL()
	if a.ttl >= 0 {
		ttl = uint32(a.ttl)
	}
	a.follow(at, link, target, a.builder.RR(sdk.Answer, at.owner, sdk.TypeCNAME, ttl, target))
	return true
}

// redirected reports whether a chain went through the DNAME of this link before: an RRset is in a response once (RFC 2181
// section 5.5).
func (a *authority) redirected(link int) bool {
	for i := range link {
		if string(a.redirects[i]) == string(a.redirects[link]) {
			return true
		}
	}
	return false
}

// alias answers with a CNAME and goes to its target.
func (a *authority) alias(at *place, node sdk.Node, link int) {
	a.redirects[link] = nil
	set, _ := node.RRset(sdk.TypeCNAME)
	record := a.builder.RRset(sdk.Answer, at.owner, set, a.ttl)
	a.follow(at, link, append(a.targets[link][:0], set.Data()...), record+12)
}

// follow goes to the target of a link, which is at an offset of the response and in a.targets.
func (a *authority) follow(at *place, link int, target []byte, offset int) {
	sdk.Canonicalize(target)
	a.sizes[link] = len(target)
	at.name, at.owner = target, offset
}

// stop reports whether a chain ends after so many links, because it comes to a name where it was before, or is too long. The
// answer is then the chain as it is, which is what NSD and Knot give; a resolver that follows it comes to the same end.
func (a *authority) stop(link int, qname []byte) bool {
	name := a.target(link)
	if link == maxLinks || string(name) == string(qname) {
		return true
	}
	for i := 1; i < link; i++ {
		if string(a.target(i)) == string(name) {
			return true
		}
	}
	return false
}

// negative adds the SOA record of the zone, which says how long a negative answer holds (RFC 2308 section 3). It is in the node
// that is at hand, if that is the apex.
func (a *authority) negative(at *place, node sdk.Node) {
	if node.Flags()&sdk.NodeApex == 0 {
		value, ok := at.zone.Get(at.apex, &a.other)
		if !ok {
			return
		}
		node = value
	}
	if set, ok := node.RRset(sdk.TypeSOA); ok {
		a.builder.SOA(at.owner+len(at.name)-len(at.apex), set, a.ttl)
	}
}

// fallsThrough reports whether a name that doesn't exist goes on down the chain.
func (a *authority) fallsThrough(name []byte) bool {
	_, _, ok := a.through.Longest(name)
	return ok
}

// explain says what a zone has for the name that the walk is at.
func (a *authority) explain(c *sdk.Call, at *place, what string) {
	if e := c.Explain(); e != nil {
		e.Text("{zones[").Int(a.places[at.zone.Index()]).Text("]}: zone ").Name(at.apex).Text(" (table ").Text(at.zone.Name).Text("): ").Name(at.name).Text(" -> ").Text(what).End()
	}
}

// explainOutside says why a name isn't answered here.
func (a *authority) explainOutside(e *sdk.Line, name []byte, size int, isDelegated bool) {
	if isDelegated {
		e.Text("{delegate}: zone ").Name(name[len(name)-size:]).Text(" is delegated: ").Name(name).Text(" goes on down the chain").End()
		return
	}
	e.Text("nothing here holds ").Name(name).End()
}

func pick(condition bool, yes, no string) string {
	if condition {
		return yes
	}
	return no
}
