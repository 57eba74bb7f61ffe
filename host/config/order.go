package config

import (
	"fmt"
	"slices"

	"github.com/weirdns/weir/host/chain"
)

// Member is what the manifest and the configuration of a filter say that matters for its place in a chain.
type Member struct {
	Role  string // of the manifest: one of chain.RoleAccess and so on, or ""
	Final bool   // every query gets an answer: nothing below is ever reached (bit 33 of what configure returns)
}

// CheckChain returns the mistakes in the order of the filters of a chain. members are those of c.Filters.
func (f *File) CheckChain(c Named[chain.Config], members []Member) (errs Errors) {
	key := func(i int) string { return joinIndex("chain."+c.Name+".filters", i) }
	order := callOrder(c.Config, members)
	first := -1 // filter with a role other than access
	for n, i := range order {
		below := order[n+1:]
		switch {
		case members[i].Role == chain.RoleAccess && first >= 0:
			errs = append(errs, f.Error(key(i), fmt.Sprintf("%q decides who may ask, but %q, in %s, is above it: %s; move %[1]q above %[2]q",
				c.Config.Filters[i], c.Config.Filters[first], f.Position(key(first)), bypass(c.Config.Filters[i], c.Config.Filters[first], members[first].Role))))
		case members[i].Role != "" && members[i].Role != chain.RoleAccess && first < 0:
			first = i
		}
		switch {
		case members[i].Final:
			for _, j := range below {
				errs = append(errs, f.Error(key(j), fmt.Sprintf("%q is never reached: %q, in %s, answers every query; move it to the end",
					c.Config.Filters[j], c.Config.Filters[i], f.Position(key(i)))))
			}
			return errs.sorted()
		case members[i].Role == chain.RoleRetry && len(below) == 0 && c.Config.Upstream == "":
			errs = append(errs, f.Error(key(i), fmt.Sprintf("%q has nothing below it whose answer it could look at: give the chain an upstream, or put %[1]q above the filters that answer",
				c.Config.Filters[i])))
		}
	}
	return errs.sorted()
}

// bypass says how queries get past a filter that decides who may ask, when another with the role is above it.
func bypass(access, above, role string) string {
	if role == chain.RoleRetry {
		return fmt.Sprintf("what %q refuses, %q asks somebody else", access, above)
	}
	return fmt.Sprintf("what %q answers is not checked", above)
}

// callOrder returns the indexes of the filters in the order in which a query meets them, see [chain.New].
func callOrder(c chain.Config, members []Member) []int {
	order := make([]int, len(members))
	for i := range order {
		order[i] = i
	}
	first := slices.IndexFunc(members, func(m Member) bool { return m.Role == chain.RoleAuthority })
	if c.Precedence != chain.PrecedenceRules || first < 0 {
		return order
	}
	rank := func(i int) int {
		switch {
		case i < first:
			return 0
		case members[i].Role == chain.RoleRoute:
			return 1
		default:
			return 2
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return rank(a) - rank(b) })
	return order
}

// Unique is a value that may be once in a chain: "x-weir-unique" in abi/README.md section 8.
type Unique struct {
	Module string // values of different modules don't meet
	Path   string // where it is, such as "filter.rules.config.rule[3].zone"
	Value  string // what is compared: a name in canonical wire format
	Text   string // as the operator wrote it
}

// CheckUnique returns a mistake for each value that is there before. values are those of all filters of one chain, in their order.
func (f *File) CheckUnique(values []Unique) (errs Errors) {
	type id struct{ module, value string }
	first := make(map[id]string)
	for _, v := range values {
		at, twice := first[id{v.Module, v.Value}]
		if !twice {
			first[id{v.Module, v.Value}] = v.Path
			continue
		}
		if at != v.Path {
			errs = append(errs, f.Error(v.Path, fmt.Sprintf("%q is there twice in the chain, first in %s: delete one of them", v.Text, f.Position(at))))
		}
	}
	return errs.sorted()
}
