package wasm

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/weirdns/weir/abi"
)

// Defaults of Config, each with its reason.
const (
	// DefaultFuel is under a millisecond of ordinary work, and 16 ms of the slowest instruction that there is: a filter that takes longer holds up
	// the queries behind it. A look-up in a filter takes some 10,000 units.
	DefaultFuel = 1_000_000
	// DefaultMemory is ten times what a small Go program needs, and one bad filter can't starve the host with it.
	DefaultMemory = 32 << 20
)

// Bounds of Config.
const (
	minFuel   = 1_000         // less is not enough to look at a message
	maxFuel   = 1_000_000_000 // some seconds: longer than any client waits
	minMemory = 128 << 10     // a frame has 65,920 octets
	maxMemory = 1 << 30       // far above any use; WebAssembly itself ends at 4 GiB
)

// What becomes of a query when its filter faults, as in the configuration.
const (
	OnErrorServfail = "servfail" // the client gets SERVFAIL with an Extended DNS Error
	OnErrorSkip     = "skip"     // as if the filter had said Next
)

// Config is one [filter.NAME] of the configuration file. Zero stands for the default.
type Config struct {
	// Module is the path of the module's file. Empty, it is the module that comes with weir and has the name of the filter. Whoever calls
	// [Runtime.Open] reads it.
	Module string `koanf:"module"`
	// Fuel bounds the work of one call, in units of about one instruction. Loading and configuring an instance may take 1,000 times as much.
	Fuel uint64 `koanf:"fuel"`
	// Memory bounds the memory of one instance, such as "32MiB". There are about as many instances as cores.
	Memory Size `koanf:"memory"`
	// OnError is what a query gets when the filter faults: "servfail" or "skip".
	OnError string `koanf:"on_error"`
	// Grants is what a module that did not come with weir may do: "forward", "ask", "rewrite", "tables". The others of abi/README.md
	// section 8 are granted unasked.
	Grants []string `koanf:"grants"`
	// Config is the filter's own configuration, which its manifest has the schema of.
	Config map[string]any `koanf:"config"`
}

// grantNames are all grants that there are.
var grantNames = []string{abi.GrantForward, abi.GrantAsk, abi.GrantRewrite, abi.GrantTables, abi.GrantLog, abi.GrantMetrics}

// WithDefaults returns c with every zero replaced by its default. c itself is unchanged.
func (c Config) WithDefaults() Config {
	if c.Fuel == 0 {
		c.Fuel = DefaultFuel
	}
	if c.Memory == 0 {
		c.Memory = DefaultMemory
	}
	if c.OnError == "" {
		c.OnError = OnErrorServfail
	}
	return c
}

// Validate reports everything that is wrong with c, defaults taken into account. Each of the joined errors begins with the key at fault
// and a colon, such as "grants[1]: ...". What is in Config is for [Runtime.Open], which has the module's schema.
func (c Config) Validate() error {
	c = c.WithDefaults()
	var errs []error
	bad := func(key, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %s", key, fmt.Sprintf(format, args...)))
	}
	if c.Fuel < minFuel || c.Fuel > maxFuel {
		bad("fuel", "is %d: write %d to %d", c.Fuel, minFuel, maxFuel)
	}
	if c.Memory < minMemory || c.Memory > maxMemory {
		bad("memory", "is %s: write %s to %s", c.Memory, Size(minMemory), Size(maxMemory))
	}
	if c.OnError != OnErrorServfail && c.OnError != OnErrorSkip {
		bad("on_error", "%q is unknown: write %q or %q", c.OnError, OnErrorServfail, OnErrorSkip)
	}
	for i, g := range c.Grants {
		switch {
		case !slices.Contains(grantNames, g):
			bad(fmt.Sprintf("grants[%d]", i), "%q is not a grant: write one of %s", g, strings.Join(grantNames, ", "))
		case slices.Index(c.Grants, g) != i:
			bad(fmt.Sprintf("grants[%d]", i), "%q is there twice", g)
		}
	}
	return errors.Join(errs...)
}

// Size is a number of octets, written as such or with a unit: "65536", "512KiB", "32MiB", "1GiB".
type Size uint64

var units = []struct {
	suffix string
	size   uint64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Size) UnmarshalText(text []byte) error {
	digits, unit := strings.TrimSpace(string(text)), uint64(1)
	for _, u := range units {
		if rest, ok := strings.CutSuffix(digits, u.suffix); ok {
			digits, unit = strings.TrimSpace(rest), u.size
			break
		}
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || n > math.MaxUint64/unit {
		return fmt.Errorf("%q is not a size: write octets with a unit, such as 512KiB, 32MiB or 1GiB", text)
	}
	*s = Size(n * unit)
	return nil
}

// MarshalText implements encoding.TextMarshaler: the largest unit that leaves a whole number.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// String returns what UnmarshalText reads.
func (s Size) String() string {
	for _, u := range units {
		if uint64(s) >= u.size && uint64(s)%u.size == 0 {
			return strconv.FormatUint(uint64(s)/u.size, 10) + u.suffix
		}
	}
	return strconv.FormatUint(uint64(s), 10) + "B"
}
