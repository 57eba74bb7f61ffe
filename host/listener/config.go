package listener

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weirdns/weir/host/message"
)

// Defaults of Config, each with its reason.
const (
	// DefaultMaxUDPSize keeps responses clear of IP fragments, RFC 9715 section 3 and the DNS flag day of 2020.
	DefaultMaxUDPSize = 1232
	// DefaultTCPIdleTimeout is long enough for the next page of a browser. RFC 7766 section 6.2.3 wants "the order of a few seconds".
	DefaultTCPIdleTimeout = 10 * time.Second
	// DefaultTCPMaxClients costs about 10 MB when all of them are idle.
	DefaultTCPMaxClients = 1024
	// DefaultTCPMaxPerClient leaves room for others, and is enough for a resolver behind which a whole site sits.
	DefaultTCPMaxPerClient = 128
	// DefaultTCPMaxInFlight is what one connection may have in flight before it has to wait.
	DefaultTCPMaxInFlight = 64
	// DefaultPath is what RFC 8484 has in its examples, and what everybody took from there.
	DefaultPath = "/dns-query"
	// DefaultMaxInFlight is 2,500 cache misses a second while an upstream is dead and each query waits out its budget.
	DefaultMaxInFlight = 4096
)

// Config is one [[listener]] of the configuration file. Zero stands for the default, see [Config.WithDefaults].
type Config struct {
	// Address is where to listen: an IP address and a port, such as "127.0.0.1:53", "[::1]:53", or ":53" for all addresses of both
	// families. Port 0 lets the system choose, which is for tests. Or it is "unix:" and the absolute path of a Unix-domain socket, a stream with
	// messages as on TCP, whose clients have no address: they are in no scope, and TCPMaxPerClient does not count for them.
	Address string `koanf:"address"`
	// Protocols are the transports offered at Address: "udp" and "tcp", which are the default, since a DNS server that can't do TCP
	// can't give large answers (RFC 7766 section 5); and encrypted "tls" (RFC 7858), "https" (RFC 8484, with HTTP/1.1, HTTP/2 and HTTP/3) and "quic" (RFC 9250).
	// "udp", "quic" and "https" can't share a port, nor can "tcp", "tls" and "https".
	Protocols []string `koanf:"protocols"`
	// Certificate and Key are files in PEM form: the certificate of the server with those that lead to its authority, and its private
	// key. What is encrypted needs them. When they change, connections that come from then on get the new ones.
	Certificate string `koanf:"certificate"`
	Key         string `koanf:"key"`
	// ClientCA is a file with certificates of authorities, in PEM form. With it, clients must have a certificate that one of these signed.
	ClientCA string `koanf:"client_ca"`
	// Path is that of the URL for "https"; the default is "/dns-query".
	Path string `koanf:"path"`
	// ProxyProtocol are networks of load balancers, prefixes or addresses, which say in whose name they connect or send with the PROXY protocol,
	// version 2. They have to: what comes from them without is closed or ignored. Others need not, and can't. It is not for QUIC.
	ProxyProtocol []string `koanf:"proxy_protocol"`
	// NSID is what the server calls itself in responses to queries that ask for it (RFC 5001), at most 64 octets; empty, it has no name.
	NSID string `koanf:"nsid"`
	// Cookies are what becomes of DNS cookies (RFC 7873): "on" (the default) answers those who send one; "off" ignores them; and with "require" nobody gets
	// an answer over UDP who has not shown by a server cookie that the address is its own: BADCOOKIE has clients with cookies try again with theirs, and TC
	// sends the others to TCP.
	Cookies string `koanf:"cookies"`
	// CookieSecret is a file with the secret that server cookies are made with, for servers that share an address (RFC 9018 section 4.4); see [cookie.Open].
	// Without it, a process has its own.
	CookieSecret string `koanf:"cookie_secret"`
	// UDPGSO is "on" (the default): responses over UDP to one client that are sent together pass through the system as one, which costs it less (generic segmentation offload, where it
	// knows that); or "off", each goes its way alone, and who captures packets on this machine sees them so. QUIC, of which a capture tells nothing, is not meant.
	UDPGSO string `koanf:"udp_gso"`
	// RateLimit bounds the responses over UDP to each network of clients.
	RateLimit RateLimit `koanf:"rate_limit"`
	// SocketMode are the permissions of the file of a Unix-domain socket, in octal; the default is "0660". Who may write to it may ask.
	SocketMode string `koanf:"socket_mode"`
	// SocketOwner is its owner: USER, USER:GROUP or :GROUP, names or numbers. The default is who runs weir.
	SocketOwner string `koanf:"socket_owner"`
	// Chain is the name of the chain for clients in no scope.
	Chain string `koanf:"chain"`
	// Scope selects other chains by the address of the client, or the path.
	Scope []ScopeConfig `koanf:"scope"`

	// MaxUDPSize is the largest response over UDP in octets, 512 to 4096, whatever the client offers.
	MaxUDPSize int `koanf:"max_udp_size"`
	// MaxInFlight bounds the queries that are being waited for, for UDP and for TCP each. A UDP query above it gets SERVFAIL at once,
	// a TCP connection waits before its next query is read.
	MaxInFlight int `koanf:"max_in_flight"`
	// TCPIdleTimeout is when a connection without queries is closed, 100 ms to 10 minutes. This and the following are for what is on top of
	// TCP, too. QUIC has 30 s.
	TCPIdleTimeout time.Duration `koanf:"tcp_idle_timeout"`
	// TCPMaxClients bounds the connections, those over QUIC included. When there are as many, the one that has been idle longest makes room for the next.
	TCPMaxClients int `koanf:"tcp_max_clients"`
	// TCPMaxPerClient bounds the connections from one address, in the same way.
	TCPMaxPerClient int `koanf:"tcp_max_per_client"`
	// TCPMaxInFlight bounds the queries of one connection that are being waited for. Its next query is read when one is answered. Over HTTPS and
	// QUIC it is 100.
	TCPMaxInFlight int `koanf:"tcp_max_in_flight"`
}

