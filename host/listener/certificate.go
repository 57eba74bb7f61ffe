package listener

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/weirdns/weir/host/change"
	"github.com/weirdns/weir/host/cookie"
)

const (
	// certificateInterval is how often the files are looked at. A look costs a microsecond, and sees what no event tells of: links replaced
	// two directories up, and network file systems.
	certificateInterval = time.Second
	// maxPEM is the size of the largest file that is read.
	maxPEM = 1 << 20
)

// credentials are what the files of a listener say at a time.
type credentials struct {
	certificate tls.Certificate
	clients     *x509.CertPool // authorities of the clients' certificates; nil: clients need none
}

// CheckFiles reads the files of c and reports what is wrong with them. The error begins with the key at fault, as those of Validate do.
func (c Config) CheckFiles() error {
	if c.CookieSecret != "" {
		if _, err := cookie.Open(c.CookieSecret); err != nil {
			return fmt.Errorf("cookie_secret: %w", err)
		}
	}
	if !c.Encrypted() {
		return nil
	}
	_, err := c.credentials()
	return err
}

func (c Config) credentials() (*credentials, error) {
	certificate, err := readPEM(c.Certificate)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	key, err := readPEM(c.Key)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	var cr credentials
	if cr.certificate, err = tls.X509KeyPair(certificate, key); err != nil {
		return nil, fmt.Errorf("certificate: %s with the key %s: %w", c.Certificate, c.Key, err)
	}
	if c.ClientCA == "" {
		return &cr, nil
	}
	authorities, err := readPEM(c.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("client_ca: %w", err)
	}
	cr.clients = x509.NewCertPool()
	if !cr.clients.AppendCertsFromPEM(authorities) {
		return nil, fmt.Errorf("client_ca: %s has no certificate in PEM form", c.ClientCA)
	}
	return &cr, nil
}

func readPEM(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxPEM+1))
	if err == nil && len(text) > maxPEM {
		err = fmt.Errorf("%s has more than %d octets", path, maxPEM)
	}
	return text, err
}

// keeper has the credentials of a listener, and reads them anew when their files change. What is wrong then is logged, and those that there are
// stay.
type keeper struct {
	config  Config
	log     *slog.Logger
	expires settable
	now     func() time.Time
	current atomic.Pointer[credentials]

	files change.Files // those of config
}

// read takes the credentials from the files.
func (k *keeper) read() error {
	k.files.Take(k.paths()...)
	cr, err := k.config.credentials()
	if err != nil {
		return err
	}
	k.current.Store(cr)
	leaf := cr.certificate.Leaf
	k.expires.Set(float64(leaf.NotAfter.Unix()))
	if k.now().After(leaf.NotAfter) {
		k.log.Warn("the certificate has expired", "certificate", k.config.Certificate, "not_after", leaf.NotAfter)
	}
	return nil
}

// paths are those of the files.
func (k *keeper) paths() []string {
	all := []string{k.config.Certificate, k.config.Key}
	if k.config.ClientCA != "" {
		all = append(all, k.config.ClientCA)
	}
	return all
}

// look reads the files if they are others than those that were read.
func (k *keeper) look() {
	if !k.files.Settled(k.paths()...) {
		return
	}
	if err := k.read(); err != nil {
		k.log.Error("the certificate on disk can't be used, the one before stays: "+err.Error(), "not_after", k.current.Load().certificate.Leaf.NotAfter)
		return
	}
	k.log.Info("a new certificate is used", "certificate", k.config.Certificate, "not_after", k.current.Load().certificate.Leaf.NotAfter)
}

// follow looks at each tick until ctx is done.
func (k *keeper) follow(ctx context.Context, tick <-chan time.Time) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick:
			k.look()
		}
	}
}

var errNoCredentials = errors.New("the certificate has not been read")

// server returns the settings of TLS for these protocols of the application (RFC 7301), with the credentials as they are at each handshake.
// turn is called when the server begins to compute, with the connection; it may be nil.
func (k *keeper) server(turn func(*tls.ClientHelloInfo), alpn ...string) *tls.Config {
	base := &tls.Config{
		MinVersion: tls.VersionTLS12, // RFC 8310 section 9; what is older is broken (RFC 8996)
		NextProtos: alpn,
		Time:       k.now, // certificates of clients go by the wall clock
		// What leaves together is one record, for it is encrypted and decrypted at once.
		DynamicRecordSizingDisabled: true,
	}
	base.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if turn != nil {
			turn(hello)
		}
		cr := k.current.Load()
		if cr == nil {
			return nil, errNoCredentials
		}
		c := base.Clone() // keys of session tickets stay those of base
		c.Certificates = []tls.Certificate{cr.certificate}
		if cr.clients != nil {
			c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, cr.clients
		}
		return c, nil
	}
	return base
}
