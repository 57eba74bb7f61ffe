//go:build linux

package main

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// httpsClient is one that keeps its connection, of one version of HTTP.
func httpsClient(version string) (*http.Client, *http.Transport) {
	t := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: version == "HTTP/2.0"}
	if version == "HTTP/1.1" {
		t.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	}
	return &http.Client{Transport: t, Timeout: patience}, t
}

// askHTTPS asks once, and has to get NXDOMAIN.
func askHTTPS(c *http.Client, addr, method, name string) error {
	q := new(dns.Msg).SetQuestion(name, dns.TypeA)
	q.Id = 0
	octets, err := q.Pack()
	if err != nil {
		return err
	}
	url, body := "https://"+addr+"/dns-query", io.Reader(nil)
	if method == http.MethodGet {
		url += "?dns=" + base64.RawURLEncoding.EncodeToString(octets)
	} else {
		body = bytes.NewReader(octets)
	}
	request, err := http.NewRequest(method, url, body)
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/dns-message")
	response, err := c.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if octets, err = io.ReadAll(response.Body); err != nil {
		return err
	}
	m := new(dns.Msg)
	if err := m.Unpack(octets); response.StatusCode != http.StatusOK || err != nil || m.Rcode != dns.RcodeNameError || m.Question[0] != q.Question[0] {
		return fmt.Errorf("got %s, %v, error %w, want NXDOMAIN", response.Status, m, err)
	}
	return nil
}

// httpsWorker asks with each connection as often as it is good for.
func (l *traffic) httpsWorker(t *testing.T, number int, addr, version, method string, each int) {
	c, transport := httpsClient(version)
	defer transport.CloseIdleConnections()
	for i := 0; !l.stopped.Load(); i++ {
		if i%each == 0 {
			transport.CloseIdleConnections()
		}
		name := fmt.Sprintf("n%d.w%d.local.test.", i, number)
		start := time.Now()
		if err := askHTTPS(c, addr, method, name); err != nil && !stoodStill("https", start) {
			t.Errorf("%s over %s by %s: %v", name, version, method, err)
			l.failed.Store(true)
			return
		}
		l.asked.Add(1)
	}
}

// TestUpgradeUnderHTTPS is TestUpgradeUnderLoad for clients over HTTPS that keep their connections: none of their requests is lost. Over HTTP/2 a GOAWAY says which ones were not
// looked at, so that the client sends them again (RFC 9113 section 6.8); over HTTP/1.1 the last response on a connection says that it is (RFC 9112 section 9.6).
func TestUpgradeUnderHTTPS(t *testing.T) {
	s := newSuccession(t)
	var l traffic
	defer func() {
		l.stopped.Store(true)
		l.all.Wait()
	}()
	const ever = 1 << 30
	for i, w := range []struct {
		version, method string
		each            int // requests on a connection
	}{
		{"HTTP/2.0", http.MethodGet, ever}, {"HTTP/2.0", http.MethodPost, ever}, {"HTTP/2.0", http.MethodPost, 20}, {"HTTP/2.0", http.MethodPost, 1},
		{"HTTP/1.1", http.MethodGet, ever}, {"HTTP/1.1", http.MethodPost, ever}, {"HTTP/1.1", http.MethodGet, 20}, {"HTTP/1.1", http.MethodPost, 1},
	} {
		l.all.Go(func() { l.httpsWorker(t, i, s.https, w.version, w.method, w.each) })
	}
	l.pass(t, s, 3)
}
