package upstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/host/message"
)

// LookupFunc looks a host name up. It returns the addresses in any order and how long they hold, or an error, which includes that there are none.
type LookupFunc func(ctx context.Context, host string) (addrs []netip.Addr, ttl time.Duration, err error)

const (
	// lookupTimeout bounds a look-up. New waits for the first one.
	lookupTimeout = 2 * time.Second
	// lookupRetry is the time to the next one after one that failed.
	lookupRetry = 5 * time.Second
	// A name is looked up again when its TTL is over, within these bounds: a TTL of 0 is no reason to ask all the time, and one of a week is no
	// reason to stay with a server that is gone. What the system looks up has no TTL, and counts as systemTTL.
	lookupLeast = 10 * time.Second
	lookupMost  = time.Hour
	systemTTL   = time.Minute
	// maxAliases bounds a chain of CNAME records.
	maxAliases = 16
)

var errNoAddress = errors.New("has no address")

// systemLookup asks the resolver of the operating system, hosts file and all.
func systemLookup(ctx context.Context, host string) ([]netip.Addr, time.Duration, error) {
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	return addrs, systemTTL, err
}

// bootstrap looks names up by asking servers whose addresses are known. It has a group for that, which lives as long as the look-up does: these are
// minutes apart, and what a group keeps open would be closed in between.
type bootstrap struct {
	name   string
	config Config
	env    Env
}

func newBootstrap(name string, c Config, env Env) *bootstrap {
	env.Log, env.Metrics, env.Lookup = slog.New(slog.DiscardHandler), nil, nil // what comes of it is told by who asked
	b := &bootstrap{name: name + ", bootstrap", config: Config{Servers: c.Bootstrap, Sources: c.Sources, ReadTimeout: lookupTimeout}, env: env}
	if first, _ := parseServer(c.Bootstrap[0], Auto); first.transport.encrypted() {
		b.config.CA = c.CA
	}
	return b
}

// lookup is a LookupFunc.
func (b *bootstrap) lookup(ctx context.Context, host string) ([]netip.Addr, time.Duration, error) {
	name, err := message.ParseName(host)
	if err != nil {
		return nil, 0, err
	}
	g, err := New(b.name, b.config, b.env)
	if err != nil {
		return nil, 0, err
	}
	running, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	group.Go(func() { _ = g.Run(running) }) // it returns nil
	defer group.Wait()
	defer cancel()

	types := [...]uint16{dns.TypeA, dns.TypeAAAA}
	var answers [len(types)]answerOf
	var asking sync.WaitGroup
	for i, qtype := range types {
		asking.Go(func() {
			g.survive(func(context.Context) { answers[i] = lookupType(ctx, g, name, qtype) })
		})
	}
	asking.Wait()
	ttl := lookupMost
	var addrs []netip.Addr
	var errs []error
	for _, a := range answers {
		if len(a.addrs) > 0 {
			addrs, ttl = append(addrs, a.addrs...), min(ttl, a.ttl)
		}
		if a.err != nil {
			errs = append(errs, a.err)
		}
	}
	if len(addrs) == 0 {
		return nil, 0, cmp.Or(errors.Join(errs...), errNoAddress)
	}
	return addrs, ttl, nil
}

// answerOf is what became of one question of a look-up.
type answerOf struct {
	addrs []netip.Addr
	ttl   time.Duration
	err   error
}

func lookupType(ctx context.Context, r message.Resolver, name []byte, qtype uint16) (a answerOf) {
	from, q := &message.Query{Flags: message.FlagRD}, new(message.Query)
	q.SetQuestion(from, nil, name, qtype, message.ClassIN)
	response, err := r.Resolve(ctx, q, nil)
	if err != nil {
		return answerOf{err: err}
	}
	if response.RCODE != message.NOERROR {
		return answerOf{err: errors.New(message.RCODEString(response.RCODE))}
	}
	m := new(dns.Msg)
	if err := m.Unpack(response.Message); err != nil {
		return answerOf{err: err}
	}
	return addressesIn(m)
}

// addressesIn returns the addresses of the name asked for, through its aliases. Records of other names are nobody's.
func addressesIn(m *dns.Msg) (a answerOf) {
	owner, ttl := m.Question[0].Name, uint32(lookupMost/time.Second)
	for range maxAliases {
		alias := ""
		for _, rr := range m.Answer {
			if !strings.EqualFold(rr.Header().Name, owner) {
				continue
			}
			var addr netip.Addr
			switch rr := rr.(type) {
			case *dns.CNAME:
				alias = rr.Target
			case *dns.A:
				addr, _ = netip.AddrFromSlice(rr.A.To4())
			case *dns.AAAA:
				addr, _ = netip.AddrFromSlice(rr.AAAA)
			default:
				continue
			}
			ttl = min(ttl, rr.Header().Ttl)
			if addr.IsValid() {
				a.addrs = append(a.addrs, addr)
			}
		}
		if alias == "" || len(a.addrs) > 0 {
			break
		}
		owner = alias
	}
	a.ttl = time.Duration(ttl) * time.Second
	return a
}

// hostName is a name that stands for servers, and what is known about it.
type hostName struct {
	name  string
	addrs []netip.Addr // from the last look-up that had some
	due   time.Time    // of the next
	wrong string       // what was wrong with the last one; empty if nothing was
}

