package table

import (
	"errors"
	"fmt"

	"github.com/weirdns/weir/abi"
	"github.com/weirdns/weir/host/message"
)

// Config says where the data of a table comes from: exactly one of Zonefile, Names, Prefixes, Hostsfile and Hosts is set. All but the
// last are paths.
type Config struct {
	// Zonefile is a master file (RFC 1035 section 5) with one zone. It may include files beside and below it.
	Zonefile string `koanf:"zonefile"`
	// Origin is the origin for relative names before the first $ORIGIN of the zone file. Without it, such names are mistakes.
	Origin string `koanf:"origin"`
	// Names is a file with a name on each line, and after white space a text that filters get with it.
	Names string `koanf:"names"`
	// Prefixes is a file with an address prefix on each line (RFC 4632 section 3.1), and a text as in Names.
	Prefixes string `koanf:"prefixes"`
	// Hostsfile is a file as /etc/hosts is: an address and its names on each line.
	Hostsfile string `koanf:"hostsfile"`
	// Hosts are such lines.
	Hosts []string `koanf:"hosts"`
	// MaxOctets bounds the memory of the data, without its index. 0 is the most that is possible, 4 GiB.
	MaxOctets int64 `koanf:"max_octets"`
}

// maxOctets is what offsets of 32 bits can address.
const maxOctets int64 = 1<<32 - 1

// Validate returns the first thing that is wrong with the configuration. The error begins with the key at fault, relative to
// the table. It opens nothing.
func (c *Config) Validate() error {
	set, first := 0, ""
	for _, source := range []struct {
		key  string
		none bool
	}{{"zonefile", c.Zonefile == ""}, {"names", c.Names == ""}, {"prefixes", c.Prefixes == ""}, {"hostsfile", c.Hostsfile == ""}, {"hosts", len(c.Hosts) == 0}} {
		if source.none {
			continue
		}
		if set++; set > 1 {
			return fmt.Errorf("%s: there is %s already: a table has one source", source.key, first)
		}
		first = source.key
	}
	switch {
	case set == 0:
		return errors.New("zonefile: is missing: name a zone file, a hosts file, or a file with names or prefixes")
	case c.Origin != "" && c.Zonefile == "":
		return errors.New("origin: is for zone files only: delete it")
	case c.MaxOctets < 0 || c.MaxOctets > maxOctets:
		return fmt.Errorf("max_octets: %d is not between 0 and %d", c.MaxOctets, maxOctets)
	}
	if c.Origin != "" {
		if _, err := message.ParseName(c.Origin); err != nil {
			return fmt.Errorf("origin: %w", err)
		}
	}
	return checkHosts(c.Hosts)
}

// kind returns the kind of the table, and the path of its source, empty for lines in the configuration. The configuration is
// valid.
func (c *Config) kind() (kind, path string) {
	switch {
	case c.Zonefile != "":
		return abi.TableZone, c.Zonefile
	case c.Names != "":
		return abi.TableNames, c.Names
	case c.Hostsfile != "":
		return abi.TableHosts, c.Hostsfile
	case len(c.Hosts) > 0:
		return abi.TableHosts, ""
	default:
		return abi.TablePrefixes, c.Prefixes
	}
}

// limit returns the bound on the octets.
func (c *Config) limit() int64 {
	if c.MaxOctets == 0 {
		return maxOctets
	}
	return c.MaxOctets
}