// The values of Config.Cookies.
const (
	CookiesOff     = "off"
	CookiesOn      = "on"
	CookiesRequire = "require"
)

// The values of Config.UDPGSO.
const (
	UDPGSOOff = "off"
	UDPGSOOn  = "on"
)

// maxNSID leaves room for the answer: the name is taken off what a response over UDP may have.
const maxNSID = 64

// ScopeConfig is one [[listener.scope]]: clients that get a chain of their own. The longest prefix that holds the client's address
// counts, whatever the order; but scopes with a name of the client count before those with the path of a query, and these before all others.
type ScopeConfig struct {
	// Clients are prefixes such as "10.0.0.0/8", or single addresses. With a path or names, none means all.
	Clients []string `koanf:"clients"`
	// Chain is the name of the chain.
	Chain string `koanf:"chain"`
	// Path is that of the URL, over "https" only. The listener answers at each path that a scope has, and at its own.
	Path string `koanf:"path"`
	// Names are names in the certificates of clients: DNS names of theirs, or common names. They are for listeners with a client_ca.
	Names []string `koanf:"names"`
}

// protocol is what a listener can offer.
type protocol struct {
	name      string
	networks  []string // whose port it takes
	encrypted bool
}

var protocols = []protocol{
	{"udp", []string{"udp"}, false},
	{"tcp", []string{"tcp"}, false},
	{"tls", []string{"tcp"}, true},
	{"https", []string{"tcp", "udp"}, true},
	{"quic", []string{"udp"}, true},
}

// protocolOf returns the protocol with a name, nil for none.
func protocolOf(name string) *protocol {
	for i := range protocols {
		if protocols[i].name == name {
			return &protocols[i]
		}
	}
	return nil
}

// Networks returns which ports the listener takes, "udp" and "tcp", and by which of its protocols.
func (c Config) Networks() map[string]string {
	taken := make(map[string]string)
	for _, name := range c.WithDefaults().Protocols {
		if p := protocolOf(name); p != nil {
			for _, network := range p.networks {
				taken[network] = name
			}
		}
	}
	return taken
}

// Encrypted reports whether one of the protocols is.
func (c Config) Encrypted() bool {
	return slices.ContainsFunc(c.Protocols, func(name string) bool {
		p := protocolOf(name)
		return p != nil && p.encrypted
	})
}

