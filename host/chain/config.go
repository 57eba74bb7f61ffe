package chain

import (
	"errors"
	"fmt"
	"slices"
)

// Who wins where a chain both answers from its tables and chooses upstreams, [Config.Precedence].
const (
	PrecedenceAuthority = "authority" // the order of the filters counts, so that with the authority in front its zones win
	PrecedenceRules     = "rules"     // a query for which a rule chose an upstream is not answered from tables
)

// Config is one [chain.NAME] of the configuration file.
type Config struct {
	// Filters are the names of filters, in the order in which a query passes them. A filter is in a chain once at most.
	Filters []string `koanf:"filters"`
	// Upstream is asked when no filter answers or chooses another one. Without it, such queries get REFUSED.
	Upstream string `koanf:"upstream"`
	// Precedence is "authority" (also "") or "rules".
	Precedence string `koanf:"precedence"`
}

// Validate reports everything that is wrong with c. Each of the joined errors begins with the key at fault and a colon, such as
// "filters[2]: ...". A place such as {filters[0]} in the text stands for another key. It does not look at whether the names exist.
func (c Config) Validate() error {
	var errs []error
	for i, name := range c.Filters {
		switch first := slices.Index(c.Filters, name); {
		case name == "":
			errs = append(errs, fmt.Errorf("filters[%d]: is empty: write the name of a filter", i))
		case first != i:
			errs = append(errs, fmt.Errorf("filters[%d]: %q is there twice, first in {filters[%d]}: a query passes a filter once", i, name, first))
		}
	}
	if len(c.Filters) == 0 && c.Upstream == "" {
		errs = append(errs, errors.New("upstream: is missing: without it and without filters, nothing answers"))
	}
	if p := c.Precedence; p != "" && p != PrecedenceAuthority && p != PrecedenceRules {
		errs = append(errs, fmt.Errorf("precedence: %q is unknown: write %q or %q", p, PrecedenceAuthority, PrecedenceRules))
	}
	return errors.Join(errs...)
}
