package admin

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
)

// Config is the table [admin].
type Config struct {
	// Address to listen on, such as "127.0.0.1:9153". Empty: no admin server.
	Address string `koanf:"address"`
	// NotReady lists the kinds of problem that make /readyz say no, and not only tell of them: see Problems. The default is none.
	NotReady []string `koanf:"not_ready"`
}

// Problems are the kinds of problem that Config.NotReady may list.
//
//   - "tables": a table could not be read anew, so that what it had before is in force
//   - "upstreams": all servers of an upstream are down, or it has none
//   - "filters": a filter is in quarantine, because it kept failing
var Problems = []string{"tables", "upstreams", "filters"}

// Validate reports what is wrong. Each of the joined errors begins with the key at fault.
func (c Config) Validate() error {
	var errs []error
	if c.Address != "" {
		if _, _, err := net.SplitHostPort(c.Address); err != nil {
			errs = append(errs, fmt.Errorf("address: %q is not HOST:PORT, such as 127.0.0.1:9153", c.Address))
		}
	}
	for i, kind := range c.NotReady {
		if !slices.Contains(Problems, kind) {
			errs = append(errs, fmt.Errorf("not_ready[%d]: %q is no kind of problem: write one of %s", i, kind, strings.Join(Problems, ", ")))
		}
	}
	return errors.Join(errs...)
}
