package config

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/weirdns/weir/host/cache"
	"github.com/weirdns/weir/host/message"
	"github.com/weirdns/weir/host/upstream"
)

// policy is the table [policy], what the operator of the whole allows those who write the rest.
type policy struct {
	MaxServers    int      `koanf:"max_servers"`
	MinSources    int      `koanf:"min_sources"`
	MaxSources    int      `koanf:"max_sources"`
	RefuseServers []string `koanf:"refuse_servers"`
}

// reserved are addresses that clouds keep for themselves, and where forwarding rules must not lead.
var reserved = map[string][]netip.Prefix{
	// The resolvers of a VPC of Alibaba Cloud, 100.100.2.136 to .138 and .116 to .118, which the rules of its PrivateZone refuse as targets.
	"alibaba-cloud": {
		netip.MustParsePrefix("100.100.2.116/31"), netip.MustParsePrefix("100.100.2.118/32"),
		netip.MustParsePrefix("100.100.2.136/31"), netip.MustParsePrefix("100.100.2.138/32"),
	},
}

// policy checks the table, and adds to it where weir itself listens.
func (l *loader) policy(p policy) upstream.Policy {
	out := upstream.Policy{MaxServers: p.MaxServers, MinSources: p.MinSources, MaxSources: p.MaxSources}
	for _, n := range []struct {
		key   string
		value int
	}{{"max_servers", p.MaxServers}, {"min_sources", p.MinSources}, {"max_sources", p.MaxSources}} {
		if n.value < 1 || n.value > 1000 {
			l.add("policy."+n.key, fmt.Sprintf("is %d: write 1 to 1000", n.value))
		}
	}
	if out.MinSources > out.MaxSources {
		l.add("policy.min_sources", fmt.Sprintf("is %d, above max_sources, %d", out.MinSources, out.MaxSources))
	}
	for i, text := range p.RefuseServers {
		key := joinIndex("policy.refuse_servers", i)
		if prefixes, ok := reserved[text]; ok {
			out.Refuse = append(out.Refuse, prefixes...)
			continue
		}
		prefix, err := netip.ParsePrefix(text)
		if addr, aerr := netip.ParseAddr(text); aerr == nil {
			prefix, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		switch {
		case err != nil:
			l.add(key, fmt.Sprintf("%q is not a prefix: write for example \"192.0.2.0/24\", an address, or one of %s", text, list(slices.Sorted(maps.Keys(reserved)))))
		case prefix != prefix.Masked():
			l.add(key, fmt.Sprintf("%q has bits set behind its length: write %s", text, prefix.Masked()))
		default:
			out.Refuse = append(out.Refuse, prefix)
		}
	}
	for _, c := range l.file.Listeners {
		if addr, ok := listenAddr(c.Address); ok {
			out.ListenAddrs = append(out.ListenAddrs, addr)
		}
	}
	return out
}

// listenAddr is the address of a listener; ":53" is all addresses.
func listenAddr(text string) (netip.AddrPort, bool) {
	if strings.HasPrefix(text, ":") {
		text = "[::]" + text
	}
	addr, err := netip.ParseAddrPort(text)
	return netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()), err == nil
}

func (l *loader) privateZones(texts []string) (zones [][]byte) {
	first := make(map[string]int)
	for i, text := range texts {
		key := joinIndex("private_zones", i)
		zone, err := message.ParseName(text)
		if err != nil {
			l.add(key, err.Error())
			continue
		}
		if j, twice := first[string(zone)]; twice {
			l.add(key, fmt.Sprintf("%q is there twice, first in %s", text, l.position(joinIndex("private_zones", j))))
			continue
		}
		first[string(zone)] = i
		zones = append(zones, zone)
	}
	return zones
}

