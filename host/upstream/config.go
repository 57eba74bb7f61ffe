package upstream

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/host/message"
)

// Config is the configuration of one group, [upstream.NAME] in the file. A zero field gets the default of the preset, so that
// the zero value with servers in it is good for use. Building a Config opens nothing and can't fail; Validate checks it.
type Config struct {
	// Servers are asked in the order that Policy gives: "ADDRESS", "ADDRESS:PORT", "[IPV6]:PORT", the port 53 unless given.
	// A prefix udp:// or tcp:// sets the transport of this one server. "tls://ADDRESS[:PORT][#NAME]" is DNS over TLS (RFC 7858), the port
	// 853 unless given: the certificate has to be for NAME, or without one for the address. "https://ADDRESS[:PORT][/PATH][#NAME]" is DNS over
	// HTTPS (RFC 8484), by HTTP/2, the port 443 and the path /dns-query unless given. "quic://ADDRESS[:PORT][#NAME]" is DNS over QUIC
	// (RFC 9250), the port 853 unless given. A host name can be in the place of ADDRESS, and is looked up; then #NAME
	// is that name, unless given. At most Policy.MaxServers. Those of one group are all asked in clear text, or none: a query that fails over TLS is not to go out for all to see.
	Servers []string `koanf:"servers"`
	// Bootstrap are the servers that are asked for the addresses of Servers that are given by name: "ADDRESS" and so on, as there, but no
	// names. Without any it is the system's resolver. Names are looked up again when their TTL is over; when that fails, the servers
	// stay as they were.
	Bootstrap []string `koanf:"bootstrap"`
	// ResolvConf is the path of a file in the format of resolv.conf whose nameserver lines are the servers, in the place of Servers: a
	// file of weir has one of the two. It is watched, and an emptied, broken or removed file leaves the servers as they were. The options timeout and
	// attempts in it are ignored: they are for stub resolvers, and weir has a deadline for each query.
	ResolvConf string `koanf:"resolv_conf"`
	// Transport is that of servers without a prefix. "auto": UDP, and TCP when an answer does not fit, or when somebody seems to forge answers;
	// "udp": never TCP, a truncated answer goes to the client as it is; or "tcp": persistent connections, many queries in each.
	Transport string `koanf:"transport"`
	// Policy chooses among the servers that are up: "random", "round_robin", "sequential" (the first that is up), or
	// "fastest" (the lowest smoothed round trip time, with now and then another one to see whether it got better).
	Policy string `koanf:"policy"`
	// MaxFails is how many tries in a row without a response make a server count as down. 0 means the default, 2; -1 means
	// that it never does.
	MaxFails int `koanf:"max_fails"`
	// Expire is how long an idle connection is kept. Default 10s.
	Expire time.Duration `koanf:"expire"`
	// HealthCheck is the time between two probes of a server that is down. Default 1s.
	HealthCheck time.Duration `koanf:"health_check"`
	// HealthyRCODEs are the RCODEs with which a server is healthy. By default any response will do, SERVFAIL too: a server that
	// says something is there. With a list, other RCODEs count as fails, in probes and for queries.
	HealthyRCODEs []string `koanf:"healthy_rcodes"`
	// Probe is the query that a probe asks: NAME TYPE, and "rd" to have RD set. Default ". NS".
	Probe string `koanf:"probe"`
	// MaxConcurrent limits the queries that wait for this group, so that servers that say nothing don't take the room of those that do. 0 means
	// the default, 1024, a quarter of what a listener waits for; -1 means that there is no limit. One client gets three quarters of it at most. Queries that still
	// wait for the group of the same name before a reload count as well, for ReadTimeout at most: it is the same servers' room, as a rule.
	MaxConcurrent int `koanf:"max_concurrent"`
	// OverLimit is what a query above MaxConcurrent gets: "refused", a REFUSED response with an Extended DNS Error (the
	// default), or "stale", which counts as no response, so that a cache in front answers with stale data if it has some.
	OverLimit string `koanf:"over_limit"`
	// ReadTimeout limits the wait for one query, over all its tries. The deadline of the query holds when it is earlier.
	// Default 2s.
	ReadTimeout time.Duration `koanf:"read_timeout"`
	// DialTimeout limits the opening of a connection, with the handshake of TLS. The time really waited adapts to what a server takes. Default 1s.
	DialTimeout time.Duration `koanf:"dial_timeout"`
	// CA is the path of a PEM file with the certificates that those of encrypted servers have to lead to. Without it they are the system's.
	CA string `koanf:"ca"`
	// Pins are keys, one of which has to be in the chain of an encrypted server's certificate, which has to be valid all the same:
	// "sha256/BASE64", the hash of a SubjectPublicKeyInfo (RFC 7858 section 4.2). Without any, a valid certificate is enough.
	Pins []string `koanf:"pin"`
	// Certificate and Key are the paths of PEM files with weir's own certificate, for encrypted servers that ask for one.
	Certificate string `koanf:"certificate"`
	Key         string `koanf:"key"`
	// Sources are the local addresses from which servers are asked, 2 to 6 of them, so that one may go. Without any the system
	// chooses. An address that the host does not have is passed over for a while when that shows, and logged.
	Sources []string `koanf:"sources"`
	// Preset names a set of defaults: "" for weir's own, "coredns" for those of CoreDNS's forward, "nodelocal" for the same
	// over TCP, as NodeLocal DNSCache has it.
	Preset string `koanf:"preset"`
	// AllDown is what happens when all servers are down: "spray", ask any of them all the same (the default, for a probe may
	// be wrong), or "fail", an error at once.
	AllDown string `koanf:"all_down"`
	// Case is "keep": the QNAME goes out as the client wrote it, or "random": in random case, which a forger has to guess
	// (draft-vixie-dnsext-dns0x20). Either way a response must have it to the letter.
	Case string `koanf:"case"`
	// ClientSubnet is what servers hear of the network of a client (RFC 7871): "strip", nothing (the default); "set PREFIX", always that
	// one, such as a public prefix of the place that answers should be for; 0.0.0.0/0 asks them not to add one of their own; or "forward", that of each
	// client, as it says itself or else by its address, up to /24 and /56, or what is said with "forward /20 /48".
	ClientSubnet string `koanf:"client_subnet"`
	// Cookies has servers that are asked over UDP see a cookie of weir's own, and give one back (RFC 7873): 64 bits more that a forger has to guess. Those that
	// don't know cookies ignore them. Default false.
	Cookies bool `koanf:"cookies"`
	// UDPGSO is "on" (the default): queries over UDP to one server that are sent together pass through the system as one, which costs it less (generic segmentation offload, where it
	// knows that); or "off", each goes its way alone, and who captures packets on this machine sees them so.
	UDPGSO string `koanf:"udp_gso"`
	// Trusted has clients see the AD bit of responses, by which the servers say that they have validated them (RFC 4035 section 3.2.3). Only
	// encrypted servers can be trusted: anybody on the way could set a bit in clear text.
	Trusted bool `koanf:"trusted"`
	// Norecurse is what becomes of queries without RD: "refuse" (the default), since what a cache answers to them tells anybody what others
	// have asked before, or "forward". The host sees to it.
	Norecurse string `koanf:"norecurse"`
	// SpecialNames is what becomes of queries for names that RFCs set aside, see package special: "auto" (the default), weir answers for those that nobody
	// has, and servers that the public can reach are not asked for the zones that each network has for itself; "answer", weir answers for all of them;
	// or "forward", the servers are asked for all but resolver.arpa. The host sees to it.
	SpecialNames string `koanf:"special_names"`
	// ANY is what becomes of queries of type ANY over UDP: "forward" (the default), or "minimal", weir answers with an HINFO record (RFC 8482 section 4.2),
	// which is of no use to who wants to have large answers sent to somebody else. The host sees to it.
	ANY string `koanf:"any"`
	// Private marks the servers as part of a private network. The host sees to what that means.
	Private bool `koanf:"private"`
	// Cache names the cache in front of the group. The host sees to it.
	Cache string `koanf:"cache"`
}

