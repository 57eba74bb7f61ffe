package listener

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/weirdns/weir/host/internal/fuzzing"
	"github.com/weirdns/weir/host/message"
	mt "github.com/weirdns/weir/host/message/messagetest"
)

func overHTTPS() Config { return Config{Protocols: []string{"https"}} }

var versions = []string{"HTTP/1.1", "HTTP/2.0", "HTTP/3.0"}

// http is a client of one version of HTTP.
func (s *secured) http(t *testing.T, version string) *http.Client {
	t.Helper()
	var transport http.RoundTripper
	config := s.client()
	switch version {
	case "HTTP/1.1":
		h1 := &http.Transport{TLSClientConfig: config, TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}}
		t.Cleanup(h1.CloseIdleConnections)
		transport = h1
	case "HTTP/2.0":
		h2 := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
		t.Cleanup(h2.CloseIdleConnections)
		transport = h2
	case "HTTP/3.0":
		h3 := &http3.Transport{TLSClientConfig: config}
		t.Cleanup(func() { h3.Close() })
		transport = h3
	}
	return &http.Client{Transport: transport, Timeout: limit}
}

func (s *secured) url(path string) string { return "https://" + s.addr + path }

// got is a response with its content.
type got struct {
	*http.Response
	body []byte
}

func do(t *testing.T, c *http.Client, r *http.Request) got {
	t.Helper()
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return got{resp, body}
}

func request(t *testing.T, method, url string, body []byte, headers ...string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return r
}

func encoded(msg []byte) string { return "/dns-query?dns=" + base64.RawURLEncoding.EncodeToString(msg) }

// TestRFC8484Requests: GET and POST with a query get an answer, and what is wrong gets a status that says so, over each version of HTTP (section 4).
func TestRFC8484Requests(t *testing.T) {
	r := startSecured(t, nil, overHTTPS())
	good := query(0, "www.example", true)
	response := good[:]
	large := mt.Join(mt.Header(0, 0, 1, 0, 0, 1), mt.Question("www.example", message.TypeA))
	large = append(large, mt.Record([]byte{0}, 65280, make([]byte, message.MaxSize-len(large)-11)...)...)
	response = bytes.Clone(response)
	response[2] |= 0x80
	tests := []struct {
		name    string
		method  string
		path    string
		body    []byte
		headers []string
		status  int
		rcode   int // with status 200
	}{
		{"GET", "GET", encoded(good), nil, nil, 200, 0},
		{"GET with other parameters", "GET", strings.Replace(encoded(good), "?", "?a=b&", 1) + "&c", nil, nil, 200, 0},
		{"POST", "POST", "/dns-query", good, []string{"Content-Type", "application/dns-message"}, 200, 0},
		{"POST with a parameter of the type", "POST", "/dns-query", good, []string{"Content-Type", "Application/DNS-Message; x=y"}, 200, 0},
		{"POST of the largest message", "POST", "/dns-query", large, []string{"Content-Type", "application/dns-message"}, 200, 0},
		{"an opcode that there isn't", "GET", encoded(mt.Join(mt.Header(0, 5<<11, 1, 0, 0, 0), mt.Question("www.example", 6))), nil, nil, 200, message.NOTIMP},
		{"a malformed query", "GET", encoded(good[:20]), nil, nil, 200, message.FORMERR},
		{"a response", "GET", encoded(response), nil, nil, 400, 0},
		{"half a header", "POST", "/dns-query", good[:11], []string{"Content-Type", "application/dns-message"}, 400, 0},
		{"no message", "POST", "/dns-query", nil, []string{"Content-Type", "application/dns-message"}, 400, 0},
		{"no parameter", "GET", "/dns-query", nil, nil, 400, 0},
		{"an empty parameter", "GET", "/dns-query?dns=", nil, nil, 400, 0},
		{"padding", "GET", encoded(good) + "=", nil, nil, 400, 0},
		{"another alphabet", "GET", "/dns-query?dns=AAAB+/AA", nil, nil, 400, 0},
		{"nonsense", "GET", "/dns-query?dns=%20%20", nil, nil, 400, 0},
		{"a long URL", "GET", encoded(make([]byte, 900)), nil, nil, 414, 0},
		{"a long URL of another path", "GET", "/" + strings.Repeat("x", 1100), nil, nil, 414, 0},
		{"a large message", "POST", "/dns-query", make([]byte, message.MaxSize+1), []string{"Content-Type", "application/dns-message"}, 413, 0},
		{"another type", "POST", "/dns-query", good, []string{"Content-Type", "application/json"}, 415, 0},
		{"no type", "POST", "/dns-query", good, nil, 415, 0},
		{"another method", "PUT", "/dns-query", good, []string{"Content-Type", "application/dns-message"}, 405, 0},
		{"HEAD", "HEAD", encoded(good), nil, nil, 405, 0},
		{"another path", "GET", strings.Replace(encoded(good), "dns-query", "dns", 1), nil, nil, 404, 0},
		{"the root", "GET", "/", nil, nil, 404, 0},
		{"a path that leads back", "GET", "/a/.." + encoded(good), nil, nil, 404, 0},
	}
	for _, version := range versions {
		c := r.http(t, version)
		for _, tt := range tests {
			t.Run(version+" "+tt.name, func(t *testing.T) {
				got := do(t, c, request(t, tt.method, r.url(tt.path), tt.body, tt.headers...))
				if got.StatusCode != tt.status || got.Proto != version {
					t.Fatalf("got %s %s %q, want %d", got.Proto, got.Status, got.body, tt.status)
				}
				if tt.status == 405 && got.Header.Get("Allow") != "GET, POST" {
					t.Errorf("got Allow: %q", got.Header.Get("Allow"))
				}
				if tt.status != 200 {
					return
				}
				m := unpack(t, got.body)
				if got.Header.Get("Content-Type") != "application/dns-message" || m.Id != 0 || m.Rcode != tt.rcode {
					t.Errorf("got %s %v", got.Header, m)
				}
			})
		}
		if q := r.last(); q.Transport != message.HTTPS || q.Path != "/dns-query" || q.Client.Addr().String() != "127.0.0.1" || q.Client.Port() == 0 {
			t.Errorf("%s: the handler saw %v at %q from %v", version, q.Transport, q.Path, q.Client)
		}
	}
	if got := do(t, r.http(t, "HTTP/2.0"), request(t, "GET", r.url(encoded(good)), nil)).Header.Get("Alt-Svc"); got != fmt.Sprintf(`h3=":%d"; ma=86400`, r.Addr().Port()) {
		t.Errorf("got Alt-Svc: %s", got)
	}
	r.wantMetric(t, 0, "panics_total")
}

