package upstream

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/weirdns/weir/host/message"
)

// scriptHTTPS plays a server over HTTP/2.
func scriptHTTPS(t testing.TB, certificate tls.Certificate, handler http.HandlerFunc) (netip.AddrPort, *httptest.Server) {
	t.Helper()
	s := httptest.NewUnstartedServer(handler)
	s.EnableHTTP2 = true
	s.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // it doesn't like certificates that are refused
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.Listener.Addr().(*net.TCPAddr).AddrPort(), s
}

// posted has each query of a POST answered.
func posted(respond func(query []byte) []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		query, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		w.Header().Set("Content-Type", mediaType)
		w.Write(respond(query))
	}
}

func httpsServer(addr netip.AddrPort) string {
	return "https://" + addr.String() + "/dns-query#" + testName
}

// TestHTTPS looks at what a server gets, and at what becomes of the ID.
func TestHTTPS(t *testing.T) {
	a, certificate := authority(t)
	addr, _ := scriptHTTPS(t, certificate, func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 || r.Method != "POST" || r.URL.Path != "/other" || r.TLS.ServerName != testName || !strings.HasPrefix(r.Host, testName+":") {
			t.Errorf("got %s %s %s%s for %s", r.Proto, r.Method, r.Host, r.URL, r.TLS.ServerName)
		}
		h := r.Header
		if h.Get("Content-Type") != mediaType || h.Get("Accept") != mediaType || len(h["User-Agent"]) > 0 || len(h["Accept-Encoding"]) > 0 {
			t.Errorf("got header %v", h)
		}
		posted(func(query []byte) []byte {
			if query[0] != 0 || query[1] != 0 || len(query)%128 != 0 || r.ContentLength != int64(len(query)) {
				t.Errorf("got query %x", query)
			}
			return answer(query, "192.0.2.1")
		})(w, r)
	})
	metrics := NewMetrics(nil)
	g := group(t, Config{Servers: []string{"https://" + addr.String() + "/other#" + testName}, CA: a.File}, Env{Metrics: metrics})
	q := query(t, "www.test.", dns.TypeA)
	q.Trace = new(message.Trace)
	if got, want := ask(t, g, q), "NOERROR 192.0.2.1"; got != want {
		t.Errorf("got %q, want %q; %v", got, want, q.Trace.Steps)
	}
	for _, step := range q.Trace.Steps {
		if step.Over != "https" {
			t.Errorf("trace says %+v", step)
		}
	}
	if n := firstTries(metrics, addr, HTTPS); n != 1 {
		t.Errorf("counted %v queries over https, want 1", n)
	}
}

// TestHTTPSFails is what a server may have instead of a response. Each is a failure of the try, which says what it was.
func TestHTTPSFails(t *testing.T) {
	a, certificate := authority(t)
	tests := []struct {
		name  string
		serve http.HandlerFunc
		want  string
		cause string
	}{
		{"404", http.NotFound, "HTTP status 404 Not Found", "status"},
		{"503", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }, "HTTP status 503 Service Unavailable", "status"},
		{"redirect", func(w http.ResponseWriter, r *http.Request) {
			if r.Method != "POST" || r.URL.Path != standardPath {
				t.Errorf("the redirect was followed")
			}
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		}, "HTTP status 307 Temporary Redirect", "status"},
		{"HTML", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html\x1b")
			w.Write([]byte("<p>hello"))
		}, "HTTP content type", "status"},
		{"no type", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, `HTTP content type ""`, "status"},
		{"empty", posted(func([]byte) []byte { return nil }), errOther.Error(), "broken"},
		{"too large", posted(func(query []byte) []byte { return make([]byte, message.MaxSize+1) }), "HTTP body larger than a message", "status"},
		{"without end", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", mediaType)
			for {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		}, "HTTP body larger than a message", "status"},
		{"large header", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X", strings.Repeat("x", 2*maxHeader))
			posted(func(query []byte) []byte { return answer(query, "192.0.2.66") })(w, r)
		}, "COMPRESSION_ERROR", "broken"},
		{"cut", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", mediaType)
			w.Header().Set("Content-Length", "100")
			w.Write(make([]byte, 50))
		}, "EOF", "broken"},
		{"reset", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "stream error", "broken"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			addr, _ := scriptHTTPS(t, certificate, tt.serve)
			metrics := NewMetrics(nil)
			g := group(t, Config{Servers: []string{httpsServer(addr)}, CA: a.File, MaxFails: -1}, Env{Metrics: metrics})
			q := query(t, "www.test.", dns.TypeA)
			q.Trace = new(message.Trace)
			if got := ask(t, g, q); strings.HasPrefix(got, "NOERROR") {
				t.Errorf("got %q", got)
			}
			said := false
			for _, step := range q.Trace.Steps {
				said = said || step.Event == "failure" && strings.Contains(step.Text, tt.want)
				if strings.ContainsRune(step.Text, 0x1b) {
					t.Errorf("the trace has a control character: %q", step.Text)
				}
			}
			if !said {
				t.Errorf("the trace does not say %q: %v", tt.want, q.Trace.Steps)
			}
			failures := func(cause string) float64 {
				return testutil.ToFloat64(metrics.failures.WithLabelValues("test", addr.String(), cause))
			}
			// A machine that is slow enough makes a try overdue before it fails, or leaves no time for the last one.
			if n := failures(tt.cause); n == 0 || n != maxTries && failures("timeout") == 0 {
				t.Errorf("counted %v failures as %s, want %d", n, tt.cause, maxTries)
			}
		})
	}
}

