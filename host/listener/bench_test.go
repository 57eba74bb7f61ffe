package listener

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"github.com/weirdns/weir/host/internal/testcert"
)

// startBench is a listener whose handler answers at once.
func startBench(b *testing.B, config Config) (addr string, client *tls.Config) {
	b.Helper()
	authority := testcert.New(b)
	config.Address, config.Chain = "127.0.0.1:0", "main"
	config.Certificate, config.Key = authority.Write(b.TempDir(), "dns.example")
	l, err := New(config, 0, answering{}, Env{})
	if err != nil {
		b.Fatal(err)
	}
	if err := l.Listen(b.Context()); err != nil {
		b.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- l.Serve(b.Context()) }()
	b.Cleanup(func() {
		if err := <-ended; err != nil {
			b.Error(err)
		}
	})
	return l.Addr().String(), &tls.Config{RootCAs: authority.Pool(), ServerName: "dns.example"}
}

// BenchmarkTLS has 32 queries on their way at a time, each in a record of its own. The client is in the figure.
func BenchmarkTLS(b *testing.B) {
	addr, config := startBench(b, overTLS())
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	defer nc.Close()
	c := tls.Client(nc, config)
	q, in := framed(query(1, "www.example", true)), make([]byte, 64<<10)
	b.ReportAllocs()
	sent, left := 0, 0
	for b.Loop() {
		if _, err := c.Write(q); err != nil {
			b.Fatal(err)
		}
		if sent++; sent%32 != 0 {
			continue
		}
		for answered := 0; answered < 32; {
			n, err := c.Read(in[left:])
			if err != nil {
				b.Fatal(err)
			}
			rest := in[:left+n]
			for {
				msg, err := frame(rest)
				if err != nil {
					b.Fatal(err)
				}
				if msg == nil {
					break
				}
				rest = rest[2+len(msg):]
				answered++
			}
			left = copy(in, rest)
		}
	}
}

// BenchmarkHTTPS has a request at a time on each of several goroutines. The client is in the figure, and most of it.
func BenchmarkHTTPS(b *testing.B) {
	addr, config := startBench(b, overHTTPS())
	for version, transport := range map[string]http.RoundTripper{
		"2": &http.Transport{TLSClientConfig: config.Clone(), ForceAttemptHTTP2: true}, "3": &http3.Transport{TLSClientConfig: config},
	} {
		b.Run(version, func(b *testing.B) {
			c := &http.Client{Transport: transport}
			url := "https://" + addr + encoded(query(0, "www.example", true))
			b.ReportAllocs()
			b.SetParallelism(8)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					resp, err := c.Get(url)
					if err != nil {
						b.Error(err)
						return
					}
					io.Copy(io.Discard, resp.Body) //nolint:errcheck // the status tells
					resp.Body.Close()
					if resp.StatusCode != http.StatusOK {
						b.Error(resp.Status)
					}
				}
			})
			c.CloseIdleConnections()
		})
	}
}

// discarding is an http.ResponseWriter for benchmarks: as the servers do, it makes fields for each response.
type discarding struct{ header http.Header }

func (d *discarding) Header() http.Header         { return d.header }
func (d *discarding) Write(p []byte) (int, error) { return len(p), nil }
func (d *discarding) WriteHeader(int)             {}

// BenchmarkDoH is what the handler takes for a request, without what serves HTTP.
func BenchmarkDoH(b *testing.B) {
	config := overHTTPS()
	config.Address, config.Chain = "127.0.0.1:0", "main"
	authority := testcert.New(b)
	config.Certificate, config.Key = authority.Write(b.TempDir(), "dns.example")
	l, err := New(config, 0, answering{}, Env{})
	if err != nil {
		b.Fatal(err)
	}
	h := newDoH(l.config, l.httpsIn)
	h.altSvc = []string{`h3=":443"; ma=86400`}
	r := httptest.NewRequestWithContext(context.WithValue(b.Context(), memberKey{}, new(member)), http.MethodGet, encoded(query(0, "www.example", true)), nil)
	r.ProtoMajor = 2
	b.ReportAllocs()
	for b.Loop() {
		h.ServeHTTP(&discarding{http.Header{}}, r)
	}
}

// BenchmarkQUIC has a query at a time on each of several goroutines, on one connection. The client is in the figure.
func BenchmarkQUIC(b *testing.B) {
	addr, config := startBench(b, overQUIC())
	config.NextProtos = []string{"doq"}
	c, err := quic.DialAddr(b.Context(), addr, config, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer c.CloseWithError(0, "")
	q := framed(query(0, "www.example", true))
	b.ReportAllocs()
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			s, err := c.OpenStreamSync(b.Context())
			if err != nil {
				b.Error(err)
				return
			}
			s.Write(q)
			s.Close()
			if all, err := io.ReadAll(s); err != nil || len(all) < 14 {
				b.Errorf("got %x, %v", all, err)
			}
		}
	})
}