// WithDefaults returns c with every zero replaced by its default. c itself is unchanged.
func (c Config) WithDefaults() Config {
	if len(c.Protocols) == 0 {
		c.Protocols = []string{"udp", "tcp"}
		if c.isUnix() {
			c.Protocols = []string{"tcp"}
		}
	}
	if slices.Contains(c.Protocols, "https") {
		orDefault(&c.Path, DefaultPath)
	}
	orDefault(&c.Cookies, CookiesOn)
	orDefault(&c.UDPGSO, UDPGSOOn)
	c.RateLimit = c.RateLimit.withDefaults()
	orDefault(&c.MaxUDPSize, DefaultMaxUDPSize)
	orDefault(&c.MaxInFlight, DefaultMaxInFlight)
	orDefault(&c.TCPIdleTimeout, DefaultTCPIdleTimeout)
	orDefault(&c.TCPMaxClients, DefaultTCPMaxClients)
	orDefault(&c.TCPMaxPerClient, min(DefaultTCPMaxPerClient, c.TCPMaxClients))
	orDefault(&c.TCPMaxInFlight, DefaultTCPMaxInFlight)
	return c
}

func orDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// Validate reports everything that is wrong with c, defaults taken into account. Each of the joined errors begins with the key at fault
// and a colon, such as "scope[1].clients[0]: ...". A place such as {scope[0].clients[1]} in the text stands for another key. It does not look
// at whether the chains exist.
func (c Config) Validate() error {
	c = c.WithDefaults()
	var errs []error
	bad := func(key, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %w", key, fmt.Errorf(format, args...)))
	}
	c.validateSocket(bad)
	if _, err := c.addrPort(); err != nil && !c.isUnix() {
		bad("address", "%w", err)
	}
	c.validateProtocols(bad)
	if c.Chain == "" {
		bad("chain", "is missing: name the chain for the queries that come here")
	}
	for i, text := range c.ProxyProtocol {
		if _, err := parsePrefix(text); err != nil {
			bad(fmt.Sprintf("proxy_protocol[%d]", i), "%w", err)
		}
	}
	if len(c.ProxyProtocol) > 0 && slices.Contains(c.Protocols, "quic") {
		bad("proxy_protocol", "is not for \"quic\", whose connections have no place for it: write a [[listener]] for that")
	}
	c.validateOptions(bad)
	c.validateUDPGSO(bad)
	c.validateRateLimit(bad)
	within := func(key string, value, least, most int) {
		if value < least || value > most {
			bad(key, "is %d: write %d to %d", value, least, most)
		}
	}
	within("max_udp_size", c.MaxUDPSize, 512, 4096)
	within("max_in_flight", c.MaxInFlight, 1, 1<<20)
	within("tcp_max_clients", c.TCPMaxClients, 1, 1<<20)
	within("tcp_max_per_client", c.TCPMaxPerClient, 1, c.TCPMaxClients)
	within("tcp_max_in_flight", c.TCPMaxInFlight, 1, 1000)
	if c.TCPIdleTimeout < 100*time.Millisecond || c.TCPIdleTimeout > 10*time.Minute {
		bad("tcp_idle_timeout", "is %v: write \"100ms\" to \"10m\"", c.TCPIdleTimeout)
	}
	c.validateScopes(bad)
	return errors.Join(errs...)
}

func (c Config) validateProtocols(bad func(key, format string, args ...any)) {
	var names []string
	for _, p := range protocols {
		names = append(names, strconv.Quote(p.name))
	}
	known := strings.Join(names[:len(names)-1], ", ") + " or " + names[len(names)-1]
	seen := map[string]bool{}
	owner := map[string]string{} // of a port, by network
	for _, name := range c.Protocols {
		p := protocolOf(name)
		switch {
		case p == nil:
			bad("protocols", "%q is not a protocol: write %s", name, known)
			continue
		case seen[name]:
			bad("protocols", "%q is there twice", name)
			continue
		}
		seen[name] = true
		for _, network := range p.networks {
			if first, taken := owner[network]; taken {
				bad("protocols", "%q and %q can't share a port of %s: write a [[listener]] for each, with its own port", first, name, strings.ToUpper(network))
				break
			}
			owner[network] = name
		}
	}
	for _, file := range []struct{ key, path, what string }{
		{"certificate", c.Certificate, "a file with its certificate"}, {"key", c.Key, "a file with the private key of its certificate"}, {"client_ca", c.ClientCA, ""},
	} {
		switch encrypted := c.Encrypted(); {
		case encrypted && file.path == "" && file.what != "":
			bad(file.key, "is missing: name %s, in PEM form", file.what)
		case !encrypted && file.path != "":
			bad(file.key, "is of no use: none of the protocols is encrypted; delete it, or add \"tls\"")
		}
	}
}

