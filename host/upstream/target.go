package upstream

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/weirdns/weir/host/message"
)

// Transport is how a server is asked.
type Transport uint8

// The transports, see [Config.Servers] and [Config.Transport].
const (
	Auto Transport = iota
	UDP
	TCP
	TLS
	HTTPS
	QUIC
)

var transportNames = [...]string{"auto", "udp", "tcp", "tls", "https", "quic"}

// String returns the name that the configuration uses.
func (t Transport) String() string { return transportNames[t] }

// encrypted reports whether nobody on the way can read or change what is said.
func (t Transport) encrypted() bool { return t >= TLS }

func parseTransport(name string) Transport {
	return Transport(max(0, slices.Index(transportNames[:], name)))
}

// encryptedSchemes are the prefixes of encrypted servers.
var encryptedSchemes = []string{"tls", "https", "quic"}

// standardPorts are those of servers without a port: RFC 1035 section 4.2, RFC 7858 section 3.1, RFC 9110 section 4.2.2, RFC 9250
// section 4.1.1.
var standardPorts = [...]uint16{Auto: 53, UDP: 53, TCP: 53, TLS: 853, HTTPS: 443, QUIC: 853}

// target is where a server is and how it is asked.
type target struct {
	addr      netip.AddrPort
	transport Transport
	name      string // for which its certificate has to be: a host name or an address; empty in clear text
	path      string // HTTPS
}

// location is what one of Config.Servers says: a target, or a name that has to be looked up.
type location struct {
	target        // without an address, but with a port, if there is a host
	host   string // to be looked up; empty if the address is known
}

// String returns the host or address, and the port.
func (l location) String() string {
	if l.host != "" {
		return fmt.Sprintf("%s:%d", l.host, l.addr.Port())
	}
	return l.addr.String()
}

// parseServer reads one of Config.Servers. standard is the transport of a server without a prefix.
func parseServer(text string, standard Transport) (location, error) {
	l := location{target: target{transport: standard}}
	address := text
	if scheme, rest, ok := strings.Cut(text, "://"); ok {
		address = rest
		if l.transport = parseTransport(scheme); l.transport == Auto {
			return l, fmt.Errorf("%q: unknown scheme %q: want an address, or udp://, tcp://, %s://", text, scheme, strings.Join(encryptedSchemes, "://, "))
		}
	}
	address, name, named := strings.Cut(address, "#")
	if named && !l.transport.encrypted() {
		return l, fmt.Errorf("%q: #%s is the name in a certificate, which there is none of in clear text: want %q, or no name", text, name, "tls://"+address+"#"+name)
	}
	var err error
	if l.transport == HTTPS {
		if address, l.path, err = splitPath(address); err != nil {
			return l, fmt.Errorf("%q: %w", text, err)
		}
	}
	if l.addr, l.host, err = splitAddress(address, standardPorts[l.transport]); err != nil {
		return l, fmt.Errorf("%q: want %s, or a host name for the address", text, addressForms(l.transport))
	}
	switch {
	case l.addr.Port() == 0:
		return l, fmt.Errorf("%q: port 0 is no port of a server", text)
	case l.host == "" && !isServer(l.addr.Addr()):
		return l, fmt.Errorf("%q: is not the address of one server", text)
	}
	switch {
	case !l.transport.encrypted():
	case named:
		if l.name, err = certificateName(name); err != nil {
			return l, fmt.Errorf("%q: %w", text, err)
		}
	case l.host != "":
		l.name = l.host
	default:
		l.name = l.addr.Addr().WithZone("").String()
	}
	return l, nil
}

// isServer reports whether one server can have an address.
func isServer(addr netip.Addr) bool {
	return addr.IsValid() && !addr.IsUnspecified() && !addr.IsMulticast() && addr != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// splitAddress reads an address or a host name, with or without a port. With a host, addr has only the port.
func splitAddress(text string, port uint16) (addr netip.AddrPort, host string, err error) {
	if addr, err = netip.ParseAddrPort(text); err == nil {
		return netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()), "", nil
	}
	if ip, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]")); err == nil {
		return netip.AddrPortFrom(ip.Unmap(), port), "", nil
	}
	host = text
	if before, number, ok := strings.Cut(text, ":"); ok {
		n, err := strconv.ParseUint(number, 10, 16)
		if err != nil {
			return addr, "", err
		}
		host, port = before, uint16(n)
	}
	host, err = certificateName(host)
	// A name that ends in a number is an address with a mistake in it: there is no such top-level domain.
	if last := host[strings.LastIndexByte(host, '.')+1:]; err == nil && strings.Trim(last, "0123456789") == "" {
		err = errNotHost
	}
	return netip.AddrPortFrom(netip.Addr{}, port), host, err
}

var errNotHost = errors.New("not a host name")

// splitPath splits a URL without its scheme into host and path.
func splitPath(rest string) (host, path string, err error) {
	host, path, _ = strings.Cut(rest, "/")
	if path = "/" + path; path == "/" {
		path = standardPath
	}
	if u, err := url.Parse("https://host" + path); err != nil || u.RequestURI() != path || strings.ContainsAny(path, "?{}") {
		return "", "", fmt.Errorf("%q is not the path of a URL: want one such as %s", path, standardPath)
	}
	return host, path, nil
}

// addressForms are the forms of a server's address, for an error.
func addressForms(t Transport) string {
	if t == HTTPS {
		return "https://ADDRESS/dns-query#NAME or https://ADDRESS:PORT/dns-query#NAME"
	}
	if t.encrypted() {
		return fmt.Sprintf("%[1]s://ADDRESS#NAME, %[1]s://ADDRESS:PORT#NAME or %[1]s://[IPV6]:PORT#NAME", t)
	}
	return "ADDRESS, ADDRESS:PORT or [IPV6]:PORT"
}

// certificateName returns a name as it is compared with those in a certificate: an address, or a host name without the last dot, in lower case.
func certificateName(text string) (string, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		return addr.Unmap().WithZone("").String(), nil
	}
	name, err := message.ParseName(text)
	host := strings.ToLower(strings.TrimSuffix(text, "."))
	// What ParseName lets pass is any name of the DNS; names in certificates have letters, digits and hyphens (RFC 9525 section 6.3).
	strange := func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '.' && c != '_'
	}
	if err != nil || len(name) == 1 || strings.ContainsFunc(host, strange) {
		return "", fmt.Errorf("%q is not a name that a certificate can be for: want a host name, such as dns.example", text)
	}
	return host, nil
}

// shared is the address space between a provider and its customers, in which clouds have their resolvers (RFC 6598).
var shared = netip.MustParsePrefix("100.64.0.0/10")

// IsNear reports whether the servers belong to the network that weir is in, so that they may know the names which mean something else in each network:
// they are private, or the system's own, or all have addresses that are not of the public Internet. A server that has to be looked up is not near.
func (c Config) IsNear() bool {
	if c.Private || c.ResolvConf != "" {
		return true
	}
	for _, text := range c.Servers {
		l, err := parseServer(text, Auto)
		ip := l.addr.Addr()
		if err != nil || l.host != "" || !ip.IsPrivate() && !ip.IsLoopback() && !ip.IsLinkLocalUnicast() && !shared.Contains(ip) {
			return false
		}
	}
	return true
}