// The values of Config.Norecurse.
const (
	NorecurseRefuse  = "refuse"
	NorecurseForward = "forward"
)

// The values of Config.UDPGSO.
const (
	UDPGSOOff = "off"
	UDPGSOOn  = "on"
)

// The values of Config.SpecialNames.
const (
	SpecialAuto    = "auto"
	SpecialAnswer  = "answer"
	SpecialForward = "forward"
)

// The values of Config.ANY.
const (
	ANYForward = "forward"
	ANYMinimal = "minimal"
)

// presets are the defaults. Those of CoreDNS are from its plugin/forward and plugin/pkg/proxy.
var presets = map[string]Config{
	"": {
		Transport: "auto", Policy: "random", MaxFails: 2, MaxConcurrent: 1024, Expire: 10 * time.Second,
		HealthCheck: time.Second, // a server that is down gets at most one packet a second
		Probe:       ". NS", OverLimit: "refused", ReadTimeout: 2 * time.Second,
		DialTimeout: time.Second, // a handshake that takes longer than that comes too late for the query
		AllDown:     "spray", Case: "keep",
	},
	"coredns": {
		Transport: "auto", Policy: "random", MaxFails: 2, MaxConcurrent: -1, Expire: 10 * time.Second, HealthCheck: 500 * time.Millisecond,
		Probe: ". NS", OverLimit: "refused", ReadTimeout: 2 * time.Second, DialTimeout: 30 * time.Second, AllDown: "spray", Case: "keep",
	},
	"nodelocal": {
		Transport: "tcp", Policy: "random", MaxFails: 2, MaxConcurrent: -1, Expire: 10 * time.Second, HealthCheck: 500 * time.Millisecond,
		Probe: ". NS", OverLimit: "refused", ReadTimeout: 2 * time.Second, DialTimeout: 30 * time.Second, AllDown: "spray", Case: "keep",
	},
}