// TestContentLength: small responses and large ones say how long they are, whoever has to see to that.
func TestContentLength(t *testing.T) {
	r := startSecured(t, nil, overHTTPS())
	for _, version := range versions {
		c := r.http(t, version)
		for _, name := range []string{"www.example", "big.example"} {
			got := do(t, c, request(t, "GET", r.url(encoded(query(0, name, true))), nil))
			if large := name == "big.example"; got.ContentLength != int64(len(got.body)) || large != (len(got.body) > smallContent) {
				t.Errorf("%s, %s: got %d octets, said to be %d", version, name, len(got.body), got.ContentLength)
			}
		}
	}
}

// TestRFC8484CacheControl: max-age is the lowest TTL of the answer (section 5.1).
func TestRFC8484CacheControl(t *testing.T) {
	r := startSecured(t, nil, overHTTPS())
	c := r.http(t, "HTTP/2.0")
	for name, want := range map[string]string{"ttl.example": "max-age=17", "nodata.example": "max-age=9", "panic.example": "max-age=0"} {
		if got := do(t, c, request(t, "GET", r.url(encoded(query(0, name, true))), nil)).Header.Get("Cache-Control"); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if got := do(t, c, request(t, "GET", r.url("/dns-query"), nil)).Header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("a problem: got %q", got)
	}
}

func TestPaths(t *testing.T) {
	config := overHTTPS()
	config.Path = "/q"
	config.Scope = []ScopeConfig{{nil, "kids", "/kids", nil}}
	r := startSecured(t, nil, config)
	c := r.http(t, "HTTP/2.0")
	for path, want := range map[string]int{"/q": 200, "/kids": 200, "/dns-query": 404, "/kids/": 404} {
		if got := do(t, c, request(t, "GET", r.url(strings.Replace(encoded(query(0, "www.example", true)), "/dns-query", path, 1)), nil)); got.StatusCode != want {
			t.Errorf("%s: got %s, want %d", path, got.Status, want)
		} else if want == 200 && r.last().Path != path {
			t.Errorf("%s: the handler saw %q", path, r.last().Path)
		}
	}
}

