package upstream

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// maxPEM bounds a file of certificates or a key, in octets.
	maxPEM = 1 << 20
	// sessionsKept is how many sessions are kept to be resumed with one server, one for each connection that it may have.
	sessionsKept = maxStreams
	// closeTimeout is how long the end of a connection may take to be told (RFC 8446 section 6.1). It fits into the send buffer, or the server
	// is not reading and does not care.
	closeTimeout = time.Millisecond
	// pinPrefix is that of Config.Pins. There is one hash function so far (RFC 7858 section 4.2, RFC 7469 section 2.4).
	pinPrefix = "sha256/"
)

// pin is the SHA-256 hash of a SubjectPublicKeyInfo.
type pin [sha256.Size]byte

func parsePin(text string) (p pin, err error) {
	octets, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(text, pinPrefix))
	if !strings.HasPrefix(text, pinPrefix) || err != nil || len(octets) != len(p) {
		return p, fmt.Errorf("%q is not a pin: want sha256/ and the 44 characters of a hash in base64", text)
	}
	return pin(octets), nil
}

// validateTLS looks at the keys of Config that are about encryption, and that servers are encrypted all or not at all.
func (c Config) validateTLS(locations []location, wrong func(key, format string, args ...any)) {
	for i, text := range c.Pins {
		if _, err := parsePin(text); err != nil {
			wrong(fmt.Sprintf("pin[%d]", i), "%w", err)
		}
	}
	if (c.Certificate == "") != (c.Key == "") {
		given, missing := "certificate", "key"
		if c.Certificate == "" {
			given, missing = missing, given
		}
		wrong(given, "there is no %s: want both, or neither", missing)
	}
	clear, encrypted := -1, -1
	for i, l := range locations {
		if l.transport.encrypted() {
			encrypted = i
		} else {
			clear = i
		}
	}
	if clear >= 0 && encrypted >= 0 {
		wrong("servers", "some are asked in clear text, such as %s, and others are encrypted, such as %s: want one or the other, or two upstreams",
			locations[clear], locations[encrypted])
	}
	if encrypted >= 0 || len(locations) < len(c.Servers) { // or a server that was not understood may be meant to be
		return
	}
	for _, k := range []struct {
		key string
		set bool
	}{{"ca", c.CA != ""}, {"pin", len(c.Pins) > 0}, {"certificate", c.Certificate != ""}} {
		if k.set {
			wrong(k.key, "is for encrypted servers, of which there are none: want servers such as %q", "tls://192.0.2.1#dns.example")
		}
	}
}

// security is what a group knows about the servers that it talks to in secret.
type security struct {
	files [3]pemFile // ca, certificate, key
	roots *x509.CertPool
	own   []tls.Certificate
	pins  []pin
}

// pemFile is a file that was read. Its path is empty if there is none.
type pemFile struct {
	key, path string
	octets    []byte
}

// openSecurity reads the files of a valid c.
func openSecurity(c Config) (*security, error) {
	s := &security{files: [3]pemFile{{key: "ca", path: c.CA}, {key: "certificate", path: c.Certificate}, {key: "key", path: c.Key}}}
	for i := range s.files {
		f := &s.files[i]
		var err error
		if f.octets, err = f.read(); err != nil {
			return nil, &KeyError{f.key, err}
		}
	}
	if c.CA != "" {
		s.roots = x509.NewCertPool()
		if !s.roots.AppendCertsFromPEM(s.files[0].octets) {
			return nil, &KeyError{"ca", fmt.Errorf("%s: has no certificate: want a PEM file with BEGIN CERTIFICATE in it", c.CA)}
		}
	}
	if c.Certificate != "" {
		own, err := tls.X509KeyPair(s.files[1].octets, s.files[2].octets)
		if err != nil {
			return nil, &KeyError{"certificate", fmt.Errorf("%s with the key %s: %w", c.Certificate, c.Key, err)}
		}
		s.own = []tls.Certificate{own}
	}
	for _, text := range c.Pins {
		p, _ := parsePin(text) // it is valid
		s.pins = append(s.pins, p)
	}
	return s, nil
}

