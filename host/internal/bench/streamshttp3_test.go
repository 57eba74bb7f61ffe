//go:build linux

package main

import (
	"crypto/tls"
	"encoding/base64"
	"net"
	"net/http"
	"testing"

	"github.com/quic-go/quic-go/http3"

	"github.com/weirdns/weir/host/internal/testcert"
)

// TestStreamsOverHTTP3: each query is counted once, by what became of it.
func TestStreamsOverHTTP3(t *testing.T) {
	const queries = 30
	for _, tt := range []struct {
		name   string
		answer func(w http.ResponseWriter, query []byte)
		want   tally
	}{
		{"answers", func(w http.ResponseWriter, q []byte) { w.Write(answerFramed(framed(q), answers)[2:]) },
			tally{Sent: queries, Completed: queries, Noerror: queries}},
		{"names that there aren't", func(w http.ResponseWriter, q []byte) { w.Write(answerFramed(framed(q), nxdomain)[2:]) },
			tally{Sent: queries, Completed: queries}},
		{"another status", func(w http.ResponseWriter, q []byte) {
			w.WriteHeader(http.StatusBadGateway)
			w.Write(answerFramed(framed(q), answers)[2:])
		}, tally{Sent: queries, Lost: queries}},
		{"no content", func(http.ResponseWriter, []byte) {}, tally{Sent: queries, Lost: queries}},
		{"too much", func(w http.ResponseWriter, _ []byte) { w.Write(make([]byte, 1<<14)) }, tally{Sent: queries, Lost: queries}},
		{"streams that are reset", func(http.ResponseWriter, []byte) { panic(http.ErrAbortHandler) }, tally{Sent: queries, Lost: queries}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			authority := testcert.New(t)
			pc, err := net.ListenPacket("udp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			server := &http3.Server{
				TLSConfig: http3.ConfigureTLSConfig(&tls.Config{Certificates: []tls.Certificate{authority.Pair("dns.example")}}),
				Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					q, err := base64.RawURLEncoding.DecodeString(r.FormValue("dns"))
					if err != nil || r.ProtoMajor != 3 || r.Header.Get("Accept") != "application/dns-message" {
						t.Errorf("got %s %s %v, %v", r.Proto, r.URL, r.Header, err)
					}
					tt.answer(w, q)
				}),
			}
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				server.Serve(pc) //nolint:errcheck // it ends when it is closed
			}()
			s := streams{
				addr: pc.LocalAddr().String(), queries: [][]byte{framed(appendQuery(nil, 0, "h1.example.test"))},
				tls: &tls.Config{RootCAs: authority.Pool(), ServerName: "dns.example", NextProtos: []string{http3.NextProtoH3}},
			}
			places := make(chan struct{}, queries) // one for each query
			for range queries {
				places <- struct{}{}
			}
			got, err := s.connectHTTP3(t.Context(), 0, func() bool {
				select {
				case <-places:
					return true
				default:
					return false
				}
			})
			got.Latency = 0
			if err != nil || got != tt.want {
				t.Errorf("got %+v, %v; want %+v", got, err, tt.want)
			}
			server.Close()
			pc.Close()
			<-ended
		})
	}
}