// checkAll looks at what the parts say, and at what they say about each other.
func (l *loader) checkAll() {
	f := l.file
	l.invalid("log", f.Log.Validate())
	l.invalid("process", f.Process.Validate())
	l.invalid("admin", f.Admin.Validate())
	if f.Budget <= 0 || f.Budget > maxBudget {
		l.add("budget", fmt.Sprintf("is %v: write a duration above 0s, and at most %v; best is a little less than the timeout of the clients, often 2s", f.Budget, maxBudget))
	}
	if f.Lameduck < 0 || f.Lameduck > maxDrain {
		l.add("lameduck", fmt.Sprintf("is %v: write 0s to %.0fm", f.Lameduck, maxDrain.Minutes()))
	}
	if f.Drain < 0 || f.Drain > maxDrain {
		l.add("drain", fmt.Sprintf("is %v: write 0s to %.0fm", f.Drain, maxDrain.Minutes()))
	}
	l.checkListeners()
	for i := range f.Tables {
		t := &f.Tables[i]
		l.invalid("table."+t.Name, t.Config.Validate())
		for _, path := range []*string{&t.Config.Zonefile, &t.Config.Names, &t.Config.Prefixes, &t.Config.Hostsfile} {
			*path = f.path(*path)
		}
	}
	for i := range f.Caches {
		c := &f.Caches[i]
		l.invalid("cache."+c.Name, c.Config.Validate())
		c.Config.Snapshot = f.path(c.Config.Snapshot)
	}
	l.checkUpstreams()
	for _, c := range f.Chains {
		base := "chain." + c.Name
		l.invalid(base, c.Config.Validate())
		for i, name := range c.Config.Filters {
			if name != "" { // else Validate has said so
				l.refer(joinIndex(base+".filters", i), "filter", name)
			}
		}
		if c.Config.Upstream != "" {
			l.refer(base+".upstream", "upstream", c.Config.Upstream)
		}
	}
	l.checkFilters()
}

func (l *loader) checkListeners() {
	f := l.file
	if len(f.Listeners) == 0 && !l.broken["listener"] {
		l.add("listener", "is missing: write at least one [[listener]], with address and chain")
	}
	type use struct {
		addr    netip.AddrPort
		network string
	}
	users := make(map[use]string)
	files := make(map[string]string) // by path
	for i, c := range f.Listeners {
		base := joinIndex("listener", i)
		l.invalid(base, c.Validate())
		if c.Chain != "" {
			l.refer(base+".chain", "chain", c.Chain)
		}
		for j, s := range c.Scope {
			if s.Chain != "" {
				l.refer(joinIndex(base+".scope", j)+".chain", "chain", s.Chain)
			}
		}
		for _, path := range []*string{&f.Listeners[i].Certificate, &f.Listeners[i].Key, &f.Listeners[i].ClientCA, &f.Listeners[i].CookieSecret} {
			*path = f.path(*path)
		}
		if path := c.SocketPath(); path != "" {
			if first, taken := files[path]; taken {
				l.add(base+".address", fmt.Sprintf("%s is the address of %s too, in %s: give each its own", c.Address, first, l.position(first+".address")))
			}
			files[path] = base
			continue
		}
		addr, ok := listenAddr(c.Address)
		if !ok || addr.Port() == 0 {
			continue
		}
		networks := c.Networks()
		for _, network := range slices.Sorted(maps.Keys(networks)) {
			if first, taken := users[use{addr, network}]; taken {
				l.add(base+".address", fmt.Sprintf("%s over %s is the address of %s too, in %s: give each its own",
					addr, network, first, l.position(first+".address")))
				break
			}
			users[use{addr, network}] = base
		}
	}
	if addr, ok := listenAddr(f.Admin.Address); ok {
		if first, taken := users[use{addr, "tcp"}]; taken {
			l.add("admin.address", fmt.Sprintf("%s over tcp is the address of %s too, in %s: give each its own", addr, first, l.position(first+".address")))
		}
	}
}

