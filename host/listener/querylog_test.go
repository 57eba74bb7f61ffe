package listener

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weirdns/weir/host/chain"
	"github.com/weirdns/weir/host/message"
	"github.com/weirdns/weir/host/querylog"
)

// atOnce answers every query with an RCODE.
type atOnce struct{}

func (atOnce) Begin(x *chain.Exchange) bool {
	x.Dropped = strings.HasPrefix(message.NameString(x.Query.Key), "drop.")
	x.Response.SetRCODE(x.Response.Message[:0], &x.Query, message.NXDOMAIN)
	return true
}

func (atOnce) Complete(context.Context, *chain.Exchange) {}

// entranceFor returns the UDP side of a listener whose queries are logged.
func entranceFor(t *testing.T, handler chain.Handler, queries *querylog.Log) *entrance {
	t.Helper()
	l, err := New(Config{Address: "127.0.0.1:0", Chain: "main"}, 0, handler, Env{Queries: queries})
	if err != nil {
		t.Fatal(err)
	}
	return l.udpIn
}

// counted answers without an allocation of its own.
type counted struct{ buf [512]byte }

func (c *counted) Begin(x *chain.Exchange) bool {
	x.Response.SetRCODE(c.buf[:0], &x.Query, message.NXDOMAIN)
	return true
}

func (c *counted) Complete(context.Context, *chain.Exchange) {}

// Neither what is counted of a query nor its line in the log costs an allocation.
func TestObservedQueriesDoNotAllocate(t *testing.T) {
	for _, tt := range []struct {
		name    string
		queries *querylog.Log
	}{
		{"counted", nil},
		{"counted and logged", querylog.New("", querylog.JSON, nil, slog.New(slog.DiscardHandler))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := entranceFor(t, new(counted), tt.queries)
			j := e.jobs.get()
			msg, client := query(7, "www.example.com.", true), netip.MustParseAddrPort("192.0.2.1:5353")
			if n := testing.AllocsPerRun(1000, func() {
				if out, done := e.begin(j, msg, true, client, time.Now()); !done || out == nil {
					t.Fatal("no response")
				}
			}); n != 0 {
				t.Errorf("%v allocations, want 0", n)
			}
		})
	}
}

func TestQueryLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queries.log")
	queries := querylog.New(path, querylog.CoreDNS, nil, slog.New(slog.DiscardHandler))
	e := entranceFor(t, atOnce{}, queries)
	j := e.jobs.get()
	client := netip.MustParseAddrPort("192.0.2.1:5353")
	for _, msg := range [][]byte{
		query(7, "WWW.example.com.", true),
		query(8, "drop.example.", false),
		append(query(9, "behind.example.", false), 0), // an octet too many: FORMERR
		{1, 2, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0},       // a response: not a query, and not logged
	} {
		e.begin(j, msg, true, client, time.Now())
	}
	if err := queries.Open(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	queries.Run(ctx)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	want := []string{
		`[INFO] 192.0.2.1:5353 - 7 "A IN www.example.com. udp 44 false 1232" NXDOMAIN qr,rd,ra 44 `,
		`[INFO] 192.0.2.1:5353 - 8 "A IN drop.example. udp 30 false 512" - - 0 `,
		`[INFO] 192.0.2.1:5353 - 9 "A IN behind.example. udp 33 false 512" FORMERR qr,rd,ra 32 `,
	}
	if len(lines) != len(want) {
		t.Fatalf("got %d lines, want %d:\n%s", len(lines), len(want), text)
	}
	for i := range want {
		if !strings.HasPrefix(lines[i], want[i]) {
			t.Errorf("got  %s\nwant %s", lines[i], want[i])
		}
	}
}
