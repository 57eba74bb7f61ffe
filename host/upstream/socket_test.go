package upstream

import (
	"bytes"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/weirdns/weir/host/message"
)

// unread is a socket of a server that nobody reads.
func unread(t testing.TB) (*Group, *socket) {
	t.Helper()
	g, err := New("test", Config{Servers: []string{ip1}}, Env{})
	if err != nil {
		t.Fatal(err)
	}
	return g, &socket{server: (*g.servers.Load())[0], conn: &reader{}, opened: time.Now()}
}

// tryOf is a try of an exchange that looks at no outcome.
func tryOf(g *Group, k *socket) *try {
	x := newExchange(g)
	x.ended = true
	x.refs.Store(100)
	t := &x.tries[0]
	t.server, t.out = k.server, make([]byte, 14)
	return t
}

// waitsFor returns the try that waits for a message with an ID, nil if there is none.
func waitsFor(k *socket, id uint16) *try {
	if p := k.find(id); p.nth != 0 {
		return k.tries[p.nth-1]
	}
	return nil
}

// TestSocketTable fills a socket: each try has an ID of its own, is found by it, and its ID is not used again when it has gone.
func TestSocketTable(t *testing.T) {
	g, k := unread(t)
	seen := map[uint16]bool{}
	for i := range socketUses {
		u := tryOf(g, k)
		if !k.add(u, k.opened) {
			t.Fatalf("no room for try %d", i)
		}
		if seen[u.id] {
			t.Errorf("ID %d is used twice", u.id)
		}
		seen[u.id] = true
		if waitsFor(k, u.id) != u {
			t.Errorf("ID %d leads to another try", u.id)
		}
		if i%2 == 0 {
			k.take(u)
		}
		if used, waits := k.find(u.id).nth != 0, waitsFor(k, u.id) != nil; !used || waits != (i%2 != 0) {
			t.Errorf("ID %d: used %t, waited for %t, want true and %t", u.id, used, waits, i%2 != 0)
		}
	}
	if u := tryOf(g, k); k.add(u, k.opened) {
		t.Errorf("a socket takes more than %d tries", socketUses)
	}
	if k.waiting != socketUses/2 {
		t.Errorf("%d tries wait, want %d", k.waiting, socketUses/2)
	}
}

// TestSocketSpent has the reasons why a socket takes no more queries, while those that wait go on waiting.
func TestSocketSpent(t *testing.T) {
	for _, tt := range []struct {
		name   string
		happen func(k *socket, other *try)
		after  time.Duration
	}{
		{"age", func(*socket, *try) {}, socketAge + 1},
		{"a query without a response", func(k *socket, other *try) { k.drop(other) }, 0},
		{"a response that does not match", func(k *socket, _ *try) { k.mismatch(nil) }, 0},
		{"retired", func(k *socket, _ *try) { k.retire() }, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g, k := unread(t)
			waits, other := tryOf(g, k), tryOf(g, k)
			for _, u := range []*try{waits, other} {
				if !k.add(u, k.opened) {
					t.Fatal("a new socket has no room")
				}
			}
			tt.happen(k, other)
			if u := tryOf(g, k); k.add(u, k.opened.Add(tt.after)) {
				t.Errorf("the socket takes another query")
			}
			if k.ended || waitsFor(k, waits.id) != waits {
				t.Errorf("who waits is not waited for any more")
			}
			if !k.drop(waits) || k.drop(waits) {
				t.Errorf("want drop to find the try once")
			}
			k.drop(other)
			if !k.ended {
				t.Errorf("the socket stays open, and nobody waits")
			}
		})
	}
}

// TestPortsOfTries: the tries of one query have different ports, so that a forger who has found one has to find the others as well.
func TestPortsOfTries(t *testing.T) {
	var mu sync.Mutex
	ports := map[uint16]int{}
	tries := 0
	addr := script(t, func(query []byte, send func([]byte), client netip.AddrPort) {
		if bytes.Contains(query, []byte(loopPrefix)) {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		ports[client.Port()]++
		if tries++; tries == maxTries {
			send(answer(query, "192.0.2.1"))
		}
	}, nil)
	g := group(t, Config{Servers: []string{addr.String()}, MaxFails: -1}, Env{})
	if got, want := askName(t, g, "www.test."), "NOERROR 192.0.2.1"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(ports) != maxTries {
		t.Errorf("%d tries came from the ports %v, want %d ports", tries, ports, maxTries)
	}
}

// TestStart has many queries at a time whose answers nobody waits for, in batches.
func TestStart(t *testing.T) {
	g := group(t, Config{Servers: []string{echo(t).String()}}, Env{})
	const queries = 500
	var all sync.WaitGroup
	var batch message.Batch
	for range queries {
		q := query(t, "www.test.", message.TypeA)
		transaction := &message.Transaction{Query: q, Batch: &batch}
		all.Add(1)
		transaction.Done = func() {
			if transaction.Err != nil || !message.EqualName(transaction.Response.Message[12:12+len(q.Name)], q.Name) {
				t.Errorf("got %x, error %v", transaction.Response.Message, transaction.Err)
			}
			all.Done()
		}
		if g.Start(transaction) {
			t.Errorf("ended at once: %v", transaction.Err)
			all.Done()
		}
	}
	batch.Flush()
	all.Wait()
}
