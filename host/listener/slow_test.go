package listener

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// stalled is how many queries and requests wait for their clients.
func (r *running) stalled() (n int64) {
	r.clients.mu.Lock()
	defer r.clients.mu.Unlock()
	for m := range r.clients.open {
		n += m.inFlight.Load() / stalled
	}
	return n
}

// busy is how many queries and requests the connections of a listener have.
func (r *running) busy() (n int64) {
	r.clients.mu.Lock()
	defer r.clients.mu.Unlock()
	for m := range r.clients.open {
		n += m.inFlight.Load()
	}
	return n
}

// wantIdle waits until all have ended.
func (r *running) wantIdle(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(limit); r.busy() > 0; runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("%d queries are still on their way", r.busy())
		}
	}
}

// TestSlowReadersOverQUIC: a client that takes nothing of its responses holds up neither a goroutine nor its connection.
func TestSlowReadersOverQUIC(t *testing.T) {
	small := &quic.Config{InitialStreamReceiveWindow: 100, MaxStreamReceiveWindow: 100, KeepAlivePeriod: time.Second}
	quick := func(l *Listener) { l.env.Budget, l.writeTimeout = 100*time.Millisecond, 100*time.Millisecond }
	t.Run("QUIC", func(t *testing.T) {
		r := startSecured(t, quick, overQUIC())
		c, err := quic.DialAddr(t.Context(), r.addr, r.client("doq"), small)
		if err != nil {
			t.Fatal(err)
		}
		defer c.CloseWithError(0, "")
		for range 50 {
			open(t, c, framed(query(0, "big.example", true)), true)
		}
		for r.metric(t, "queries_total") < 50 {
			runtime.Gosched()
		}
		r.wantIdle(t)
	})
	t.Run("HTTP/3", func(t *testing.T) {
		r := startSecured(t, quick, overHTTPS())
		transport := &http3.Transport{TLSClientConfig: r.client(), QUICConfig: small}
		defer transport.Close()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for range 20 {
			go func() {
				req, err := http.NewRequestWithContext(ctx, "GET", r.url(encoded(query(0, "big.example", true))), nil)
				if err != nil {
					return
				}
				if resp, err := transport.RoundTrip(req); err == nil {
					<-ctx.Done() // the content is not read
					resp.Body.Close()
				}
			}()
		}
		for r.metric(t, "queries_total") < 20 {
			runtime.Gosched()
		}
		r.wantIdle(t)
	})
}

// TestSlowBodyOverHTTP3: nor does one that does not send what it says that it will.
func TestSlowBodyOverHTTP3(t *testing.T) {
	r := startSecured(t, func(l *Listener) { l.messageTimeout = 100 * time.Millisecond }, overHTTPS())
	c := r.http(t, "HTTP/3.0")
	body, send := io.Pipe()
	defer send.Close()
	req, err := http.NewRequestWithContext(t.Context(), "POST", r.url("/dns-query"), body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", dnsMessage)
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest {
		t.Errorf("got %s", resp.Status)
	}
	r.wantIdle(t)
}

// TestNewClientAmongStalledOnes: clients who begin a query and don't go on, or don't take the response, on as many connections as there is room for, keep nobody out:
// one of those connections makes room.
func TestNewClientAmongStalledOnes(t *testing.T) {
	const places = 5
	const begun = "POST /dns-query HTTP/1.1\r\nHost: a\r\nContent-Type: application/dns-message\r\nContent-Length: 50\r\n\r\n1234"
	post := func(t *testing.T, r *secured, body io.Reader) *http.Request {
		req, err := http.NewRequestWithContext(t.Context(), "POST", r.url("/dns-query"), body)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", dnsMessage)
		return req
	}
	asks := func(version string) func(*testing.T, *secured) {
		return func(t *testing.T, r *secured) {
			if got := do(t, r.http(t, version), post(t, r, bytes.NewReader(mt0()))); got.StatusCode != 200 {
				t.Errorf("the new client got %s", got.Status)
			}
		}
	}
	asksQUIC := func(t *testing.T, r *secured) { exchangeQUIC(t, r.dialQUIC(t, r.client("doq")), mt0()) }
	for _, tt := range []struct {
		name   string
		config Config
		stall  func(t *testing.T, r *secured) // on a connection
		ask    func(t *testing.T, r *secured)
	}{
		{"content over HTTP/1.1", overHTTPS(), func(t *testing.T, r *secured) { fmt.Fprint(r.dialTLS(t, r.client("http/1.1")), begun) }, asks("HTTP/1.1")},
		{"content over HTTP/2", overHTTPS(), func(t *testing.T, r *secured) {
			var head bytes.Buffer
			encoder := hpack.NewEncoder(&head)
			for _, f := range [][2]string{{":method", "POST"}, {":scheme", "https"}, {":authority", "a"}, {":path", "/dns-query"}, {"content-type", dnsMessage}} {
				encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}) //nolint:errcheck // into memory
			}
			c := r.dialTLS(t, r.client("h2"))
			fmt.Fprint(c, http2.ClientPreface)
			f := http2.NewFramer(c, c)
			f.WriteSettings()                                                                                   //nolint:errcheck // the count below tells
			f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head.Bytes(), EndHeaders: true}) //nolint:errcheck // as above
		}, asks("HTTP/2.0")},
		{"content over HTTP/3", overHTTPS(), func(t *testing.T, r *secured) {
			body, send := io.Pipe()
			t.Cleanup(func() { send.Close() })
			transport, req := r.http(t, "HTTP/3.0").Transport, post(t, r, body)
			go func() {
				if resp, err := transport.RoundTrip(req); err == nil { // it ends with the test
					resp.Body.Close()
				}
			}()
		}, asks("HTTP/3.0")},
		{"query over QUIC", overQUIC(), func(t *testing.T, r *secured) { open(t, r.dialQUIC(t, r.client("doq")), []byte{0}, false) }, asksQUIC},
		{"response over QUIC", overQUIC(), func(t *testing.T, r *secured) {
			c, err := quic.DialAddr(t.Context(), r.addr, r.client("doq"), &quic.Config{InitialStreamReceiveWindow: 100, MaxStreamReceiveWindow: 100, KeepAlivePeriod: time.Second})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.CloseWithError(0, "") })
			open(t, c, framed(query(0, "big.example", true)), true)
		}, asksQUIC},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.config.TCPMaxClients, tt.config.TCPMaxPerClient = places, places
			r := startSecured(t, func(l *Listener) { l.messageTimeout, l.writeTimeout = 2*limit, 2*limit }, tt.config)
			for i := range int64(places) {
				tt.stall(t, r)
				for end := time.Now().Add(limit); r.stalled() <= i; runtime.Gosched() {
					if time.Now().After(end) {
						t.Fatalf("%d queries wait for their clients, want %d", r.stalled(), i+1)
					}
				}
			}
			tt.ask(t, r)
			r.wantMetric(t, 1, "connections_refused_total", "idle")
		})
	}
}