// validateOptions looks at the keys that are about EDNS options. c has its defaults.
func (c Config) validateOptions(bad func(key, format string, args ...any)) {
	if len(c.NSID) > maxNSID {
		bad("nsid", "has %d octets: write at most %d", len(c.NSID), maxNSID)
	}
	switch c.Cookies {
	case CookiesOff, CookiesOn, CookiesRequire:
	default:
		bad("cookies", "%q: write \"on\", \"off\" or \"require\"", c.Cookies)
	}
	if c.Cookies == CookiesOff && c.CookieSecret != "" {
		bad("cookie_secret", "is of no use: {cookies} is \"off\"")
	}
}

// validateUDPGSO looks at the key of that name. c has its defaults.
func (c Config) validateUDPGSO(bad func(key, format string, args ...any)) {
	if c.UDPGSO != UDPGSOOff && c.UDPGSO != UDPGSOOn {
		bad("udp_gso", "%q: write \"on\" or \"off\"", c.UDPGSO)
	}
}

func (c Config) validateScopes(bad func(key, format string, args ...any)) {
	type client struct {
		by     string // the path, or = and a name
		prefix netip.Prefix
	}
	owner := map[client]string{}
	if len(c.Scope) > maxScopes {
		bad("scope", "has %d entries: at most %d are possible", len(c.Scope), maxScopes)
	}
	c.validatePath("path", c.Path, bad)
	for i, s := range c.Scope {
		key := fmt.Sprintf("scope[%d].", i)
		if s.Chain == "" {
			bad(key+"chain", "is missing: name the chain for these clients")
		}
		if len(s.Clients) == 0 && s.Path == "" && len(s.Names) == 0 {
			bad(key+"clients", "is empty: list prefixes such as \"10.0.0.0/8\"")
		}
		c.validatePath(key+"path", s.Path, bad)
		switch {
		case len(s.Names) > 0 && c.ClientCA == "":
			bad(key+"names", "are of no use: without client_ca, clients show no certificate")
		case len(s.Names) > 0 && s.Path != "":
			bad(key+"names", "can't be beside {scope[%d].path}: write a scope for each", i)
		case slices.Contains(s.Names, ""):
			bad(key+"names", "has an empty name")
		}
		for j, text := range s.clients() {
			at := fmt.Sprintf("%sclients[%d]", key, j)
			switch {
			case len(s.Clients) > 0:
			case s.Path != "":
				at = key + "path"
			default:
				at = key + "names"
			}
			p, err := parsePrefix(text)
			if err != nil {
				bad(at, "%w", err)
				continue
			}
			for _, by := range s.by() {
				if first, twice := owner[client{by, p}]; twice {
					bad(at, "%v is there twice, first in {%s}", p, first)
					break
				}
				owner[client{by, p}] = at
			}
		}
	}
}

func (c Config) validatePath(key, path string, bad func(key, format string, args ...any)) {
	switch {
	case path == "":
	case !slices.Contains(c.Protocols, "https"):
		bad(key, "is of no use: there are paths over \"https\" only")
	case path == jsonPath:
		bad(key, "%q is the path of the JSON form: write another one, such as %q", path, DefaultPath)
	case path[0] != '/' || len(path) > 200 || strings.ContainsFunc(path, func(r rune) bool { return r <= ' ' || r >= 0x7F || strings.ContainsRune("%?#", r) }):
		bad(key, "%q is not a path: write / and at most 199 letters, digits and signs but %%, ? and #, such as %q", path, DefaultPath)
	}
}

// by is what a client has to have beside its address: the path, or = and one of the names, which no path begins with.
func (s ScopeConfig) by() []string {
	if len(s.Names) == 0 {
		return []string{s.Path}
	}
	var all []string
	for _, name := range s.Names {
		all = append(all, "="+strings.ToLower(name))
	}
	return all
}