// TestHTTPDropped: what a filter drops gets no response, and the connection goes on.
func TestHTTPDropped(t *testing.T) {
	r := startSecured(t, nil, overHTTPS())
	for _, version := range versions {
		c := r.http(t, version)
		if resp, err := c.Do(request(t, "POST", r.url("/dns-query"), query(0, "drop.example", true), "Content-Type", dnsMessage)); err == nil {
			resp.Body.Close()
			t.Errorf("%s: got %s", version, resp.Status)
		}
		if got := do(t, c, request(t, "GET", r.url(encoded(mt.Canary())), nil)); got.StatusCode != 200 {
			t.Errorf("%s: got %s", version, got.Status)
		}
	}
}

// TestHTTPPadding: RFC 7830 and RFC 8467 are for every encrypted transport, RFC 7828 is not for HTTP.
func TestHTTPPadding(t *testing.T) {
	r := startSecured(t, nil, overHTTPS())
	padded := mt.Join(mt.Header(0, message.FlagRD, 1, 0, 0, 1), mt.Question("www.example", message.TypeA), mt.OPT(1232, 0, 0, 11, 0, 0, 0, 12, 0, 0))
	got := do(t, r.http(t, "HTTP/2.0"), request(t, "GET", r.url(encoded(padded)), nil))
	if o := unpack(t, got.body).IsEdns0().Option; len(got.body) != 468 || len(o) != 1 {
		t.Errorf("got %d octets, %v", len(got.body), o)
	}
}

// TestHTTPPanic: a panic outside of the handler of queries costs its request, and is counted.
func TestHTTPPanic(t *testing.T) {
	r := startSecured(t, nil, overHTTPS())
	for i, version := range versions {
		c := r.http(t, version)
		do(t, c, request(t, "GET", r.url(encoded(mt.Canary())), nil))
		r.jobs.mu.Lock()
		r.jobs.free = append(r.jobs.free, nil) // what a mistake would leave
		r.jobs.mu.Unlock()
		if resp, err := c.Do(request(t, "POST", r.url("/dns-query"), mt.Canary(), "Content-Type", dnsMessage)); err == nil {
			resp.Body.Close()
			t.Errorf("%s: got %s", version, resp.Status)
		}
		r.wantMetric(t, float64(i+1), "panics_total")
	}
	r.stop()
	if got := strings.Count(r.log.String(), "caused a panic"); got != 1 {
		t.Errorf("%d panics are in the log, want the first:\n%s", got, r.log)
	}
}

