package upstreamtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Authority issues certificates for tests. Its own is in File.
type Authority struct {
	File string // PEM

	dir         string
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	issued      int64
}

// The time in which certificates hold. It begins before that in a synctest bubble, 2000-01-01.
var (
	notBefore = time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)
	notAfter  = time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC)
)

// NewAuthority makes an authority whose files are in a directory.
func NewAuthority(dir string) (*Authority, error) {
	a := &Authority{File: filepath.Join(dir, "ca.pem"), dir: dir}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	a.key = key
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority of a test"}, NotBefore: notBefore, NotAfter: notAfter,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	octets, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	if a.certificate, err = x509.ParseCertificate(octets); err != nil {
		return nil, err
	}
	return a, writePEM(a.File, "CERTIFICATE", octets)
}

// Pool has the authority's certificate.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return pool
}

// Pin returns the pin of the authority's key, as {upstream.NAME.pin} has it.
func (a *Authority) Pin() string { return Pin(a.certificate) }

// Pin returns the pin of a certificate's key.
func Pin(c *x509.Certificate) string {
	hash := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return "sha256/" + base64.StdEncoding.EncodeToString(hash[:])
}

// Issue makes a certificate for hosts, which are names or addresses.
func (a *Authority) Issue(hosts ...string) (tls.Certificate, error) {
	return a.IssueUntil(notAfter, hosts...)
}

// IssueUntil makes a certificate that expires.
func (a *Authority) IssueUntil(end time.Time, hosts ...string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	a.issued++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1 + a.issued), NotBefore: notBefore, NotAfter: end, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	octets, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(octets)
	return tls.Certificate{Certificate: [][]byte{octets}, PrivateKey: key, Leaf: leaf}, err
}

// Write puts a certificate and its key into files called NAME.pem and NAME.key in the authority's directory.
func (a *Authority) Write(name string, c tls.Certificate) (certificate, key string, err error) {
	certificate, key = filepath.Join(a.dir, name+".pem"), filepath.Join(a.dir, name+".key")
	octets, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		return "", "", err
	}
	return certificate, key, errors.Join(writePEM(certificate, "CERTIFICATE", c.Certificate[0]), writePEM(key, "PRIVATE KEY", octets))
}

func writePEM(path, kind string, octets []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: octets}), 0o600)
}