// clients are the prefixes of a scope: all addresses when it has only a path or names.
func (s ScopeConfig) clients() []string {
	if len(s.Clients) == 0 && (s.Path != "" || len(s.Names) > 0) {
		return []string{"0.0.0.0/0", "::/0"}
	}
	return s.Clients
}

// Paths are the paths of the URLs at which a listener for "https" answers, each once.
func (c Config) Paths() []string {
	paths := []string{c.WithDefaults().Path}
	for _, s := range c.Scope {
		if s.Path != "" && !slices.Contains(paths, s.Path) {
			paths = append(paths, s.Path)
		}
	}
	return paths
}

// Matchers find the scope of a client: its index in Config.Scope.
type Matchers struct {
	Plain  *Scopes            // by address alone
	ByPath map[string]*Scopes // by the path of the URL, and address
	ByName map[string]*Scopes // by a name in the certificate, and address
}

// Matchers returns those for c.Scope. c has been validated.
func (c Config) Matchers() (Matchers, error) {
	prefixes, scopes := map[string][]netip.Prefix{}, map[string][]int{}
	for i, s := range c.Scope {
		for _, text := range s.clients() {
			p, err := parsePrefix(text)
			if err != nil {
				return Matchers{}, fmt.Errorf("scope[%d].clients: %w", i, err)
			}
			for _, by := range s.by() {
				prefixes[by], scopes[by] = append(prefixes[by], p), append(scopes[by], i)
			}
		}
	}
	m := Matchers{Plain: NewScopes(prefixes[""], scopes[""]), ByPath: map[string]*Scopes{}, ByName: map[string]*Scopes{}}
	for by := range prefixes {
		if name, ok := strings.CutPrefix(by, "="); ok {
			m.ByName[name] = NewScopes(prefixes[by], scopes[by])
		} else if by != "" {
			m.ByPath[by] = NewScopes(prefixes[by], scopes[by])
		}
	}
	return m, nil
}

// Find returns the scope of the client of q, and the key of its [ScopeConfig] that decided; ok is false when it is in none.
func (m *Matchers) Find(q *message.Query) (scope int, key string, ok bool) {
	client := q.Client.Addr()
	for _, name := range q.Names {
		if s := m.ByName[name]; s != nil {
			if scope, ok = s.Find(client); ok {
				return scope, "names", true
			}
		}
	}
	if q.Path != "" {
		if s := m.ByPath[q.Path]; s != nil {
			if scope, ok = s.Find(client); ok {
				return scope, "path", true
			}
		}
	}
	scope, ok = m.Plain.Find(client)
	return scope, "clients", ok
}

// proxies returns the matcher for c.ProxyProtocol. c has been validated.
func (c Config) proxies() *Scopes { return networksOf(c.ProxyProtocol) }

// networksOf has prefixes and addresses that were validated, all in one scope.
func networksOf(texts []string) *Scopes {
	var prefixes []netip.Prefix
	for _, text := range texts {
		if p, err := parsePrefix(text); err == nil {
			prefixes = append(prefixes, p)
		}
	}
	return NewScopes(prefixes, make([]int, len(prefixes)))
}

// addrPort returns the address to listen at. The zero address stands for all addresses of both families.
func (c Config) addrPort() (netip.AddrPort, error) {
	text := c.Address
	if text == "" {
		return netip.AddrPort{}, errors.New("is missing: write an address and a port, such as \"127.0.0.1:53\"")
	}
	if strings.HasPrefix(text, ":") {
		text = "[::]" + text
	}
	ap, err := netip.ParseAddrPort(text)
	if err != nil {
		return ap, fmt.Errorf("%q is not an address and a port: write \"127.0.0.1:53\", \"[::1]:53\", \":53\" or \"unix:/run/weir/dns.sock\"", c.Address)
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), nil
}

// parsePrefix reads a prefix or a single address. Bits behind the prefix must be zero: "10.0.0.1/8" is more likely a mistake than a
// prefix.
func parsePrefix(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return p, fmt.Errorf("%q is not a prefix or an address: write for example \"10.0.0.0/8\"", text)
	case p != p.Masked():
		return p, fmt.Errorf("%q has bits set behind its length: write %v", text, p.Masked())
	case p.Addr().Is4In6():
		return p, fmt.Errorf("%q is an IPv4 prefix in IPv6 form: write it as IPv4", text)
	}
	return p, nil
}