func TestJSON(t *testing.T) {
	r := startSecured(t, nil, overHTTPS())
	for _, tt := range []struct {
		query  string
		status int
		want   string // in the content
	}{
		{"name=ttl.example", 200, `{"Status":0,"TC":false,"RD":true,"RA":true,"AD":false,"CD":false,"Question":[{"name":"ttl.example.","type":1}],"Answer":[{"name":"ttl.example.","type":1,"TTL":17,"data":"192.0.2.1"}]}`},
		{"name=TTL.example.&type=a&do=1&cd=true", 200, `"CD":true,"Question":[{"name":"TTL.example.","type":1}]`},
		{"name=www.example&type=16", 200, `"data":"\"` + strings.Repeat("x", 99) + `\""`},
		{"name=www.example&type=TYPE65280", 200, `"Question":[{"name":"www.example.","type":65280}]`},
		{"name=panic.example", 200, `"Status":2,`},
		{"name=panic.example", 200, `"extended_dns_errors":[{"info_code":0,"extra_text":"internal error"}]`},
		{"name=%3Cscript%3E%22%00.example", 200, `"Question":[{"name":"\u003cscript\u003e\\\"\\000.example.","type":1}]`},
		{"", 400, "name is not"},
		{"name=a..b", 400, "name is not"},
		{"name=www.example&type=NONSENSE", 400, "type is not"},
		{"name=www.example&type=65536", 400, "type is not"},
		{"name=www.example&do=maybe", 400, "do is neither"},
		{"name=%zz", 400, "malformed"},
		{"name=www.example&type=AXFR", 200, `"Status":5,`},
	} {
		t.Run(tt.query, func(t *testing.T) {
			got := do(t, r.http(t, "HTTP/2.0"), request(t, "GET", r.url("/resolve?"+tt.query), nil))
			if got.StatusCode != tt.status || !strings.Contains(string(got.body), tt.want) {
				t.Errorf("got %s %s, want %d with %s", got.Status, got.body, tt.status, tt.want)
			}
			if tt.status == 200 && (!json.Valid(got.body) || got.Header.Get("Content-Type") != "application/json" || got.Header.Get("Access-Control-Allow-Origin") != "") {
				t.Errorf("got %v", got.Header)
			}
		})
	}
	if q := r.last(); q.Path != "/resolve" {
		t.Errorf("the handler saw the path %q", q.Path)
	}
	if got := do(t, r.http(t, "HTTP/2.0"), request(t, "GET", r.url("/resolve?name=a.example"), nil, "Accept", "application/dns-json")); got.Header.Get("Content-Type") != "application/dns-json" {
		t.Errorf("got %v", got.Header)
	}
	if got := do(t, r.http(t, "HTTP/2.0"), request(t, "POST", r.url("/resolve"), nil)); got.StatusCode != 405 {
		t.Errorf("POST: got %s", got.Status)
	}
}

// TestHTTPHeaders: header fields are bounded, over each version.
func TestHTTPHeaders(t *testing.T) {
	r := startSecured(t, nil, overHTTPS())
	for _, version := range versions {
		c := r.http(t, version)
		resp, err := c.Do(request(t, "GET", r.url(encoded(mt.Canary())), nil, "X-Large", strings.Repeat("x", 16<<10)))
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
				t.Errorf("%s: got %s", version, resp.Status)
			}
		}
		if got := do(t, r.http(t, version), request(t, "GET", r.url(encoded(mt.Canary())), nil, "X-Small", strings.Repeat("x", 4<<10))); got.StatusCode != 200 {
			t.Errorf("%s: got %s with 4 KB of header fields", version, got.Status)
		}
	}
}

// TestHTTPSlow: requests that come now and then, or not at all, end.
func TestHTTPSlow(t *testing.T) {
	config := overHTTPS()
	config.TCPIdleTimeout = 200 * time.Millisecond
	r := startSecured(t, func(l *Listener) { l.messageTimeout, l.writeTimeout = 100*time.Millisecond, 100*time.Millisecond }, config)
	for name, alpn := range map[string]string{"header over HTTP/1.1": "http/1.1", "body over HTTP/1.1": "http/1.1", "nothing over HTTP/1.1": "http/1.1", "nothing over HTTP/2": "h2"} {
		t.Run(name, func(t *testing.T) {
			c := r.dialTLS(t, r.client(alpn))
			switch {
			case strings.HasPrefix(name, "header"):
				fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: a\r\n")
			case strings.HasPrefix(name, "body"):
				fmt.Fprintf(c, "POST /dns-query HTTP/1.1\r\nHost: a\r\nContent-Type: application/dns-message\r\nContent-Length: 50\r\n\r\n1234")
			case alpn == "h2":
				fmt.Fprint(c, http2.ClientPreface)
				http2.NewFramer(c, c).WriteSettings() //nolint:errcheck // the reads below tell
			}
			if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("the connection is still open")
			}
		})
	}
	if got := do(t, r.http(t, "HTTP/2.0"), request(t, "GET", r.url(encoded(mt.Canary())), nil)); got.StatusCode != 200 {
		t.Errorf("got %s", got.Status)
	}
}

