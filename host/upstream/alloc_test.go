//go:build !race

package upstream

import (
	"net/netip"
	"testing"
	"time"

	"github.com/weirdns/weir/host/message"
)

// TestAllocations: a query whose socket is there already needs no memory. Each 256th opens a socket, at some 30 allocations, which
// AllocsPerRun rounds down to none. Under the race detector sync.Pool drops what it is given, at random.
func TestAllocations(t *testing.T) {
	g := group(t, Config{Servers: []string{echo(t).String()}}, Env{})
	q, dst := query(t, "www.test.", message.TypeA), make([]byte, 0, 512)
	if n := testing.AllocsPerRun(20*socketUses, func() {
		if _, err := g.Resolve(t.Context(), q, dst); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations for a query, want none", n)
	}
}

// TestCookieAllocations is the same with cookies. The server gives back all that it is shown, a server cookie as well.
func TestCookieAllocations(t *testing.T) {
	g := group(t, Config{Servers: []string{echo(t).String()}, Cookies: true}, Env{})
	q, dst := query(t, "www.test.", message.TypeA), make([]byte, 0, 512)
	s := (*g.servers.Load())[0]
	local := netip.MustParseAddrPort("127.0.0.1:0")
	client := g.secret.Client(local, s.addr, time.Now())
	s.cookies.learn(client, []byte("-server-"))
	if n := testing.AllocsPerRun(20*socketUses, func() {
		if _, err := g.Resolve(t.Context(), q, dst); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations for a query, want none", n)
	}
	if s.cookies.find(client) == nil {
		t.Errorf("no cookie was shown")
	}
}

// TestStartAllocations is the same for who does not wait.
func TestStartAllocations(t *testing.T) {
	g := group(t, Config{Servers: []string{echo(t).String()}}, Env{})
	done := make(chan struct{}, 1)
	transaction := &message.Transaction{Query: query(t, "www.test.", message.TypeA), Dst: make([]byte, 0, 512), Done: func() { done <- struct{}{} }}
	if n := testing.AllocsPerRun(20*socketUses, func() {
		transaction.Batch = nil
		if !g.Start(transaction) {
			<-done
		}
		if transaction.Err != nil {
			t.Fatal(transaction.Err)
		}
	}); n > 0 {
		t.Errorf("%v allocations for a query, want none", n)
	}
}
