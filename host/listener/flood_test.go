package listener

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	mt "github.com/weirdns/weir/host/message/messagetest"
)

// held is how many octets of memory are in use, garbage left aside.
func held() int {
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapInuse + m.StackInuse)
}

// TestHTTP2Floods: what a client sends over HTTP/2 that is not a request, without end, takes bounded memory, and others are answered. Where there is no limit to what
// may be sent, but for what it costs the sender, the connection stays; header fields without end are cut off (CVE-2023-45288).
func TestHTTP2Floods(t *testing.T) {
	var head bytes.Buffer
	encoder := hpack.NewEncoder(&head)
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "dns.example"}, {":path", "/dns-query"}} {
		encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}) //nolint:errcheck // into memory
	}
	fields := bytes.Clone(head.Bytes())
	head.Reset()
	encoder.WriteField(hpack.HeaderField{Name: "x-more", Value: string(bytes.Repeat([]byte("x"), 1000)), Sensitive: true}) //nolint:errcheck // likewise
	more := bytes.Clone(head.Bytes())
	for _, tt := range []struct {
		name   string
		frames int
		send   func(f *http2.Framer, i int) error
		reads  bool // the client reads what comes back
		ends   bool // the listener ends the connection
	}{
		{"continuations without end", 50_000, func(f *http2.Framer, i int) error {
			if i == 0 {
				return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: fields})
			}
			return f.WriteContinuation(1, false, more)
		}, true, true},
		{"empty continuations", 50_000, func(f *http2.Framer, i int) error {
			if i == 0 {
				return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: fields})
			}
			return f.WriteContinuation(1, false, nil)
		}, true, false},
		{"pings whose answers nobody reads", 2_000_000, func(f *http2.Framer, i int) error { return f.WritePing(false, [8]byte{byte(i)}) }, false, true},
		{"settings whose answers nobody reads", 200_000, func(f *http2.Framer, _ int) error { return f.WriteSettings() }, false, false},
		{"frames of no known type", 50_000, func(f *http2.Framer, i int) error { return f.WriteRawFrame(0xBB, 0, 0, more) }, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := startSecured(t, func(l *Listener) { l.writeTimeout = time.Second }, overHTTPS())
			other := r.http(t, "HTTP/2.0")
			canary := func() {
				t.Helper()
				if got := do(t, other, request(t, "GET", r.url(encoded(mt.Canary())), nil)); got.StatusCode != 200 {
					t.Errorf("the other client got %s", got.Status)
				}
			}
			canary()
			c := r.dialTLS(t, r.client("h2"))
			c.SetDeadline(time.Now().Add(time.Minute))
			out := bufio.NewWriterSize(c, 16<<10)
			fmt.Fprint(out, http2.ClientPreface)
			f := http2.NewFramer(out, c)
			f.WriteSettings() //nolint:errcheck // the writes below tell
			gone := make(chan struct{})
			if tt.reads {
				go func() {
					defer close(gone)
					io.Copy(io.Discard, c) //nolint:errcheck // it ends with the connection
				}()
			}
			before := held()
			sent, err := 0, error(nil)
			for ; sent < tt.frames && err == nil; sent++ {
				err = tt.send(f, sent)
			}
			if err == nil {
				err = out.Flush()
			}
			ended := err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
			grown := held() - before
			if grown > 8<<20 {
				t.Errorf("memory grew by %d KiB", grown>>10)
			}
			canary()
			if tt.ends && !ended {
				t.Errorf("%d frames were taken", sent)
			}
			t.Logf("%d frames taken, memory grew by %d KiB, ended: %v", sent, grown>>10, ended)
			c.Close()
			if tt.reads {
				<-gone
			}
		})
	}
}

// TestIdleStreams: streams of DNS over QUIC that are opened, and bring no whole query, take bounded memory and end in the time that a message has; meanwhile others are
// answered, those who come new among them.
func TestIdleStreams(t *testing.T) {
	const connections = 20
	config := overQUIC()
	config.TCPMaxClients, config.TCPMaxPerClient = connections+5, connections+5
	r := startSecured(t, nil, config)
	known := r.dialQUIC(t, r.client("doq"))
	exchangeQUIC(t, known, mt0())
	before := held()
	var all []*quic.Conn
	for range connections {
		c := r.dialQUIC(t, r.client("doq"))
		all = append(all, c)
		for range maxStreams {
			open(t, c, []byte{0}, false)
		}
	}
	grown := held() - before
	begun := time.Now()
	exchangeQUIC(t, r.dialQUIC(t, r.client("doq")), mt0())
	took := time.Since(begun)
	exchangeQUIC(t, known, mt0())
	if grown > connections*maxStreams*25<<10 { // 50 MB of 2,000, on both sides of the test: 25 KiB each
		t.Errorf("memory grew by %d KiB", grown>>10)
	}
	t.Logf("%d idle streams: memory grew by %d KiB, client and listener; a new client is answered after %v", connections*maxStreams, grown>>10, took)
	r.wantIdle(t)
	for _, c := range all { // they may be used again
		exchangeQUIC(t, c, mt0())
	}
}

// TestManySlowClients: a thousand connections that send an octet each and nothing more take a bounded number of places and bounded memory; a new client is answered among them.
func TestManySlowClients(t *testing.T) {
	const clients, places = 1000, 300
	r := start(t, nil, Config{TCPMaxClients: places, TCPMaxPerClient: places})
	before := held()
	for range clients {
		c := r.dial(t, "tcp")
		c.Write([]byte{0})
	}
	grown := held() - before
	begun := time.Now()
	if got := unpack(t, exchange(t, r.dial(t, "tcp"), mt.Canary())); got.Rcode != 0 {
		t.Errorf("got %v", got)
	}
	t.Logf("%d slow clients: memory grew by %d KiB, clients and listener; a new client is answered after %v", clients, grown>>10, time.Since(begun))
	if got := r.metric(t, "connections", "tcp"); got > places {
		t.Errorf("%v connections are open, want %d at most", got, places)
	}
	if grown > clients*20<<10 {
		t.Errorf("memory grew by %d KiB", grown>>10)
	}
	if got := unpack(t, exchange(t, r.dial(t, "udp"), mt.Canary())); got.Rcode != 0 {
		t.Errorf("over UDP: got %v", got)
	}
}
