package cache

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Config says how long and how much a cache keeps. Start from [Preset] and decode the operator's keys on top of it, so that what is unset
// keeps the value of the preset and zero means zero. The zero Config is a cache that keeps nothing.
type Config struct {
	// Preset names the values of the keys that are not set: "weir" (also ""), "coredns", "acs" or "nodelocal".
	Preset string `koanf:"preset"`

	// Success bounds answers with data, Denial those without: NXDOMAIN, NODATA, and failures. They don't take room from each other, so
	// a flood of names that don't exist leaves the names that do alone.
	Success Limits `koanf:"success"`
	Denial  Limits `koanf:"denial"`

	// ServfailTTL is how long a failure to get an answer is remembered (RFC 9520 section 3.2): SERVFAIL, REFUSED and other errors of an
	// upstream, and silence. 1s to 5m, or 0 for not at all.
	ServfailTTL time.Duration `koanf:"servfail_ttl"`

	// ServeStale is how long after its end an answer may still be given when the upstream fails (RFC 8767). At most 7 days; 0 is never.
	ServeStale time.Duration `koanf:"serve_stale"`
	// StaleTTL is the TTL that clients see in a stale answer. RFC 8767 section 5 recommends 30s.
	StaleTTL time.Duration `koanf:"stale_ttl"`
	// StaleAfter is how long a client waits for a fresh answer when there is a stale one, if its query leaves that much time.
	// RFC 8767 section 5 recommends 1.8s, just below what stub resolvers wait.
	StaleAfter time.Duration `koanf:"stale_after"`
	// StaleRecheck is how long after a failure stale answers are given at once, without asking the upstream (RFC 8767 section 5: not below 30s).
	StaleRecheck time.Duration `koanf:"stale_recheck"`

	// Prefetch says which answers are fetched anew before they end.
	Prefetch Prefetch `koanf:"prefetch"`

	// ResolveTimeout is how long one query to the upstream may take, whoever waits for it. It is longer than clients wait, so that a late answer
	// still serves the next one.
	ResolveTimeout time.Duration `koanf:"resolve_timeout"`

	// Snapshot is the directory in which the cache of each upstream is kept in a file, from which it starts the next time. Empty: none.
	Snapshot string `koanf:"snapshot"`
	// SnapshotInterval is how often that file is written; it is written once more when weir ends. 1s to 24h.
	SnapshotInterval time.Duration `koanf:"snapshot_interval"`
}

// Limits bounds one kind of answers.
type Limits struct {
	// Capacity is how many answers are kept; 0 is none, and such responses then pass through as they are.
	Capacity int `koanf:"capacity"`
	// Octets is how much memory they may take, the bookkeeping included.
	Octets int `koanf:"octets"`
	// MinTTL and MaxTTL clamp how long an answer is kept, and the TTLs that clients see: min(max(ttl, min_ttl), max_ttl). Whole seconds.
	// MinTTL above 0 keeps answers longer than their owners allow: for 5s, that is common.
	MinTTL time.Duration `koanf:"min_ttl"`
	MaxTTL time.Duration `koanf:"max_ttl"`
}

// Prefetch says which answers are fetched anew before they end, so that nobody has to wait for them.
type Prefetch struct {
	// Hits is how often an answer must have been given since it was fetched; 0 switches prefetching off.
	Hits int `koanf:"hits"`
	// Percent is how much of its time is left when it is fetched anew, 1 to 90.
	Percent int `koanf:"percent"`
}

// Bounds of the configuration.
const (
	maxCapacity     = 1 << 26
	minOctets       = 1 << 20 // a shard must have room for some of the largest messages
	maxTTL          = 7 * 24 * time.Hour
	minFailureTTL   = time.Second     // RFC 9520 section 3.2: MUST cache for at least 1 second,
	maxFailureTTL   = 5 * time.Minute // and MUST NOT for longer than 5 minutes
	maxResolve      = time.Minute
	minStaleRecheck = time.Second
	maxInterval     = 24 * time.Hour
)

// snapshotInterval is the default: what is lost when weir is killed is the answers of five minutes.
const snapshotInterval = 5 * time.Minute

// presets are complete configurations.
//
// weir's own: a day and an hour are what recursive resolvers cap TTLs at (Unbound: cache-max-ttl 86400, cache-max-negative-ttl 3600). No floor,
// since a TTL is its owner's to choose. Failures 5s, as in the example of RFC 9520 section 3.2. A day of stale answers outlasts
// an outage over night and is at the low end of the 1 to 3 days of RFC 8767 section 5. 6s for a query outlasts the 5s after which glibc asks again.
//
// The others show clients the TTLs that they are used to from CoreDNS (its cache plugin's defaults), from the CoreDNS of Alibaba Cloud's
// Kubernetes service, and from the manifest of NodeLocal DNSCache. None of these serves stale or prefetches.
var presets = map[string]Config{
	"weir": {
		Preset:         "weir",
		Success:        Limits{Capacity: 250_000, Octets: 64 << 20, MaxTTL: 24 * time.Hour},
		Denial:         Limits{Capacity: 100_000, Octets: 32 << 20, MaxTTL: time.Hour},
		ServfailTTL:    5 * time.Second,
		ServeStale:     24 * time.Hour,
		StaleTTL:       30 * time.Second,
		StaleAfter:     1800 * time.Millisecond,
		StaleRecheck:   30 * time.Second,
		Prefetch:       Prefetch{Hits: 3, Percent: 10},
		ResolveTimeout: 6 * time.Second,

		SnapshotInterval: snapshotInterval,
	},
	"coredns":   corefile("coredns", 3600, 5, 1800, 5, 5),
	"acs":       corefile("acs", 30, 5, 30, 5, 0),
	"nodelocal": corefile("nodelocal", 30, 5, 5, 5, 5),
}