// TestHTTPSAuthentication: no request for a server that is not the one meant, or does not speak HTTP/2.
func TestHTTPSAuthentication(t *testing.T) {
	a, good := authority(t)
	expired, err := a.IssueUntil(time.Now().Add(-time.Hour), testName)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name      string
		server    tls.Certificate
		protocols []string
		want      string
	}{
		{"expired", expired, []string{"h2"}, "expired"},
		{"wrong name", issue(t, a, "evil.test"), []string{"h2"}, "not dns.test"},
		{"HTTP/1", good, []string{"http/1.1"}, "no application protocol"},
		{"HTTP/1, and does not say so", good, nil, errHTTP2.Error()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			config := serverTLS(tt.server)
			config.NextProtos = tt.protocols
			addr := scriptTLS(t, config, func(conn *tls.Conn) {
				if n, _ := conn.Read(make([]byte, 1)); n > 0 {
					t.Errorf("something was sent")
				}
			})
			g := group(t, Config{Servers: []string{httpsServer(addr)}, CA: a.File, MaxFails: -1}, Env{})
			q := query(t, "www.test.", dns.TypeA)
			q.Trace = new(message.Trace)
			if got, want := ask(t, g, q), ErrUnreachable.Error(); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			if text := fmt.Sprint(q.Trace.Steps); !strings.Contains(text, tt.want) {
				t.Errorf("the trace does not say %q: %s", tt.want, text)
			}
		})
	}
}

// TestHTTPSTogether has many queries wait at once, and their answers come in the opposite order.
func TestHTTPSTogether(t *testing.T) {
	const names = 50
	a, certificate := authority(t)
	var waiting atomic.Int32
	all := make(chan struct{})
	addr, _ := scriptHTTPS(t, certificate, posted(func(query []byte) []byte {
		if waiting.Add(1) == names {
			close(all)
		}
		<-all
		return own(query)
	}))
	g := group(t, Config{Servers: []string{httpsServer(addr)}, CA: a.File}, Env{})
	askOwn(t, g, names)
	// When the machine was so slow that a query was asked again, that was on another connection, as it should be.
	if n := g.Stats()[0].Connections; n != 1 && waiting.Load() == names {
		t.Errorf("%d connections, want 1", n)
	}
}

// TestHTTPSReopens has the server close all connections, between queries and while they wait. None is lost.
func TestHTTPSReopens(t *testing.T) {
	a, certificate := authority(t)
	var queries atomic.Int32
	var server *httptest.Server
	addr, server := scriptHTTPS(t, certificate, posted(func(query []byte) []byte {
		if queries.Add(1) == 3 {
			server.CloseClientConnections()
		}
		return own(query)
	}))
	g := group(t, Config{Servers: []string{httpsServer(addr)}, CA: a.File}, Env{})
	for i := range 6 {
		if got, want := askName(t, g, fmt.Sprintf("n%d.test.", i)), fmt.Sprintf("NOERROR 10.0.0.%d", i); got != want {
			t.Errorf("query %d: got %q, want %q", i, got, want)
		}
		if i == 4 {
			server.CloseClientConnections()
		}
	}
}

