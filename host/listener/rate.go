package listener

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/weirdns/weir/host/message"
	"github.com/weirdns/weir/host/rate"
)

// RateLimit is what the networks of clients get over UDP, where anybody may write anybody's address on a query: so much and no more, whatever the responses
// are. It is off unless Responses are given. Clients that show a good cookie are not limited, since the address is theirs.
type RateLimit struct {
	// Responses are how many a network gets in a second, 1 to 1,000,000; 0 is no limit.
	Responses int `koanf:"responses"`
	// Burst is how many it gets at once; the default is twice Responses.
	Burst int `koanf:"burst"`
	// Slip is what becomes of the others: one in so many is answered with TC, which sends whoever meant it to TCP, and the rest gets nothing. 1, the
	// default, answers each, with no more octets than were sent, or a server cookie more; 0 stands for the default, and -1 answers none.
	Slip int `koanf:"slip"`
	// IPv4Prefix and IPv6Prefix are the bits of an address that make a network; the defaults are 24 and 56.
	IPv4Prefix int `koanf:"ipv4_prefix"`
	IPv6Prefix int `koanf:"ipv6_prefix"`
	// Exempt are networks without a limit, prefixes or addresses.
	Exempt []string `koanf:"exempt"`
	// LogOnly counts what would be limited, and limits nothing.
	LogOnly bool `koanf:"log_only"`
}

// Defaults of RateLimit. The prefixes are those of BIND, Knot and NSD.
const (
	DefaultSlip       = 1
	DefaultIPv4Prefix = 24
	DefaultIPv6Prefix = 56
)

func (r RateLimit) withDefaults() RateLimit {
	if r.Responses == 0 {
		return r
	}
	orDefault(&r.Burst, 2*r.Responses)
	orDefault(&r.Slip, DefaultSlip)
	orDefault(&r.IPv4Prefix, DefaultIPv4Prefix)
	orDefault(&r.IPv6Prefix, DefaultIPv6Prefix)
	return r
}

// validateRateLimit looks at c.RateLimit, which has its defaults.
func (c Config) validateRateLimit(bad func(key, format string, args ...any)) {
	r := c.RateLimit
	for i, text := range r.Exempt {
		if _, err := parsePrefix(text); err != nil {
			bad(fmt.Sprintf("rate_limit.exempt[%d]", i), "%w", err)
		}
	}
	if r.Responses == 0 {
		if r.Burst != 0 || r.Slip != 0 || r.IPv4Prefix != 0 || r.IPv6Prefix != 0 || r.LogOnly || len(r.Exempt) > 0 {
			bad("rate_limit.responses", "is missing: write how many responses a network gets in a second")
		}
		return
	}
	for _, k := range []struct {
		key                string
		value, least, most int
	}{
		{"responses", r.Responses, 1, rate.MaxPerSecond},
		{"burst", r.Burst, 1, int(rate.MaxBurst/time.Second) * max(r.Responses, 1)},
		{"slip", r.Slip, -1, 1000},
		{"ipv4_prefix", r.IPv4Prefix, 1, 32},
		{"ipv6_prefix", r.IPv6Prefix, 1, 64},
	} {
		if k.value < k.least || k.value > k.most {
			bad("rate_limit."+k.key, "is %d: write %d to %d", k.value, k.least, k.most)
		}
	}
	if !slices.Contains(c.Protocols, "udp") {
		bad("rate_limit", "is of no use: it is for \"udp\", which is not in {protocols}")
	}
}

// limiter has what one entrance needs of a RateLimit.
type limiter struct {
	rate    *rate.Limiter
	exempt  *Scopes // nil: nobody
	slip    int
	logOnly bool
}

// newLimiter returns nil when there is no limit.
func (c Config) newLimiter(now time.Time) *limiter {
	r := c.RateLimit
	if r.Responses == 0 {
		return nil
	}
	l := &limiter{slip: r.Slip, logOnly: r.LogOnly}
	l.rate = rate.New(rate.Limit{PerSecond: r.Responses, Burst: r.Burst, IPv4: r.IPv4Prefix, IPv6: r.IPv6Prefix}, now)
	if len(r.Exempt) > 0 {
		l.exempt = networksOf(r.Exempt)
	}
	return l
}

// limited is what becomes of a query whose network has had what it may have.
type limited uint8

const (
	limitedLogged  limited = iota // it goes on
	limitedSlipped                // it is answered with TC
	limitedDropped
	limitedKinds // how many there are
)

// String returns the action as metrics have it.
func (l limited) String() string { return [limitedKinds]string{"logged", "slipped", "dropped"}[l] }

// limits reports whether the network of the client of j has had what it may have, and what becomes of the query then.
func (l *limiter) limits(j *job) (limited, bool) {
	if j.asked.proven() {
		return 0, false
	}
	client := j.exchange.Query.Client.Addr()
	if l.exempt != nil {
		if _, ok := l.exempt.Find(client); ok {
			return 0, false
		}
	}
	switch {
	case l.rate.Take(client, j.start):
		return 0, false
	case l.logOnly:
		return limitedLogged, true
	case l.slip > 0 && (l.slip == 1 || rand.IntN(l.slip) == 0):
		return limitedSlipped, true
	}
	return limitedDropped, true
}

// limit ends a query that is limited: with the response to send, or with nil and true; or it lets it go on.
func (e *entrance) limit(j *job) (out []byte, done bool) {
	kind, ok := e.limiter.limits(j)
	if !ok {
		return nil, false
	}
	if t := e.counters.of(j); t != nil {
		t.limited[kind].Add(1)
	}
	switch kind {
	case limitedSlipped:
		j.asked.nsid = false // who forges addresses wins nothing by asking for it
		return e.sendToTCP(j), true
	case limitedDropped:
		if e.queries != nil {
			e.logQuery(j, nil, j.start)
		}
		return nil, true
	}
	return nil, false
}

// sendToTCP answers with TC and nothing else: over TCP no address is forged.
func (e *entrance) sendToTCP(j *job) []byte {
	r := &j.exchange.Response
	r.SetRCODE(j.scratch[:0], &j.exchange.Query, message.NOERROR)
	r.Message[2] |= message.FlagTC >> 8
	return e.finish(j)
}