// corefile is the configuration of CoreDNS with these TTLs in seconds.
func corefile(name string, successMax, successMin, denialMax, denialMin, servfail time.Duration) Config {
	return Config{
		Preset:         name,
		Success:        Limits{Capacity: 9984, Octets: 16 << 20, MinTTL: successMin * time.Second, MaxTTL: successMax * time.Second},
		Denial:         Limits{Capacity: 9984, Octets: 16 << 20, MinTTL: denialMin * time.Second, MaxTTL: denialMax * time.Second},
		ServfailTTL:    servfail * time.Second,
		StaleTTL:       30 * time.Second,
		StaleAfter:     1800 * time.Millisecond,
		StaleRecheck:   30 * time.Second,
		Prefetch:       Prefetch{Percent: 10},
		ResolveTimeout: 6 * time.Second,

		SnapshotInterval: snapshotInterval,
	}
}

// Preset returns the configuration of that name; "" is "weir".
func Preset(name string) (Config, bool) {
	if name == "" {
		name = "weir"
	}
	c, ok := presets[name]
	return c, ok
}

// Presets returns the names that [Preset] knows, in alphabetical order.
func Presets() []string { return slices.Sorted(maps.Keys(presets)) }

// Validate returns the first thing that is wrong with the configuration. The error begins with the key at fault, relative to the table of the cache.
func (c *Config) Validate() error {
	if _, ok := Preset(c.Preset); !ok {
		return fmt.Errorf("preset: %q is not one of %s", c.Preset, strings.Join(Presets(), ", "))
	}
	if err := c.Success.validate("success"); err != nil {
		return err
	}
	if err := c.Denial.validate("denial"); err != nil {
		return err
	}
	if c.ServfailTTL != 0 {
		if err := duration("servfail_ttl", c.ServfailTTL, minFailureTTL, maxFailureTTL); err != nil {
			return fmt.Errorf("%w (RFC 9520), or 0s for none", err)
		}
	}
	if err := duration("serve_stale", c.ServeStale, 0, maxTTL); err != nil {
		return err
	}
	if c.ServeStale > 0 {
		if err := duration("stale_ttl", c.StaleTTL, time.Second, time.Hour); err != nil {
			return err
		}
		if c.StaleAfter < 0 || c.StaleAfter > maxResolve {
			return fmt.Errorf("stale_after: %s is not between 0s and %s", c.StaleAfter, maxResolve)
		}
		if err := duration("stale_recheck", c.StaleRecheck, minStaleRecheck, time.Hour); err != nil {
			return err
		}
	}
	if c.Prefetch.Hits < 0 {
		return fmt.Errorf("prefetch.hits: %d is below 0", c.Prefetch.Hits)
	}
	if c.Prefetch.Hits > 0 && (c.Prefetch.Percent < 1 || c.Prefetch.Percent > 90) {
		return fmt.Errorf("prefetch.percent: %d is not between 1 and 90", c.Prefetch.Percent)
	}
	if c.ResolveTimeout < 100*time.Millisecond || c.ResolveTimeout > maxResolve {
		return fmt.Errorf("resolve_timeout: %s is not between 100ms and %s", c.ResolveTimeout, maxResolve)
	}
	if c.Snapshot != "" {
		if err := duration("snapshot_interval", c.SnapshotInterval, time.Second, maxInterval); err != nil {
			return err
		}
	}
	return nil
}

func (l *Limits) validate(key string) error {
	if l.Capacity < 0 || l.Capacity > maxCapacity {
		return fmt.Errorf("%s.capacity: %d is not between 0 and %d", key, l.Capacity, maxCapacity)
	}
	if l.Capacity == 0 {
		return nil
	}
	if l.Octets < minOctets {
		return fmt.Errorf("%s.octets: %d is below %d", key, l.Octets, minOctets)
	}
	if err := duration(key+".min_ttl", l.MinTTL, 0, maxTTL); err != nil {
		return err
	}
	if err := duration(key+".max_ttl", l.MaxTTL, time.Second, maxTTL); err != nil {
		return err
	}
	if l.MinTTL > l.MaxTTL {
		return fmt.Errorf("%s.min_ttl: %s is above max_ttl, %s", key, l.MinTTL, l.MaxTTL)
	}
	return nil
}

// duration checks a TTL, which DNS counts in whole seconds.
func duration(key string, d, least, most time.Duration) error {
	if d < least || d > most {
		return fmt.Errorf("%s: %s is not between %s and %s", key, d, least, most)
	}
	if d%time.Second != 0 {
		return fmt.Errorf("%s: %s is not a whole number of seconds", key, d)
	}
	return nil
}
