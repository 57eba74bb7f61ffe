//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/weirdns/weir/host/internal/testcert"
)

// serveStreams is a server that gives each query to answer, behind its length, and sends what that returns. nil resets the stream.
func serveStreams(t *testing.T, answer func(query []byte) []byte) (addr string, client *tls.Config) {
	t.Helper()
	authority := testcert.New(t)
	cert, err := tls.LoadX509KeyPair(authority.Write(t.TempDir(), "dns.example"))
	if err != nil {
		t.Fatal(err)
	}
	ln, err := quic.ListenAddr("127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"doq"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept(context.Background())
			if err != nil {
				return
			}
			go func() {
				for {
					s, err := conn.AcceptStream(context.Background())
					if err != nil {
						return
					}
					query, _ := io.ReadAll(s) // what is not all of it makes no response
					response := answer(query)
					if response == nil {
						s.CancelWrite(0)
						continue
					}
					s.Write(response)
					s.Close()
				}
			}()
		}
	}()
	return ln.Addr().String(), &tls.Config{RootCAs: authority.Pool(), ServerName: "dns.example", NextProtos: []string{"doq"}}
}

// answerFramed answers a query behind its length as the upstreams do.
func answerFramed(query []byte, mode string) []byte {
	m := make([]byte, 512)
	size := answer(m, copy(m, query[2:]), mode)
	return append(binary.BigEndian.AppendUint16(nil, uint16(size)), m[:size]...)
}

func TestExchangeOverQUIC(t *testing.T) {
	query := appendQuery([]byte{0, 0}, 0, "h1.example.test")
	binary.BigEndian.PutUint16(query, uint16(len(query)-2))
	for _, tt := range []struct {
		name   string
		answer func(query []byte) []byte
		rcode  int
		good   bool
	}{
		{"an answer", func(q []byte) []byte { return answerFramed(q, answers) }, 0, true},
		{"a name that there isn't", func(q []byte) []byte { return answerFramed(q, nxdomain) }, rcodeNXDOMAIN, true},
		{"the query itself", bytes.Clone, 0, false},
		{"half of it", func(q []byte) []byte { return answerFramed(q, answers)[:20] }, 0, false},
		{"octets behind it", func(q []byte) []byte { return append(answerFramed(q, answers), 0) }, 0, false},
		{"too many octets", func(q []byte) []byte { return make([]byte, 1<<14) }, 0, false},
		{"another question", func(q []byte) []byte { return answerFramed(bytes.Replace(q, []byte("h1"), []byte("h2"), 1), answers) }, 0, false},
		{"another ID", func(q []byte) []byte { r := answerFramed(q, answers); r[3] = 1; return r }, 0, false},
		{"nothing", func([]byte) []byte { return []byte{} }, 0, false},
		{"a stream that is reset", func([]byte) []byte { return nil }, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			addr, config := serveStreams(t, tt.answer)
			conn, err := quic.DialAddr(t.Context(), addr, config, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.CloseWithError(0, "")
			got, err := exchange(conn, query, make([]byte, 2+datagramSize), time.Now())
			if got != tt.rcode || (err == nil) != tt.good {
				t.Errorf("got RCODE %d, %v; want %d, good %v", got, err, tt.rcode, tt.good)
			}
		})
	}
}

// TestStreams: each query is counted once, by what became of it.
func TestStreams(t *testing.T) {
	addr, config := serveStreams(t, func(q []byte) []byte {
		switch {
		case bytes.Contains(q, []byte("lost")):
			return nil
		case bytes.Contains(q, []byte("none")):
			return answerFramed(q, nxdomain)
		}
		return answerFramed(q, answers)
	})
	list := filepath.Join(t.TempDir(), "list")
	if err := os.WriteFile(list, []byte("good.test A\nlost.test A\nnone.test A\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	queries, err := readQueries(list)
	if err != nil {
		t.Fatal(err)
	}
	if len(queries) != 3 {
		t.Fatalf("got %d queries, want 3", len(queries))
	}
	conn, err := quic.DialAddr(t.Context(), addr, config, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseWithError(0, "")
	s := streams{addr: addr, tls: config, queries: queries, time: time.Second}
	var got tally
	// The clock says when it is enough: 30 queries.
	asked := 0
	overQUIC := func(query, buf []byte, begun time.Time) (int, error) { return exchange(conn, query, buf, begun) }
	err = s.ask(conn, overQUIC, 0, &got, func() bool { asked++; return asked <= 30 })
	got.Latency = 0
	if want := (tally{Sent: 30, Completed: 20, Lost: 10, Noerror: 10}); err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	conn.CloseWithError(0, "")
	var closed *quic.ApplicationError
	if err := s.ask(conn, overQUIC, 0, &got, func() bool { return true }); !errors.As(err, &closed) {
		t.Errorf("a connection that has ended: got %v", err)
	}
}

func TestReadQueries(t *testing.T) {
	list := filepath.Join(t.TempDir(), "list")
	if err := os.WriteFile(list, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{list, list + "-that-is-not-there"} {
		if got, err := readQueries(path); err == nil {
			t.Errorf("%s: got %x, want an error", path, got)
		}
	}
}