// read returns what is in the file, nothing if there is no path.
func (f *pemFile) read() ([]byte, error) {
	if f.path == "" {
		return nil, nil
	}
	info, err := os.Stat(f.path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxPEM || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: is no file of at most 1 MiB", f.path)
	}
	return os.ReadFile(f.path)
}

// changed reports whether a file has other octets now. One that can't be read has none that could be used.
func (s *security) changed() bool {
	for i := range s.files {
		f := &s.files[i]
		if octets, err := f.read(); err == nil && string(octets) != string(f.octets) {
			return true
		}
	}
	return false
}

// alpn are the identifiers of what is spoken over TLS: RFC 7858 (as registered), RFC 9113 section 3.2, RFC 9250 section 4.1.1.
var alpn = [...]string{TLS: "dot", HTTPS: "h2", QUIC: "doq"}

// config returns what a handshake with t needs. The certificate has to be for the name of t, lead to
// one of the roots and be in its time; on top of that one of the pins has to be in its chain. There is no way to have less.
func (s *security) config(t target) *tls.Config {
	c := &tls.Config{
		ServerName:         t.name,
		RootCAs:            s.roots,
		Certificates:       s.own,
		MinVersion:         tls.VersionTLS12, // RFC 9325 section 3.1.1; QUIC has no lower than 1.3
		NextProtos:         []string{alpn[t.transport]},
		ClientSessionCache: tls.NewLRUClientSessionCache(sessionsKept),
	}
	if len(s.pins) > 0 {
		c.VerifyConnection = s.verifyPin // for resumed sessions too, which VerifyPeerCertificate is not
	}
	return c
}

var errPin = errors.New("none of the keys in the certificate's chain is pinned")

// verifyPin looks for a pin in the chains that were verified.
func (s *security) verifyPin(state tls.ConnectionState) error {
	for _, chain := range state.VerifiedChains {
		for _, certificate := range chain {
			hash := pin(sha256.Sum256(certificate.RawSubjectPublicKeyInfo))
			for _, p := range s.pins {
				if p == hash {
					return nil
				}
			}
		}
	}
	return errPin
}

// handshakeError says that there is a server, but not one to talk to.
type handshakeError struct{ err error }

func (e *handshakeError) Error() string { return "TLS handshake: " + e.err.Error() }
func (e *handshakeError) Unwrap() error { return e.err }

func (e *handshakeError) outcome() outcomeKind { return outcomeHandshake }

// secure makes an encrypted connection of a TCP connection, which it closes if it can't. Nothing of a query is sent before the server has
// shown who it is.
func secure(ctx context.Context, conn net.Conn, config *tls.Config) (*secureConn, error) {
	raw := &hastyConn{Conn: conn}
	c := tls.Client(raw, config)
	if err := c.HandshakeContext(ctx); err != nil {
		_ = conn.Close() // that it did not come to anything is all there is to say
		if ctx.Err() != nil {
			return nil, err
		}
		return nil, &handshakeError{err}
	}
	return &secureConn{Conn: c, raw: raw}, nil
}

// secureConn is an encrypted connection whose Close hardly waits.
type secureConn struct {
	*tls.Conn
	raw *hastyConn
}

// Close says that the connection ends, if there is nothing in the way, and ends it.
func (c *secureConn) Close() error {
	c.raw.closing.Store(true)
	return c.Conn.Close()
}

// hastyConn is below the encryption. Once it is being closed, crypto/tls can't wait for as long as it would to say so, 5 s.
type hastyConn struct {
	net.Conn
	closing atomic.Bool
}

// SetWriteDeadline bounds t, if the connection is being closed.
func (c *hastyConn) SetWriteDeadline(t time.Time) error {
	if latest := time.Now().Add(closeTimeout); c.closing.Load() && t.After(latest) {
		t = latest
	}
	return c.Conn.SetWriteDeadline(t)
}