// TestHTTPSGoesAway has the server announce its end while a query waits. That is still answered, and asked once; the next goes elsewhere.
func TestHTTPSGoesAway(t *testing.T) {
	a, certificate := authority(t)
	var asked atomic.Int32
	ending := make(chan struct{})
	var server *httptest.Server
	addr, server := scriptHTTPS(t, certificate, posted(func(query []byte) []byte {
		if asked.Add(1) == 1 {
			go func() {
				_ = server.Config.Shutdown(context.Background()) // GOAWAY, and waits for this query
				close(ending)
			}()
			<-time.After(minWait / 3) // until the client has heard
		}
		return answer(query, "192.0.2.1")
	}))
	g := group(t, Config{Servers: []string{httpsServer(addr)}, CA: a.File}, Env{})
	if got, want := askName(t, g, "www.test."), "NOERROR 192.0.2.1"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	<-ending
	if got, want := askName(t, g, "www.test."), ErrUnreachable.Error(); got != want || asked.Load() != 1 {
		t.Errorf("then %q, asked %d times, want %q, and once", got, asked.Load(), want)
	}
}

// TestHTTPSLimit has the server take one request at a time on a connection: others go on further connections.
func TestHTTPSLimit(t *testing.T) {
	a, certificate := authority(t)
	var waiting atomic.Int32
	all := make(chan struct{})
	s := httptest.NewUnstartedServer(posted(func(query []byte) []byte {
		if waiting.Add(1) == 2 {
			close(all)
		}
		<-all
		return own(query)
	}))
	s.EnableHTTP2 = true
	s.Config.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: 1}
	s.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	s.StartTLS()
	defer s.Close()
	g := group(t, Config{Servers: []string{httpsServer(s.Listener.Addr().(*net.TCPAddr).AddrPort())}, CA: a.File}, Env{})
	askOwn(t, g, 2)
}

// TestHTTPSAge has a response come from a cache of HTTP.
func TestHTTPSAge(t *testing.T) {
	a, certificate := authority(t)
	for _, tt := range []struct {
		age string
		ttl uint32
	}{{"", 60}, {"0", 60}, {"25", 35}, {"61", 0}, {"9999999999", 60}, {"-1", 60}} {
		t.Run(tt.age, func(t *testing.T) {
			addr, _ := scriptHTTPS(t, certificate, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Age", tt.age)
				posted(func(query []byte) []byte { return answer(query, "192.0.2.1") })(w, r)
			})
			g := group(t, Config{Servers: []string{httpsServer(addr)}, CA: a.File}, Env{})
			r, err := g.Resolve(t.Context(), query(t, "www.test.", dns.TypeA), nil)
			if err != nil {
				t.Fatal(err)
			}
			m := new(dns.Msg)
			if err := m.Unpack(r.Message); err != nil || m.Answer[0].Header().Ttl != tt.ttl {
				t.Errorf("got %v, error %v, want TTL %d", m, err, tt.ttl)
			}
		})
	}
}

// TestHTTPSIdle: a connection is closed when it was not used for the time of {upstream.NAME.expire}.
func TestHTTPSIdle(t *testing.T) {
	a, certificate := authority(t)
	closed := make(chan struct{}, 1)
	s := httptest.NewUnstartedServer(posted(func(query []byte) []byte { return answer(query, "192.0.2.1") }))
	s.EnableHTTP2 = true
	s.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			closed <- struct{}{}
		}
	}
	s.StartTLS()
	defer s.Close()
	g := group(t, Config{Servers: []string{httpsServer(s.Listener.Addr().(*net.TCPAddr).AddrPort())}, CA: a.File, Expire: 20 * time.Millisecond}, Env{})
	if got, want := askName(t, g, "www.test."), "NOERROR 192.0.2.1"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	<-closed
	if got, want := askName(t, g, "www.test."), "NOERROR 192.0.2.1"; got != want {
		t.Errorf("after that: got %q, want %q", got, want)
	}
}

// TestCallsAreCopies: an exchange that gives a query up may use its buffer at once.
func TestCallsAreCopies(t *testing.T) {
	g, err := New("test", Config{Servers: []string{"https://192.0.2.1"}}, Env{})
	if err != nil {
		t.Fatal(err)
	}
	x := newExchange(g)
	x.query = query(t, "www.test.", dns.TypeA)
	tr := &x.tries[0]
	tr.server, tr.over, tr.edns = (*g.servers.Load())[0], HTTPS, true
	tr.build(x.query, &x.random, false)
	c := newSession(tr.server, nil)
	if !c.add(tr, nil) {
		t.Fatal("was not added")
	}
	made := c.calls[tr]
	want := bytes.Clone(tr.out[2:])
	if !c.drop(tr) || c.drop(tr) {
		t.Errorf("dropped other than once")
	}
	clear(tr.out)
	if !bytes.Equal(made.query, want) {
		t.Errorf("the query changed to %x", made.query)
	}
	g.cancel()
	g.running.Wait()
}