// TestGivenUp: a request that its client has given up before it is looked at isn't resolved.
func TestGivenUp(t *testing.T) {
	r := startSecured(t, nil, overHTTPS())
	h := newDoH(r.config, r.httpsIn)
	for name, given := range map[string]bool{"wanted": false, "given up": true} {
		t.Run(name, func(t *testing.T) {
			before := r.metric(t, "queries_total", "https")
			ctx, cancel := context.WithCancel(context.WithValue(t.Context(), memberKey{}, new(member)))
			defer cancel()
			if given {
				cancel()
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", encoded(mt0()), nil))
			if asked := r.metric(t, "queries_total", "https") > before; asked == given || (w.Body.Len() == 0) != given {
				t.Errorf("resolved: %v, with %d octets of content", asked, w.Body.Len())
			}
		})
	}
}

// TestRapidReset: streams that are reset at once (CVE-2023-44487), and more of them at a time than are allowed, harm nobody else.
func TestRapidReset(t *testing.T) {
	r := startSecured(t, nil, overHTTPS())
	c := r.dialTLS(t, r.client("h2"))
	out := bufio.NewWriter(c)
	fmt.Fprint(out, http2.ClientPreface)
	framer := http2.NewFramer(out, c)
	framer.WriteSettings()    //nolint:errcheck // the writes below tell
	framer.WriteSettingsAck() //nolint:errcheck // as above
	var head bytes.Buffer
	encoder := hpack.NewEncoder(&head)
	fields := func(path string) []byte {
		head.Reset()
		for _, f := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "dns.example"}, {":path", path}} {
			encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}) //nolint:errcheck // into memory
		}
		return head.Bytes()
	}
	ended := make(chan struct{})
	go func() { // what the listener says has to be read
		defer close(ended)
		io.Copy(io.Discard, c) //nolint:errcheck // it ends with the connection
	}()
	other := r.http(t, "HTTP/2.0")
	for i := range uint32(5000) {
		id := 2*i + 1
		err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: fields(encoded(query(0, fmt.Sprintf("slow.%d", i), false))), EndStream: true, EndHeaders: true})
		if err == nil {
			err = framer.WriteRSTStream(id, http2.ErrCodeCancel)
		}
		if err == nil && i%100 == 0 {
			err = out.Flush()
		}
		if err != nil {
			break // the listener has had enough
		}
		if i%500 == 0 {
			if got := do(t, other, request(t, "GET", r.url(encoded(mt.Canary())), nil)); got.StatusCode != 200 {
				t.Errorf("the other client got %s", got.Status)
			}
		}
	}
	c.Close()
	<-ended
	if got := r.metric(t, "in_flight", "https"); got > maxStreams {
		t.Errorf("%v queries in flight for one connection", got)
	}
	if got := do(t, other, request(t, "GET", r.url(encoded(mt.Canary())), nil)); got.StatusCode != 200 {
		t.Errorf("the other client got %s", got.Status)
	}
}

// TestHTTPDrain: what is in flight is answered when the listener ends, over each version.
func TestHTTPDrain(t *testing.T) {
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			r := startSecured(t, nil, overHTTPS())
			c := r.http(t, version)
			do(t, c, request(t, "GET", r.url(encoded(mt.Canary())), nil))
			type result struct {
				status int
				err    error
			}
			answered := make(chan result, 1)
			go func() {
				resp, err := c.Get(r.url(encoded(query(0, "slow.1", false))))
				if err != nil {
					answered <- result{err: err}
					return
				}
				_, err = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				answered <- result{resp.StatusCode, err}
			}()
			r.wantWaiting(t, "slow.1.")
			stopped := make(chan struct{})
			go func() { r.stop(); close(stopped) }()
			for !r.clients.isDraining() {
				runtime.Gosched()
			}
			r.open("slow.1.")
			if got := <-answered; got.err != nil || got.status != 200 {
				t.Errorf("got %d, %v", got.status, got.err)
			}
			<-stopped
			r.wantMetric(t, 0, "connections", "https")
		})
	}
}

// TestHTTPLeave: a listener whose sockets another process has as well tells each client to go, with the next response, and has gone when all have; it does not wait for
// the end of the time that it would give them.
func TestHTTPLeave(t *testing.T) {
	for _, version := range versions[:2] {
		t.Run(version, func(t *testing.T) {
			r := startSecured(t, func(l *Listener) { l.env.Grace = time.Hour }, overHTTPS())
			c := r.http(t, version)
			ask := func() {
				t.Helper()
				if got := do(t, c, request(t, "POST", r.url("/dns-query"), mt.Canary(), "Content-Type", dnsMessage)); got.StatusCode != 200 {
					t.Errorf("got %s", got.Status)
				}
			}
			ask()
			r.HandOver(nil)
			stopped := make(chan struct{})
			go func() { r.stop(); close(stopped) }()
			for !r.clients.isDraining() {
				runtime.Gosched()
			}
			ask()
			<-stopped
			r.wantMetric(t, 0, "connections", "https")
		})
	}
}

