package listener

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"time"
)

// The header of the PROXY protocol, version 2, which a load balancer puts before a connection, or into each datagram, to say whose it is.
// Numbers are in network order.
//
//	| signature, 12 octets | version 2 and command | family and protocol | LENGTH, 2 octets | addresses and TLVs, LENGTH octets |
//
// The addresses are source and destination and then their ports, of 12 octets for IPv4 and 36 for IPv6. What comes behind them is for others.
const (
	proxyFixed = 16
	// maxProxyHeader bounds the second part. Addresses and the TLVs in use have some hundred octets.
	maxProxyHeader = 2048

	proxyLocal = 0x20 // the load balancer speaks for itself, to see whether we are well
	proxyProxy = 0x21

	proxyIPv4 = 1 // upper half of the family
	proxyIPv6 = 2
)

var (
	proxySignature = []byte("\r\n\r\n\x00\r\nQUIT\n")
	errProxy       = errors.New("no header of the PROXY protocol, version 2")
)

// proxySize returns how many octets follow the first proxyFixed octets of a header.
func proxySize(fixed []byte) (int, error) {
	size := int(binary.BigEndian.Uint16(fixed[14:]))
	if !bytes.Equal(fixed[:12], proxySignature) || fixed[12] != proxyLocal && fixed[12] != proxyProxy || size > maxProxyHeader {
		return 0, errProxy
	}
	return size, nil
}

// proxyClient returns the client that a whole header names: from, who sent it, if it names none.
func proxyClient(header []byte, from netip.AddrPort) (netip.AddrPort, error) {
	addresses := header[proxyFixed:]
	family, protocol := header[13]>>4, header[13]&0xF
	switch {
	case header[12] == proxyLocal, header[13] == 0: // unspecified: the addresses are to be ignored
		return from, nil
	case protocol != 1 && protocol != 2: // a stream or datagrams
		return from, errProxy
	case family == proxyIPv4 && len(addresses) >= 12:
		addr := netip.AddrFrom4([4]byte(addresses))
		return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(addresses[8:])), nil
	case family == proxyIPv6 && len(addresses) >= 36:
		addr := netip.AddrFrom16([16]byte(addresses)).Unmap()
		return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(addresses[32:])), nil
	}
	return from, errProxy
}

// cutProxyHeader takes the header off a datagram.
func cutProxyHeader(datagram []byte, from netip.AddrPort) (rest []byte, client netip.AddrPort, err error) {
	if len(datagram) < proxyFixed {
		return nil, from, errProxy
	}
	size, err := proxySize(datagram[:proxyFixed])
	if err == nil && proxyFixed+size > len(datagram) {
		err = errProxy
	}
	if err != nil {
		return nil, from, err
	}
	size += proxyFixed
	client, err = proxyClient(datagram[:size], from)
	return datagram[size:], client, err
}

// readProxyHeader reads the header of a connection, and nothing behind it.
func readProxyHeader(r io.Reader, from netip.AddrPort) (netip.AddrPort, error) {
	var buf [proxyFixed + maxProxyHeader]byte
	if _, err := io.ReadFull(r, buf[:proxyFixed]); err != nil {
		return from, err
	}
	size, err := proxySize(buf[:proxyFixed])
	if err != nil {
		return from, err
	}
	if _, err := io.ReadFull(r, buf[proxyFixed:proxyFixed+size]); err != nil {
		return from, err
	}
	return proxyClient(buf[:proxyFixed+size], from)
}

// isProxy reports whether who connects from addr has to say in whose name.
func (l *Listener) isProxy(addr netip.Addr) bool {
	if l.proxies == nil {
		return false
	}
	_, ok := l.proxies.Find(addr)
	return ok
}

// unwrap returns the query in a datagram, and its client. Without the header that its sender has to send it is ignored, and not taken for the
// sender's own: an access list must not see the address of a load balancer.
func (l *Listener) unwrap(j *job, datagram []byte, from netip.AddrPort) (query []byte, client netip.AddrPort, ok bool) {
	if !l.isProxy(from.Addr()) {
		return datagram, from, true
	}
	query, client, err := cutProxyHeader(datagram, from)
	if err != nil {
		if t := l.udpIn.counters.of(j); t != nil {
			t.ignored.Add(1)
		}
		return nil, from, false
	}
	return query, client, true
}

// introduce reads in whose name a connection is, and reports whether it may stay. It counts as its client's from then on.
func (c *connection) introduce() bool {
	c.setReadDeadline(time.Now().Add(c.listener.handshakeTimeout))
	client, err := readProxyHeader(c.socket, c.addr)
	if err != nil {
		return false
	}
	c.addr = client
	ok, evicted := c.listener.clients.identify(&c.member, clientOf(client.Addr()))
	if evicted != nil {
		c.in.counters.evicted.Inc()
	}
	if !ok {
		c.in.counters.refused.Inc()
	}
	return ok
}
