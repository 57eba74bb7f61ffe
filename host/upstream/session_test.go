package upstream

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/quic-go/quic-go"
)

// TestConnectionsHammer has many ask at once, some of whom give up, while the server closes connections all the time. Nobody gets what is another's, and nothing
// is left in the end.
func TestConnectionsHammer(t *testing.T) {
	const askers, queries = 8, 40
	a, certificate := authority(t)
	var asked atomic.Int32
	breaks := func() bool { return asked.Add(1)%7 == 0 }
	var server *httptest.Server
	https, server := scriptHTTPS(t, certificate, posted(func(query []byte) []byte {
		if breaks() {
			server.CloseClientConnections()
		}
		return own(query)
	}))
	for _, c := range []struct{ name, server string }{
		{"tls", tlsServer(scriptTLS(t, serverTLS(certificate), func(conn *tls.Conn) {
			frames(conn, func(query []byte) {
				if breaks() {
					conn.Close()
				}
				conn.Write(frame(own(query)))
			})
		}))},
		{"https", httpsServer(https)},
		{"quic", quicServer(scriptQUIC(t, certificate, func(conn *quic.Conn, stream *quic.Stream) {
			if breaks() {
				_ = conn.CloseWithError(doqNoError, "")
			}
			streamed(own)(conn, stream)
		}))},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := group(t, Config{Servers: []string{c.server}, CA: a.File, MaxFails: -1}, Env{})
			var answered atomic.Int32
			var asking sync.WaitGroup
			for i := range askers {
				asking.Go(func() {
					for j := range queries {
						n := i*queries + j
						ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+n%5)*20*time.Millisecond)
						q := query(t, fmt.Sprintf("n%d.test.", n), dns.TypeA)
						response, err := g.Resolve(ctx, q, nil)
						cancel()
						if err != nil {
							continue
						}
						answered.Add(1)
						m := new(dns.Msg)
						if err := m.Unpack(response.Message); err != nil || len(m.Answer) != 1 || m.Answer[0].(*dns.A).A.String() != fmt.Sprintf("10.0.%d.%d", n/256, n%256) {
							t.Errorf("n%d: got %v, error %v", n, m, err)
						}
					}
				})
			}
			asking.Wait()
			if got, want := askName(t, g, "n0.test."), "NOERROR 10.0.0.0"; got != want { // with time, and nobody in the way
				t.Errorf("in the end: got %q, want %q", got, want)
			}
			t.Logf("%d of %d were answered", answered.Load(), askers*queries)
		})
	}
}