func (l *loader) checkUpstreams() {
	f := l.file
	if !slices.ContainsFunc(f.Caches, func(c Named[cache.Config]) bool { return c.Name == DefaultCache }) {
		c, _ := cache.Preset("")
		f.Caches = append(f.Caches, Named[cache.Config]{DefaultCache, c})
		l.declared["cache."+DefaultCache] = true
	}
	for i := range f.Upstreams {
		u := &f.Upstreams[i]
		base := "upstream." + u.Name
		l.invalid(base, u.Config.Validate(f.Policy))
		if len(u.Config.Servers) > 0 && u.Config.ResolvConf != "" {
			l.add(base+".resolv_conf", fmt.Sprintf("there are servers too, in %s: delete one of them, or make two upstreams", l.position(base+".servers")))
		}
		if u.Config.Cache == "" {
			u.Config.Cache = DefaultCache
		} else {
			l.refer(base+".cache", "cache", u.Config.Cache)
		}
		for _, path := range []*string{&u.Config.ResolvConf, &u.Config.CA, &u.Config.Certificate, &u.Config.Key} {
			*path = f.path(*path)
		}
	}
}

func (l *loader) checkFilters() {
	f := l.file
	for i := range f.Filters {
		c := &f.Filters[i]
		base := "filter." + c.Name
		l.invalid(base, c.Config.Validate())
		switch module := c.Config.Module; {
		case module == "":
			c.Config.Module = c.Name
		case strings.HasSuffix(module, ".wasm"):
			c.Config.Module = f.path(module)
		case !goodName(module):
			l.add(base+".module", fmt.Sprintf("%q is neither the name of a module that comes with weir nor a path: a path ends in .wasm", module))
		}
	}
}

// refer checks that the value of a key names something.
func (l *loader) refer(path, section, name string) {
	if l.declared[section+"."+name] {
		return
	}
	known := l.file.names(section)
	if section == "cache" && !slices.Contains(known, DefaultCache) {
		known = append(known, DefaultCache)
	}
	l.add(path, Unknown(section, name, known))
}

// warn looks for what is defined and never used.
func (l *loader) warn() {
	f := l.file
	used := make(map[string]bool)
	for _, c := range f.Listeners {
		used["chain."+c.Chain] = true
		for _, s := range c.Scope {
			used["chain."+s.Chain] = true
		}
	}
	for _, c := range f.Chains {
		used["upstream."+c.Config.Upstream] = true
		for _, name := range c.Config.Filters {
			used["filter."+name] = true
		}
	}
	for _, u := range f.Upstreams {
		used["cache."+u.Config.Cache] = true
	}
	for _, c := range f.Filters {
		mentions(c.Config.Config, used)
	}
	for _, section := range []string{"table", "cache", "upstream", "chain", "filter"} {
		for _, name := range f.names(section) {
			if path := section + "." + name; !used[path] {
				f.Warnings = append(f.Warnings, f.Error(path, "nothing uses it"))
			}
		}
	}
	private := slices.ContainsFunc(f.Upstreams, func(u Named[upstream.Config]) bool { return u.Config.Private })
	if len(f.PrivateZones) > 0 && !private {
		f.Warnings = append(f.Warnings, f.Error("private_zones", "no upstream has private = true, so that queries for these zones are all refused, unless a filter answers"))
	}
}

// names returns the names that a section of the file has, in its order.
func (f *File) names(section string) []string {
	if p := f.root.keys[section]; p != nil {
		return p.names()
	}
	return nil
}

// mentions marks what a filter's configuration could name. Which strings are names is in the schema of the filter, so that any string counts:
// better no warning than a wrong one.
func mentions(v any, used map[string]bool) {
	switch v := v.(type) {
	case string:
		used["upstream."+v], used["table."+v] = true, true
	case []any:
		for _, e := range v {
			mentions(e, used)
		}
	case map[string]any:
		for _, e := range v {
			mentions(e, used)
		}
	}
}
