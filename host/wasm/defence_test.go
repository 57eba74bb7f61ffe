package wasm

import (
	"errors"
	"strings"
	"testing"

	"github.com/weirdns/weir/host/chain"
)

// Each defence has an attack that it stops and that succeeds without it. The attacks are those of TestHostileFilters, with an end, so that this
// test has one.
func TestDefences(t *testing.T) {
	const (
		yield  = "(import \"wasi_snapshot_preview1\" \"sched_yield\" (func $yield (result i32)))\n"
		random = "(import \"wasi_snapshot_preview1\" \"random_get\" (func $random (param i32 i32) (result i32)))\n"
		log    = "(import \"weir\" \"log\" (func $log (param i32 i32 i32)))\n"
	)
	// times runs body n times.
	times := func(n, body string) string {
		return `(func (export "query") (result i64) (local $n i32) (loop $l ` + body +
			` (br_if $l (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const ` + n + `)))) (i64.const 0))`
	}
	for _, tt := range []struct {
		name, fields string
		off          defence
		cause        string
	}{
		{"fuel", times("20000000", ""), offMeter, "fuel"},
		{"fuel for memory.fill", times("2000", `(memory.fill (i32.const 70000) (i32.const 1) (i32.const 60000))`), offMeter, "fuel"},
		{"fuel for memory.copy", times("2000", `(memory.copy (i32.const 70000) (i32.const 70001) (i32.const 60000))`), offMeter, "fuel"},
		{"depth", `(func $f (param i32) (result i32) (if (result i32) (local.get 0) (then (i32.add (call $f (i32.sub (local.get 0) (i32.const 1))) (i32.const 1))) (else (i32.const 0))))
			(func (export "query") (result i64) (drop (call $f (i32.const 100000))) (i64.const 0))`, offMeter, "stack"},
		{"limit of tables", `(table $t 1 funcref) (func (export "query") (result i64)
			(if (i32.lt_s (table.grow $t (ref.null func) (i32.const 2000000)) (i32.const 0)) (then unreachable)) (i64.const 0))`, offMeter, "trap"},
		{"host calls", yield + times("5000", `(drop (call $yield))`), offHostCalls, "host_calls"},
		{"host octets", random + times("50", `(drop (call $random (i32.const 0) (i32.const 100000)))`), offHostOctets, "host_calls"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newRig(t, 0).open(t, guest(t, tt.fields), small)
			attack(t, f, tt.cause)
			if f := newRig(t, tt.off).open(t, guest(t, tt.fields), small); true {
				if v, err := f.Call(query(t)); err != nil || v != (chain.Verdict{}) {
					t.Errorf("without the defence, Call = %+v, %v; want the attack to succeed", v, err)
				}
			}
		})
	}
	t.Run("log rate", func(t *testing.T) {
		for off, want := range map[defence]int{0: 10, offLogRate: 50} {
			r := newRig(t, off, stopped)
			f := r.open(t, guest(t, log+times("50", `(call $log (i32.const 1) (i32.const 0) (i32.const 8))`)), Config{})
			if _, err := f.Call(query(t)); err != nil {
				t.Fatal(err)
			}
			if got := strings.Count(r.log.String(), "level=INFO"); got != want {
				t.Errorf("defence %v: %d lines are logged, want %d", off == 0, got, want)
			}
			f.Close()
			if counted := strings.Contains(r.log.String(), "lines=40"); counted != (off == 0) {
				t.Errorf("defence %v: the lines that were left out are counted: %v\n%s", off == 0, counted, r.log)
			}
		}
	})
	t.Run("imports without grant", func(t *testing.T) {
		module := assemble(t, `(import "weir" "table_get" (func (param i32 i32 i32 i32 i32) (result i64)))
			(memory (export "memory") 2) (func (export "weir_abi_1") (result i32) (i32.const 1024)) (func (export "query") (result i64) (i64.const 0))
			(@custom "weir" "{\"name\":\"test\",\"version\":\"1.0.0\",\"abi\":1}")`)
		_, err := newRig(t, 0).Open(t.Context(), "test", Config{}, Environment{Module: module})
		if err == nil {
			t.Error("the import is allowed")
		}
		newRig(t, offImports).open(t, module, Config{})
	})
	t.Run("memory at once", func(t *testing.T) {
		module := assemble(t, `(memory (export "memory") 200) (func (export "weir_abi_1") (result i32) (i32.const 1024)) (func (export "query") (result i64) (i64.const 0))
			(@custom "weir" "{\"name\":\"test\",\"version\":\"1.0.0\",\"abi\":1}")`)
		open := func(off defence, c Config) error {
			f, err := newRig(t, off).Open(t.Context(), "test", c, Environment{Module: module, Bundled: true})
			if err == nil {
				f.Close()
			}
			return err
		}
		if err := open(0, small); err == nil || !strings.Contains(err.Error(), "raise memory") {
			t.Errorf("Open: %v, want it refused", err)
		}
		// There are three of them: this one, the limit that metering writes, and the address space that is reserved.
		if err := open(offMemory, small); err == nil || !strings.Contains(err.Error(), "200 pages") {
			t.Errorf("Open without admission: %v, want it refused by metering", err)
		}
		if err := open(offMemory|offMeter, small); err == nil || !strings.Contains(err.Error(), "no memory") {
			t.Errorf("Open without admission and metering: %v, want it refused by the allocator", err)
		}
		if err := open(0, Config{Memory: 16 << 20}); err != nil {
			t.Errorf("Open with enough memory: %v", err)
		}
	})
	t.Run("panic of the host", func(t *testing.T) {
		module := guest(t, `(import "weir" "table_get" (func $get (param i32 i32 i32 i32 i32) (result i64)))
			(func (export "configure") (param i32) (result i64) (i64.const 0x100000000))
			(func (export "query") (result i64) (drop (call $get (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 1))) (i64.const 0))`)
		for off, want := range map[defence]string{0: "panic", offRecover: "trap"} {
			r := newRig(t, off)
			f := r.open(t, module, Config{})
			f.document.tables = []Table{nil} // so that looking into it panics
			for n := range f.pool.slots {
				if i := f.pool.slots[n].instance; i != nil {
					i.tables = make([]Snapshot, 2)
				}
			}
			attack(t, f, want)
			if logged := strings.Contains(r.log.String(), "this is a mistake in weir"); logged != (off == 0) {
				t.Errorf("defence %v: the panic is logged: %v", off == 0, logged)
			}
		}
	})
	t.Run("locals times blocks", func(t *testing.T) {
		module := bomb(t, 3333, 10000)
		if size := len(module); size < 100<<10 || size > 250<<10 {
			t.Errorf("the bomb has %d octets", size)
		}
		a := admission{pages: 128, bodies: true}
		if _, err := a.admit(module); err == nil {
			t.Error("the bomb is admitted")
		}
		a.skipped = offWork
		if _, err := a.admit(module); err != nil {
			t.Errorf("without the defence: %v", err)
		}
	})
	t.Run("child", func(t *testing.T) {
		if testing.Short() {
			t.Skip("takes 5 s of CPU")
		}
		before := rss(t)
		module := bomb(t, 3333, 10000)
		// Metering would refuse it, too: its frame is too large.
		_, err := newRig(t, offWork|offMeter).Open(t.Context(), "test", Config{Grants: grantsOf(module)}, Environment{Module: module})
		// Under the race detector, which has much memory of its own, the limit of memory may come first.
		if err == nil || !strings.Contains(err.Error(), "compiling took more than") && (slowdown == 1 || !strings.Contains(err.Error(), "compiling it ended with")) {
			t.Errorf("Open: %v, want that compiling took too much", err)
		}
		if grown := rss(t) - before; grown > 64<<20 {
			t.Errorf("memory of this process grew by %d KiB", grown>>10)
		}
	})
	t.Run("quarantine", func(t *testing.T) {
		module := guest(t, `(func (export "query") (result i64) unreachable)`)
		for off, want := range map[defence]int{0: faultsInRow, offQuarantine: 20} {
			f := newRig(t, off, stopped).open(t, module, Config{})
			trapped := 0
			for range 20 {
				if err := f.fill(); err != nil {
					t.Fatal(err)
				}
				if _, err := f.Call(query(t)); errors.Is(err, errTrap) {
					trapped++
				}
			}
			if trapped != want {
				t.Errorf("defence %v: the filter was called %d times, want %d", off == 0, trapped, want)
			}
		}
	})
}