// TestHTTPLimits: connections count, and the one that has been idle longest makes room.
func TestHTTPLimits(t *testing.T) {
	config := overHTTPS()
	config.TCPMaxClients, config.TCPMaxPerClient = 10, 3
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			r := startSecured(t, nil, config)
			for range 8 {
				if got := do(t, r.http(t, version), request(t, "GET", r.url(encoded(mt.Canary())), nil)); got.StatusCode != 200 {
					t.Errorf("got %s", got.Status)
				}
			}
			if got := r.metric(t, "connections_refused_total", "https", "idle"); got != 5 {
				t.Errorf("%v connections made room, want 5", got)
			}
		})
	}
}

// FuzzDoH: any request is decoded or refused, and what is decoded is what was sent.
func FuzzDoH(f *testing.F) {
	f.Add("GET", "dns=AAABAAABAAAAAAAAA3d3dwdleGFtcGxlA2NvbQAAAQAB", "", []byte(nil))
	f.Add("GET", "a=b&dns=AA==&dns=AAAA", "", []byte(nil))
	f.Add("GET", "dns=A\r\nAA", "", []byte(nil))
	f.Add("GET", "dns", "", []byte(nil))
	f.Add("POST", "", "application/dns-message", mt.Canary())
	f.Add("POST", "", "application/dns-message;charset=utf-8", bytes.Repeat([]byte{7}, 2000))
	f.Add("PUT", "", "text/plain", []byte{0})
	f.Fuzz(func(t *testing.T, method, rawQuery, contentType string, body []byte) {
		if len(rawQuery) > maxURL {
			return
		}
		r := &http.Request{Method: method, URL: &url.URL{RawQuery: rawQuery}, Header: http.Header{"Content-Type": {contentType}}, ContentLength: -1}
		var msg []byte
		var p *problem
		fuzzing.Bounded(t, len(rawQuery)+len(body), 2*jobQuery, func() {
			r.Body = io.NopCloser(iotestOneByte{bytes.NewReader(body)})
			msg, p = decodeRequest(r, new(member))
		})
		switch {
		case p != nil && (p.status < 400 || p.status > 499 || p.text == ""):
			t.Fatalf("got the problem %+v", p)
		case p != nil:
			return
		case method == "POST" && !bytes.Equal(msg, body):
			t.Fatalf("got %x, want %x", msg, body)
		case method == "GET" && !strings.Contains("&"+rawQuery+"&", "&dns="+base64.RawURLEncoding.EncodeToString(msg)+"&"):
			t.Fatalf("got %x, which is not in %q", msg, rawQuery)
		case method != "GET" && method != "POST":
			t.Fatalf("%q was taken", method)
		}
	})
}

// iotestOneByte gives an octet to each Read.
type iotestOneByte struct{ io.Reader }

func (r iotestOneByte) Read(b []byte) (int, error) { return r.Reader.Read(b[:min(1, len(b))]) }

// FuzzJSONParameters: whatever the parameters are, what comes of them is a query that the parser knows, or an error.
func FuzzJSONParameters(f *testing.F) {
	f.Add("name=www.example.com&type=AAAA&do=1&cd=0")
	f.Add("name=%00%ff..&type=TYPE1")
	f.Add(`name=a\.b\032c.example&type=65535`)
	f.Add("name=" + strings.Repeat("a.", 127) + "&type=any")
	f.Fuzz(func(t *testing.T, rawQuery string) {
		if len(rawQuery) > maxURL {
			return
		}
		var msg []byte
		var err error
		fuzzing.Bounded(t, len(rawQuery), 8<<10, func() { msg, err = jsonQuery(rawQuery) })
		if err != nil {
			return
		}
		q := new(message.Query)
		if rcode, ok := q.Parse(msg); !ok && rcode != message.REFUSED && rcode != message.FORMERR || binary.BigEndian.Uint16(msg) != 0 {
			t.Fatalf("%q became %x", rawQuery, msg)
		}
	})
}
