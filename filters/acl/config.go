package main

import (
	"strconv"

	"github.com/weirdns/weir/sdk"
)

// maxRules and maxTables keep a call far below its default fuel, and below the 1,000 host functions that it may call.
const (
	maxRules  = 1000
	maxTables = 100
)

// configure reads the rules.
func (f *acl) configure(c *sdk.Config) sdk.Interest {
	f.buffer.Grow(0)
	tables := 0
	for key := range c.Object() {
		if key != "rule" {
			c.Unknown()
			continue
		}
		for range c.Array() {
			r := read(c)
			tables += len(r.tables)
			f.rules = append(f.rules, r)
		}
	}
	if len(f.rules) > maxRules {
		c.MistakeAt("rule", "has "+strconv.Itoa(len(f.rules))+" elements, at most "+strconv.Itoa(maxRules)+" are allowed: put the clients of several rules together")
	}
	if tables > maxTables {
		c.MistakeAt("rule", "names "+strconv.Itoa(tables)+" tables in all, at most "+strconv.Itoa(maxTables)+" are allowed: put several lists together")
	}
	if len(c.Mistakes()) > 0 {
		return 0
	}
	for i := range f.rules {
		if !f.rules[i].always() {
			continue
		}
		if i+1 < len(f.rules) {
			c.MistakeAt("rule["+strconv.Itoa(i+1)+"]", "is never reached: {rule["+strconv.Itoa(i)+"]} is for all queries; move that to the end")
			return 0
		}
	}
	return f.interest()
}

// interest: an access list that lets nothing through would hide what is below it.
func (f *acl) interest() sdk.Interest {
	n := len(f.rules)
	if n == 0 {
		return 0
	}
	all := f.rules[n-1].always()
	for _, r := range f.rules {
		all = all && r.action != allow
	}
	if all {
		return sdk.Queries | sdk.Final
	}
	return sdk.Queries
}

// always reports whether a rule is for all queries.
func (r *rule) always() bool {
	return r.clients == nil && r.tables == nil && r.zones == nil && r.types == nil
}

// read reads a rule.
func read(c *sdk.Config) (r rule) {
	path := c.Path()
	hasAction := false
	for key := range c.Object() {
		switch key {
		case "action":
			hasAction = true
			r.action = readAction(c)
		case "clients":
			r.clients = new(clients)
			for range c.Array() {
				if octets, bits := c.Prefix(); octets != nil {
					r.clients.add(octets, bits)
				}
			}
			r.clients.sort()
		case "tables":
			r.tables = []*sdk.Table{}
			for range c.Array() {
				if t := c.Table(sdk.PrefixesTable); t != nil {
					r.tables = append(r.tables, t)
				}
			}
		case "zones":
			r.zones = new(sdk.Suffixes)
			for range c.Array() {
				if zone := c.Zone(); zone != nil {
					r.zones.Set(zone, 0)
				}
			}
		case "types":
			r.types = []sdk.Type{}
			for range c.Array() {
				r.types = append(r.types, c.Type())
			}
		default:
			c.Unknown()
		}
	}
	if !hasAction {
		c.MistakeAt(path, "has no action: want "+actionList)
	}
	return r
}

const actionList = "\"allow\", \"refuse\", \"filter\" or \"drop\""

func readAction(c *sdk.Config) action {
	before := len(c.Mistakes())
	text := c.String()
	if len(c.Mistakes()) > before {
		return allow
	}
	for i, name := range actions {
		if name == text {
			return action(i)
		}
	}
	c.Mistake("\"" + text + "\" is no action: want " + actionList)
	return allow
}
