package listener

import (
	"context"
	"io"
	"net/http"
	"runtime"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

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
