//go:build !race

package upstream

import (
	"testing"

	"github.com/weirdns/weir/host/message"
)

// TestAllocations: a query whose socket is there already needs no memory. Each 32nd opens a socket, at 22 allocations, which
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