// WithDefaults returns c with the defaults of its preset in the fields that are zero. An unknown preset counts as none.
func (c Config) WithDefaults() Config {
	d, ok := presets[c.Preset]
	if !ok {
		d = presets[""]
	}
	fill(&c.Transport, d.Transport)
	fill(&c.Policy, d.Policy)
	fill(&c.MaxFails, d.MaxFails)
	fill(&c.MaxConcurrent, d.MaxConcurrent)
	fill(&c.Expire, d.Expire)
	fill(&c.HealthCheck, d.HealthCheck)
	fill(&c.Probe, d.Probe)
	fill(&c.OverLimit, d.OverLimit)
	fill(&c.ReadTimeout, d.ReadTimeout)
	fill(&c.DialTimeout, d.DialTimeout)
	fill(&c.AllDown, d.AllDown)
	fill(&c.Case, d.Case)
	fill(&c.ClientSubnet, "strip")
	fill(&c.Norecurse, NorecurseRefuse)
	fill(&c.SpecialNames, SpecialAuto)
	fill(&c.UDPGSO, UDPGSOOn)
	fill(&c.ANY, ANYForward)
	return c
}

func fill[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Policy is what the operator of the whole weir allows all groups. The zero value gets the limits of [DefaultPolicy] and refuses
// nothing.
type Policy struct {
	MaxServers  int              // servers of a group
	MinSources  int              // least number of sources of a group, when it has some: one alone is a single point of failure
	MaxSources  int              // largest number of them
	Refuse      []netip.Prefix   // servers in these are refused
	ListenAddrs []netip.AddrPort // weir's own listeners, which no server may be: queries would go round for ever
}

// DefaultPolicy has the limits of Alibaba Cloud DNS PrivateZone, which are sensible ones.
var DefaultPolicy = Policy{MaxServers: 6, MinSources: 2, MaxSources: 6}

func (p Policy) withDefaults() Policy {
	fill(&p.MaxServers, DefaultPolicy.MaxServers)
	fill(&p.MinSources, DefaultPolicy.MinSources)
	fill(&p.MaxSources, DefaultPolicy.MaxSources)
	return p
}

// check says what is against a server at this address, or nil.
func (p Policy) check(server netip.AddrPort) error {
	for _, prefix := range p.Refuse {
		if prefix.Contains(server.Addr().WithZone("")) {
			return fmt.Errorf("%s is in %s, which is refused", server, prefix)
		}
	}
	for _, listener := range p.ListenAddrs {
		// A listener on the unspecified address has all of the host's. Which these are can change; loopback is one for sure.
		same := listener.Addr().Unmap() == server.Addr() || listener.Addr().IsUnspecified() && server.Addr().IsLoopback()
		if same && listener.Port() == server.Port() {
			return fmt.Errorf("%s is a listener of weir itself: queries would go round in a loop", server)
		}
	}
	return nil
}

// KeyError is an error in one key of a Config.
type KeyError struct {
	Key string // below the table of the group, such as "servers[2]"
	Err error
}

// Error returns "KEY: what is wrong".
func (e *KeyError) Error() string { return e.Key + ": " + e.Err.Error() }

// Unwrap returns what is wrong with the key.
func (e *KeyError) Unwrap() error { return e.Err }

// Validate returns nil, or all that is wrong as one error that joins a [*KeyError] for each. It opens no file.
func (c Config) Validate(policy Policy) error {
	var errs []error
	wrong := func(key, format string, args ...any) {
		errs = append(errs, &KeyError{key, fmt.Errorf(format, args...)})
	}
	if _, ok := presets[c.Preset]; !ok {
		wrong("preset", "%q: want coredns or nodelocal", c.Preset)
	}
	c, policy = c.WithDefaults(), policy.withDefaults()
	oneOf := func(key, value string, allowed ...string) {
		if !slices.Contains(allowed, value) {
			wrong(key, "%q: want one of %s", value, strings.Join(allowed, ", "))
		}
	}
	if slices.Contains(encryptedSchemes, c.Transport) {
		wrong("transport", "%q: want one of auto, udp, tcp; encryption is written with each server, such as %q", c.Transport, "tls://192.0.2.1#dns.example")
	} else {
		oneOf("transport", c.Transport, "auto", "udp", "tcp")
	}
	oneOf("policy", c.Policy, policyNames...)
	oneOf("over_limit", c.OverLimit, "refused", "stale")
	oneOf("all_down", c.AllDown, "spray", "fail")
	oneOf("case", c.Case, "keep", "random")
	oneOf("norecurse", c.Norecurse, NorecurseRefuse, NorecurseForward)
	oneOf("udp_gso", c.UDPGSO, UDPGSOOn, UDPGSOOff)
	oneOf("special_names", c.SpecialNames, SpecialAuto, SpecialAnswer, SpecialForward)
	oneOf("any", c.ANY, ANYForward, ANYMinimal)
	for _, d := range []struct {
		key   string
		value time.Duration
	}{{"expire", c.Expire}, {"health_check", c.HealthCheck}, {"read_timeout", c.ReadTimeout}, {"dial_timeout", c.DialTimeout}} {
		if d.value < 10*time.Millisecond || d.value > time.Hour {
			wrong(d.key, "%v: want 10ms to 1h", d.value)
		}
	}
	if c.MaxFails < -1 {
		wrong("max_fails", "%d: want a number of tries, or -1 for a server that never counts as down", c.MaxFails)
	}
	if c.MaxConcurrent < -1 {
		wrong("max_concurrent", "%d: want a number of queries, or -1 for no limit", c.MaxConcurrent)
	}
	for i, name := range c.HealthyRCODEs {
		if _, err := parseRCODE(name); err != nil {
			wrong(fmt.Sprintf("healthy_rcodes[%d]", i), "%w", err)
		}
	}
	if _, err := parseProbe(c.Probe); err != nil {
		wrong("probe", "%w", err)
	}

	if len(c.Sources) > 0 && (len(c.Sources) < policy.MinSources || len(c.Sources) > policy.MaxSources) {
		wrong("sources", "has %d addresses: want %d to %d, or none", len(c.Sources), policy.MinSources, policy.MaxSources)
	}
	var sources []netip.Addr
	for i, text := range c.Sources {
		addr, err := parseSource(text)
		switch {
		case err != nil:
			wrong(fmt.Sprintf("sources[%d]", i), "%w", err)
		case slices.Contains(sources, addr):
			wrong(fmt.Sprintf("sources[%d]", i), "%s is there twice", addr)
		}
		sources = append(sources, addr)
	}

	if len(c.Servers) == 0 && c.ResolvConf == "" {
		wrong("servers", "is empty: want at least one server, or resolv_conf")
	}
	if len(c.Servers) > policy.MaxServers {
		wrong("servers", "has %d servers: want at most %d", len(c.Servers), policy.MaxServers)
	}
	var locations []location
	for i, text := range c.Servers {
		key := fmt.Sprintf("servers[%d]", i)
		l, err := parseServer(text, Auto)
		if err != nil {
			wrong(key, "%w", err)
			continue
		}
		if slices.ContainsFunc(locations, func(other location) bool { return other.String() == l.String() }) {
			wrong(key, "%s is there twice", l)
		}
		locations = append(locations, l)
		if l.host != "" {
			continue // what it leads to is looked at when that is known
		}
		if err := policy.check(l.addr); err != nil {
			wrong(key, "%w", err)
		}
		if len(sources) > 0 && !slices.ContainsFunc(sources, func(s netip.Addr) bool { return s.Is4() == l.addr.Addr().Is4() }) {
			wrong(key, "%s can't be reached from sources, which are all of the other IP version", l)
		}
	}
	c.validateTLS(locations, wrong)
	c.validateNames(locations, policy, wrong)
	c.validateEDNS(locations, wrong)
	return errors.Join(errs...)
}

func parseSource(text string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(text)
	if err != nil || addr.IsUnspecified() || addr.IsMulticast() {
		return addr, fmt.Errorf("%q: want an address of this host, without a port", text)
	}
	return addr.Unmap(), nil
}

// parseRCODE reads the mnemonic of an RCODE.
func parseRCODE(name string) (uint16, error) {
	for rcode := range uint16(message.BADCOOKIE + 1) {
		if message.RCODEString(rcode) == strings.ToUpper(name) {
			return rcode, nil
		}
	}
	return 0, fmt.Errorf("%q is not an RCODE: want a name such as NOERROR or SERVFAIL", name)
}

// parseProbe makes the query of a probe.
func parseProbe(text string) (*message.Query, error) {
	words := strings.Fields(text)
	if len(words) < 2 || len(words) > 3 || len(words) == 3 && words[2] != "rd" {
		return nil, fmt.Errorf("%q: want NAME TYPE or NAME TYPE rd", text)
	}
	name, err := message.ParseName(words[0])
	if err != nil {
		return nil, err
	}
	qtype, ok := dns.StringToType[strings.ToUpper(words[1])]
	if !ok {
		return nil, fmt.Errorf("%q is not a type", words[1])
	}
	from := &message.Query{}
	if len(words) == 3 {
		from.Flags = message.FlagRD
	}
	query := new(message.Query)
	if !query.SetQuestion(from, nil, name, qtype, message.ClassIN) {
		return nil, fmt.Errorf("%q is not a name", words[0])
	}
	return query, nil
}