// findNames looks all names up for the first time.
func (g *Group) findNames() {
	ctx, cancel := context.WithTimeout(context.Background(), lookupTimeout)
	defer cancel()
	var looking sync.WaitGroup
	for _, h := range g.names {
		looking.Go(func() {
			g.survive(func(context.Context) { g.find(ctx, h) })
		})
	}
	looking.Wait()
}

// find looks a name up, and reports whether its addresses have changed. One that is of no use any more keeps those that it had: a server moves less
// often than a resolver fails.
func (g *Group) find(ctx context.Context, h *hostName) (changed bool) {
	addrs, ttl, err := g.lookup(ctx, h.name)
	addrs = g.usable(addrs)
	if err == nil && len(addrs) == 0 {
		err = errNoAddress
	}
	if err != nil {
		h.due = time.Now().Add(lookupRetry)
		if text := err.Error(); text != h.wrong && !errors.Is(ctx.Err(), context.Canceled) { // once, and not because weir ends
			h.wrong = text
			g.log.Warn("server's name can't be looked up, keeping its addresses", "name", h.name, "addresses", h.addrs, "error", err)
		}
		return false
	}
	h.due = time.Now().Add(min(max(ttl, lookupLeast), lookupMost))
	changed = !slices.Equal(addrs, h.addrs)
	if changed || h.wrong != "" {
		g.log.Info("server's name was looked up", "name", h.name, "addresses", addrs)
	}
	h.addrs, h.wrong = addrs, ""
	return changed
}

// usable returns the addresses that a server may have, each once and always in the same order, IPv4 first: answers come in another order each
// time, which is no change.
func (g *Group) usable(addrs []netip.Addr) (usable []netip.Addr) {
	for _, addr := range addrs {
		if addr = addr.Unmap().WithZone(""); isServer(addr) && g.fromSources(addr) && !slices.Contains(usable, addr) {
			usable = append(usable, addr)
		}
	}
	slices.SortFunc(usable, netip.Addr.Compare)
	return usable
}

// fromSources reports whether a server at addr can be reached from the group's source addresses.
func (g *Group) fromSources(addr netip.Addr) bool {
	sources := g.dialer.sources
	return len(sources) == 0 || slices.ContainsFunc(sources, func(s *source) bool { return s.addr.Is4() == addr.Is4() })
}

// located returns the targets of Config.Servers, as far as they are known.
func (g *Group) located() (targets []target) {
	for _, l := range g.locations {
		if l.host == "" {
			targets = append(targets, l.target)
			continue
		}
		i := slices.IndexFunc(g.names, func(h *hostName) bool { return h.name == l.host })
		for _, addr := range g.names[i].addrs {
			t := l.target
			t.addr = netip.AddrPortFrom(addr, t.addr.Port())
			if err := g.allowed.check(t.addr); err != nil {
				g.log.Warn("server is not used", "name", l.host, "error", err)
			} else if !slices.ContainsFunc(targets, func(other target) bool { return other.addr == t.addr }) {
				targets = append(targets, t)
			}
		}
	}
	if len(targets) > g.allowed.MaxServers {
		g.log.Warn("names lead to more servers than allowed, using the first", "servers", len(targets), "limit", g.allowed.MaxServers)
		targets = targets[:g.allowed.MaxServers]
	}
	return targets
}

// followNames looks the names up again, each when it is due.
func (g *Group) followNames(ctx context.Context) {
	for {
		next := slices.MinFunc(g.names, func(a, b *hostName) int { return a.due.Compare(b.due) })
		select {
		case <-time.After(time.Until(next.due)):
		case <-ctx.Done():
			return
		}
		limited, cancel := context.WithTimeout(ctx, lookupTimeout)
		changed := g.find(limited, next)
		cancel()
		if changed {
			g.changing.Lock()
			g.configured = g.located()
			g.setServers(g.merge(g.nameservers))
			g.changing.Unlock()
		}
	}
}

// validateNames looks at the key of Config that is about names.
func (c Config) validateNames(locations []location, policy Policy, wrong func(key, format string, args ...any)) {
	if len(c.Bootstrap) == 0 {
		return
	}
	if len(c.Bootstrap) > policy.MaxServers {
		wrong("bootstrap", "has %d servers: want at most %d", len(c.Bootstrap), policy.MaxServers)
	}
	var targets []target
	for i, text := range c.Bootstrap {
		key := fmt.Sprintf("bootstrap[%d]", i)
		l, err := parseServer(text, Auto)
		switch {
		case err != nil:
			wrong(key, "%w", err)
			continue
		case l.host != "":
			wrong(key, "%q: is a name, which would have to be looked up itself: want an address", text)
			continue
		}
		if err := policy.check(l.addr); err != nil {
			wrong(key, "%w", err)
		}
		targets = append(targets, l.target)
	}
	if i := slices.IndexFunc(targets, func(t target) bool { return t.transport.encrypted() != targets[0].transport.encrypted() }); i > 0 {
		wrong("bootstrap", "some are asked in clear text and others are encrypted, %s and %s: want one or the other", targets[0].addr, targets[i].addr)
	}
	if len(locations) == len(c.Servers) && !slices.ContainsFunc(locations, func(l location) bool { return l.host != "" }) {
		wrong("bootstrap", "is for servers that are given by name, of which there are none: want none of it, or servers such as %q", "tls://dns.example")
	}
}
