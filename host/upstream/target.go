package upstream

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
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

// parseServer reads one of Config.Servers. standard is the transport of a server without a prefix.
func parseServer(text string, standard Transport) (target, error) {
	t := target{transport: standard}
	address := text
	if scheme, rest, ok := strings.Cut(text, "://"); ok {
		address = rest
		if t.transport = parseTransport(scheme); t.transport == Auto {
			return t, fmt.Errorf("%q: unknown scheme %q: want an address, or udp://, tcp://, %s://", text, scheme, strings.Join(encryptedSchemes, "://, "))
		}
	}
	address, name, named := strings.Cut(address, "#")
	if t.transport == HTTPS {
		var err error
		if address, t.path, err = splitPath(address); err != nil {
			return t, fmt.Errorf("%q: %w", text, err)
		}
	}
	if named && !t.transport.encrypted() {
		return t, fmt.Errorf("%q: #%s is the name in a certificate, which there is none of in clear text: want %q, or no name", text, name, "tls://"+address+"#"+name)
	}
	var err error
	if t.addr, err = netip.ParseAddrPort(address); err != nil {
		addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(address, "["), "]"))
		if err != nil {
			return t, fmt.Errorf("%q: want %s (a name would need a DNS to find it)", text, addressForms(t.transport))
		}
		t.addr = netip.AddrPortFrom(addr, standardPorts[t.transport])
	}
	t.addr = netip.AddrPortFrom(t.addr.Addr().Unmap(), t.addr.Port())
	switch addr := t.addr.Addr(); {
	case t.addr.Port() == 0:
		return t, fmt.Errorf("%q: port 0 is no port of a server", text)
	case addr.IsUnspecified(), addr.IsMulticast(), addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return t, fmt.Errorf("%q: is not the address of one server", text)
	}
	switch {
	case !t.transport.encrypted():
	case !named:
		t.name = t.addr.Addr().WithZone("").String()
	default:
		if t.name, err = certificateName(name); err != nil {
			return t, fmt.Errorf("%q: %w", text, err)
		}
	}
	return t, nil
}

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
