package upstream

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"

	"github.com/weirdns/weir/host/message"
)

const (
	// mediaType is that of a message in HTTP (RFC 8484 section 6).
	mediaType = "application/dns-message"
	// standardPath is what servers have by convention, for those who give none.
	standardPath = "/dns-query"
	// maxHeader bounds the header of an HTTP response, in octets.
	maxHeader = 16 << 10
	// What a server may send on a stream, and on a connection, before it is read: a message of the largest size and some.
	streamBuffer     = 128 << 10
	connectionBuffer = 1 << 20
)

// httpsCarrier is an HTTP/2 connection, on which queries are POST requests (RFC 8484). GET would make them fit for the caches of proxies on
// the way, which there are none of inside of TLS, and show the lengths of names less well padded.
type httpsCarrier struct {
	conn   *http.ClientConn
	url    *url.URL
	header http.Header // of all requests; never modified
	ended  chan struct{}
	end    sync.Once
}

// openHTTPS opens an HTTP/2 connection to s.
func openHTTPS(ctx context.Context, s *server) (carrier, error) {
	transport := &http.Transport{
		Protocols:              new(http.Protocols),
		MaxResponseHeaderBytes: maxHeader,
		DisableCompression:     true,
		HTTP2:                  &http.HTTP2Config{MaxReceiveBufferPerStream: streamBuffer, MaxReceiveBufferPerConnection: connectionBuffer},
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := s.connect(ctx)
			if err != nil {
				return nil, err
			}
			return overHTTP2(conn.(*secureConn))
		},
	}
	transport.Protocols.SetHTTP2(true)
	conn, err := transport.NewClientConn(ctx, "https", s.addr.String())
	if err != nil {
		return nil, err
	}
	c := &httpsCarrier{
		conn: conn,
		url:  &url.URL{Scheme: "https", Host: authorityOf(s.target), Path: s.path},
		// The empty User-Agent is none: who asks is nobody's business (RFC 8484 section 8.2).
		header: http.Header{"Accept": {mediaType}, "Content-Type": {mediaType}, "User-Agent": {""}},
		ended:  make(chan struct{}),
	}
	conn.SetStateHook(func(conn *http.ClientConn) {
		if conn.Err() != nil {
			c.end.Do(func() { close(c.ended) })
		}
	})
	return c, nil
}

var errHTTP2 = errors.New("the server does not speak HTTP/2")

// overHTTP2 returns what net/http wants to have of a connection. It never sets a deadline for writing, so that the one for the end of TLS may be
// bounded from the beginning.
func overHTTP2(conn *secureConn) (*tls.Conn, error) {
	if conn.ConnectionState().NegotiatedProtocol != alpn[HTTPS] {
		_ = conn.Close() // it was of no use
		return nil, &handshakeError{errHTTP2}
	}
	conn.raw.closing.Store(true)
	return conn.Conn, nil
}

// authorityOf returns the host of a target as a URL has it.
func authorityOf(t target) string {
	host := t.name
	if addr := net.ParseIP(host); addr != nil && addr.To4() == nil {
		host = "[" + host + "]"
	}
	if t.addr.Port() != standardPorts[HTTPS] {
		host += ":" + strconv.Itoa(int(t.addr.Port()))
	}
	return host
}

// ask implements carrier.
func (c *httpsCarrier) ask(ctx context.Context, query []byte) ([]byte, uint32, error) {
	request := (&http.Request{
		Method: http.MethodPost, URL: c.url, Header: c.header, Body: io.NopCloser(bytes.NewReader(query)), ContentLength: int64(len(query)),
	}).WithContext(ctx)
	response, err := c.conn.RoundTrip(request)
	if err != nil {
		return nil, 0, err
	}
	defer response.Body.Close()
	// Any of 2xx has a message in it, whatever its RCODE (RFC 8484 section 4.2.1).
	if response.StatusCode < 200 || response.StatusCode > 299 {
		return nil, 0, statusError(fmt.Sprintf("HTTP status %d %s", response.StatusCode, http.StatusText(response.StatusCode)))
	}
	if kind, _, err := mime.ParseMediaType(response.Header.Get("Content-Type")); err != nil || kind != mediaType {
		return nil, 0, statusError(fmt.Sprintf("HTTP content type %.40q, and not %s", response.Header.Get("Content-Type"), mediaType))
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, message.MaxSize+1))
	if err != nil {
		return nil, 0, err
	}
	if len(body) > message.MaxSize {
		return nil, 0, statusError("HTTP body larger than a message")
	}
	if age, err := strconv.ParseUint(response.Header.Get("Age"), 10, 31); err == nil && age > 0 {
		return body, uint32(age), nil
	}
	return body, 0, nil
}

// older takes off the TTLs of a checked message what it has spent in a cache of HTTP, in seconds (RFC 8484 section 5.1).
func older(msg []byte, age uint32) {
	for r := range message.Records(msg) {
		ttl := r.TTL
		if ttl>>31 != 0 { // RFC 2181 section 8
			ttl = 0
		}
		binary.BigEndian.PutUint32(msg[r.At:], ttl-min(ttl, age))
	}
}

// room implements carrier.
func (c *httpsCarrier) room() bool { return c.conn.Available() > 0 }

// gone implements carrier.
func (c *httpsCarrier) gone() <-chan struct{} { return c.ended }

// close implements carrier.
func (c *httpsCarrier) close() { _ = c.conn.Close() } // nobody is interested in what it has to say

// statusError is an HTTP response without a DNS response in it.
type statusError string

func (e statusError) Error() string        { return string(e) }
func (e statusError) outcome() outcomeKind { return outcomeStatus }
