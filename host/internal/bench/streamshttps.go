//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// connectHTTPS asks over HTTP/2. One goroutine does it, with a few buffers: a client such as net/http's takes several times what a server takes, and the
// server would wait for it.
func (s *streams) connectHTTPS(ctx context.Context, first int, more func() bool) (tally, error) {
	dialer := tls.Dialer{Config: s.tls}
	conn, err := dialer.DialContext(ctx, "tcp", s.addr)
	if err != nil {
		return tally{}, err
	}
	defer conn.Close()
	c := newHTTP2Client(conn, s.queries, first)
	if err := c.run(more); err != nil {
		return c.tally, fmt.Errorf("%s: %w", s.addr, err)
	}
	return c.tally, nil
}

// http2Client is one connection over HTTP/2.
type http2Client struct {
	conn    net.Conn
	in      *bufio.Reader
	out     *bufio.Writer
	framer  *http2.Framer
	fields  bytes.Buffer // of a request, encoded
	encoder *hpack.Encoder
	queries [][]byte
	next    int    // query
	stream  uint32 // of the next one
	unsaid  uint32 // octets of content that the window of the connection has to grow by
	flights []exchangeHTTP
	tally   tally
}

// exchangeHTTP is a query on its way.
type exchangeHTTP struct {
	stream  uint32
	query   []byte
	begun   time.Time
	good    bool // the status is 200
	content []byte
}

// windowStep is how many octets come until the client says that it has taken them, of the 65,535 that a window has to begin with (RFC 9113 section 6.9.2).
const windowStep = 16 << 10

func newHTTP2Client(conn net.Conn, queries [][]byte, first int) *http2Client {
	c := &http2Client{conn: conn, in: bufio.NewReader(conn), out: bufio.NewWriter(conn), queries: queries, next: first, stream: 1}
	c.framer = http2.NewFramer(c.out, c.in)
	c.framer.SetReuseFrames()
	c.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.encoder = hpack.NewEncoder(&c.fields)
	return c
}

var errGoAway = errors.New("the server ends the connection")

// run asks for as long as more says so, and waits for the last response. Whatever has none when nothing comes any more is lost.
func (c *http2Client) run(more func() bool) error {
	if _, err := c.out.WriteString(http2.ClientPreface); err != nil {
		return err
	}
	if err := c.framer.WriteSettings(http2.Setting{ID: http2.SettingEnablePush, Val: 0}); err != nil {
		return err
	}
	for {
		for len(c.flights) < streamsInFlight && more() {
			if err := c.send(); err != nil {
				return err
			}
		}
		if len(c.flights) == 0 {
			return c.out.Flush()
		}
		if c.in.Buffered() == 0 {
			if err := c.out.Flush(); err != nil {
				return err
			}
			if err := c.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
				return err
			}
		}
		f, err := c.framer.ReadFrame()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			c.tally.Lost += int64(len(c.flights))
			return nil
		}
		if err == nil {
			err = c.take(f)
		}
		if err != nil {
			return err
		}
	}
}

// send sends a query with GET. Its path is not kept in the compression's table: no other request has it.
func (c *http2Client) send() error {
	query := c.queries[c.next%len(c.queries)][2:]
	c.next++
	c.fields.Reset()
	for _, f := range [...]hpack.HeaderField{
		{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "https"}, {Name: ":authority", Value: "localhost"},
		{Name: ":path", Value: "/dns-query?dns=" + base64.RawURLEncoding.EncodeToString(query), Sensitive: true},
		{Name: "accept", Value: "application/dns-message"},
	} {
		if err := c.encoder.WriteField(f); err != nil {
			return err
		}
	}
	c.flights = append(c.flights, exchangeHTTP{stream: c.stream, query: query, begun: time.Now()})
	c.tally.Sent++
	err := c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: c.stream, BlockFragment: c.fields.Bytes(), EndStream: true, EndHeaders: true})
	c.stream += 2
	return err
}

// take does what a frame asks for.
func (c *http2Client) take(f http2.Frame) error {
	switch f := f.(type) {
	case *http2.MetaHeadersFrame:
		if e := c.flight(f.StreamID); e != nil {
			e.good = f.PseudoValue("status") == "200"
		}
		if f.StreamEnded() {
			c.end(f.StreamID)
		}
	case *http2.DataFrame:
		if e := c.flight(f.StreamID); e != nil {
			e.content = append(e.content, f.Data()...)
		}
		if f.StreamEnded() {
			c.end(f.StreamID)
		}
		if c.unsaid += f.Length; c.unsaid >= windowStep {
			err := c.framer.WriteWindowUpdate(0, c.unsaid)
			c.unsaid = 0
			return err
		}
	case *http2.RSTStreamFrame:
		c.end(f.StreamID)
	case *http2.SettingsFrame:
		if !f.IsAck() {
			return c.framer.WriteSettingsAck()
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			return c.framer.WritePing(true, f.Data)
		}
	case *http2.GoAwayFrame:
		return fmt.Errorf("%w: %v", errGoAway, f.ErrCode)
	}
	return nil
}

func (c *http2Client) flight(stream uint32) *exchangeHTTP {
	for i := range c.flights {
		if c.flights[i].stream == stream {
			return &c.flights[i]
		}
	}
	return nil
}

// end counts the query of a stream that has ended, and forgets it.
func (c *http2Client) end(stream uint32) {
	e := c.flight(stream)
	if e == nil {
		return
	}
	if code, err := checkResponse(e.content, e.query); err == nil && e.good {
		c.tally.completed(code, time.Since(e.begun))
	} else {
		c.tally.Lost++
	}
	last := len(c.flights) - 1
	*e = c.flights[last]
	c.flights = c.flights[:last]
}
