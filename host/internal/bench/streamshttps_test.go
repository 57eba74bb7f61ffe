//go:build linux

package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestStreamsOverHTTPS: each query is counted once, by what became of it, and there are no more of them at a time than there may be.
func TestStreamsOverHTTPS(t *testing.T) {
	const queries = 3000 // the window of a connection is for less
	for _, tt := range []struct {
		name   string
		answer func(w http.ResponseWriter, query []byte)
		want   tally
	}{
		{"answers", func(w http.ResponseWriter, q []byte) { w.Write(answerFramed(framed(q), answers)[2:]) },
			tally{Sent: queries, Completed: queries, Noerror: queries}},
		{"names that there aren't", func(w http.ResponseWriter, q []byte) { w.Write(answerFramed(framed(q), nxdomain)[2:]) },
			tally{Sent: queries, Completed: queries}},
		{"an answer in two frames", func(w http.ResponseWriter, q []byte) {
			m := answerFramed(framed(q), answers)[2:]
			w.Write(m[:5])
			w.(http.Flusher).Flush()
			w.Write(m[5:])
		}, tally{Sent: queries, Completed: queries, Noerror: queries}},
		{"another status", func(w http.ResponseWriter, q []byte) {
			w.WriteHeader(http.StatusBadGateway)
			w.Write(answerFramed(framed(q), answers)[2:])
		}, tally{Sent: queries, Lost: queries}},
		{"no content", func(http.ResponseWriter, []byte) {}, tally{Sent: queries, Lost: queries}},
		{"another question", func(w http.ResponseWriter, q []byte) {
			w.Write(answerFramed(framed(bytes.Replace(q, []byte("h1"), []byte("h2"), 1)), answers)[2:])
		}, tally{Sent: queries, Lost: queries}},
		{"streams that are reset", func(http.ResponseWriter, []byte) { panic(http.ErrAbortHandler) }, tally{Sent: queries, Lost: queries}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			places := make(chan struct{}, streamsInFlight)
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				select {
				case places <- struct{}{}:
					defer func() { <-places }()
				default:
					t.Errorf("more than %d queries are on their way", streamsInFlight)
				}
				q, err := base64.RawURLEncoding.DecodeString(r.FormValue("dns"))
				if err != nil || r.ProtoMajor != 2 || r.Header.Get("Accept") != "application/dns-message" {
					t.Errorf("got %s %s %v, %v", r.Proto, r.URL, r.Header, err)
				}
				tt.answer(w, q)
			}))
			server.EnableHTTP2 = true
			server.StartTLS()
			defer server.Close()
			config := server.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
			config.NextProtos = []string{"h2"}
			s := streams{addr: server.Listener.Addr().String(), tls: config, queries: [][]byte{framed(appendQuery(nil, 0, "h1.example.test"))}}
			asked := 0
			got, err := s.connectHTTPS(t.Context(), 0, func() bool {
				more := asked < queries
				if more {
					asked++
				}
				return more
			})
			got.Latency = 0
			if err != nil || got != tt.want {
				t.Errorf("got %+v, %v; want %+v", got, err, tt.want)
			}
		})
	}
}

// TestGoAway: a server that ends a connection makes the measurement fail.
func TestGoAway(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Connection", "close") }))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	config := server.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	config.NextProtos = []string{"h2"}
	s := streams{addr: server.Listener.Addr().String(), tls: config, queries: [][]byte{framed(appendQuery(nil, 0, "h1.example.test"))}}
	if got, err := s.connectHTTPS(t.Context(), 0, func() bool { return true }); !errors.Is(err, errGoAway) {
		t.Errorf("got %+v, %v; want %v", got, err, errGoAway)
	}
}

// framed puts a message behind its length.
func framed(m []byte) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(m))), m...) }
