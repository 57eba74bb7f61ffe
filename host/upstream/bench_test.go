package upstream

import (
	"crypto/tls"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
)

// echo is the cheapest server there is: it sends each query back as a response without records.
func echo(t testing.TB) netip.AddrPort {
	t.Helper()
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		buf := make([]byte, 4096)
		for {
			n, client, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			buf[2] |= 0x80
			if _, err := conn.WriteToUDPAddrPort(buf[:n], client); err != nil {
				return
			}
		}
	})
	t.Cleanup(func() {
		conn.Close()
		serving.Wait()
	})
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// BenchmarkMiss is a query to a server on loopback and its response. It includes the server's work: two system calls of four.
func BenchmarkMiss(b *testing.B) {
	for _, c := range []struct {
		name   string
		config Config
	}{
		{"keep", Config{}},
		{"random", Config{Case: "random"}},
		{"fastest", Config{Policy: "fastest"}},
	} {
		b.Run(c.name, func(b *testing.B) {
			c.config.Servers = []string{echo(b).String()}
			g := group(b, c.config, Env{})
			q, dst := query(b, "www.example.com.", dns.TypeA), make([]byte, 0, 512)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := g.Resolve(b.Context(), q, dst); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkMissParallel has many queries at a time.
func BenchmarkMissParallel(b *testing.B) {
	g := group(b, Config{Servers: []string{echo(b).String()}}, Env{})
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		q, dst := query(b, "www.example.com.", dns.TypeA), make([]byte, 0, 512)
		for pb.Next() {
			if _, err := g.Resolve(b.Context(), q, dst); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// echoed is what echo sends back.
func echoed(query []byte) []byte {
	query[2] |= 0x80
	return query
}

// BenchmarkTransports is a query over each transport on a connection that is open: alone, and beside 64 others. It includes the server's work.
func BenchmarkTransports(b *testing.B) {
	a, certificate := authority(b)
	frame := func(conn net.Conn) {
		frames(conn, func(query []byte) { conn.Write(frame(echoed(query))) })
	}
	https, _ := scriptHTTPS(b, certificate, posted(echoed))
	for _, c := range []struct{ name, server string }{
		{"udp", echo(b).String()},
		{"tcp", "tcp://" + script(b, nil, frame).String()},
		{"tls", tlsServer(scriptTLS(b, serverTLS(certificate), func(conn *tls.Conn) { frame(conn) }))},
		{"https", httpsServer(https)},
		{"quic", quicServer(scriptQUIC(b, certificate, streamed(echoed)))},
	} {
		config := Config{Servers: []string{c.server}}
		if strings.Contains(c.server, "#") {
			config.CA = a.File
		}
		b.Run(c.name, func(b *testing.B) {
			g := group(b, config, Env{})
			b.Run("one", func(b *testing.B) {
				q, dst := query(b, "www.example.com.", dns.TypeA), make([]byte, 0, 512)
				b.ReportAllocs()
				for b.Loop() {
					if _, err := g.Resolve(b.Context(), q, dst); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run("many", func(b *testing.B) {
				b.ReportAllocs()
				b.SetParallelism(32)
				b.RunParallel(func(pb *testing.PB) {
					q, dst := query(b, "www.example.com.", dns.TypeA), make([]byte, 0, 512)
					for pb.Next() {
						if _, err := g.Resolve(b.Context(), q, dst); err != nil {
							b.Error(err)
							return
						}
					}
				})
			})
		})
	}
}
