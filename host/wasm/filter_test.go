package wasm

import (
	"context"
	"encoding/json"
	"errors"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/weirdns/weir/abi"
	"github.com/weirdns/weir/host/chain"
	"github.com/weirdns/weir/host/message"
	"github.com/weirdns/weir/host/rescue"
)

// A call allocates nothing: not in the query phase, not in the response phase, and not with host functions.
func TestCallAllocates(t *testing.T) {
	module := guest(t, `(import "weir" "table_longest" (func $longest (param i32 i32 i32 i32 i32) (result i64)))
		(import "weir" "metric" (func $metric (param i32 i32 i32) (result i32)))
		(import "weir" "metric_add" (func $add (param i32 f64)))
		(import "weir" "explain" (func $explain (param i32 i32)))
		(data (i32.const 80000) "queries")
		(func (export "configure") (param i32) (result i64) (drop (call $metric (i32.const 0) (i32.const 80000) (i32.const 7))) (i64.const 0x103FFFFFF))
		(func $work
			(drop (call $longest (i32.const 0) (i32.const 1152) (i32.load16_u (i32.const 1052)) (i32.const 90000) (i32.const 1000)))
			(call $explain (i32.const 80000) (i32.const 7))
			(call $add (i32.const 0) (f64.const 1)))
		(func (export "query") (result i64) (call $work) (i64.const 0))
		(func (export "response") (result i64) (call $work) (i64.const 0))`)
	module = withSchema(t, module, `{"properties":{"table":{"format":"weir-table"}}}`)
	f, err := newRig(t, 0).Open(t.Context(), "test", Config{Config: map[string]any{"table": "cluster"}},
		Environment{Module: module, Bundled: true, Tables: map[string]Table{"cluster": fakeTable{}}})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for name, c := range map[string]*chain.Call{"query": query(t), "response": response(t, message.NOERROR)} {
		if n := testing.AllocsPerRun(1000, func() {
			if _, err := f.Call(c); err != nil {
				t.Error(err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations per call, want 0", name, n)
		}
	}
}

// A memory that grows does not move: the frame that the host keeps is the one that the guest has.
func TestMemoryGrows(t *testing.T) {
	f := newRig(t, 0).open(t, guest(t, `(func (export "query") (result i64)
		(drop (memory.grow (i32.const 1)))
		(memory.fill (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 65536)) (i32.const 0x55) (i32.const 65536))
		(i64.store (i32.const 1040) (i64.add (i64.load (i32.const 1040)) (i64.extend_i32_u (memory.size))))
		(i64.const 0))`), Config{Memory: 1 << 20})
	c := query(t)
	most := uint64(0)
	for range 100 {
		c.Cookie = 1000
		if _, err := f.Call(c); err != nil {
			t.Fatal(err)
		}
		most = max(most, c.Cookie-1000)
	}
	if want := uint64(1 << 20 / pageSize); most != want {
		t.Errorf("the memory grew to %d pages, want %d", most, want)
	}
	if got, want := f.memory.Load(), int64(f.pool.live.Load())<<20; got > want {
		t.Errorf("the instances have %d octets, want at most %d", got, want)
	}
}

// Whatever faults take is made again by Run, and calls at the same time go on.
func TestRunReplaces(t *testing.T) {
	r := newRig(t, 0)
	// Traps when the cookie is odd.
	f := r.open(t, guest(t, `(func (export "query") (result i64) (if (i32.and (i32.load (i32.const 1040)) (i32.const 1)) (then unreachable)) (i64.const 0))`), Config{})
	ctx, cancel := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	wait.Go(func() { r.Run(ctx) })
	var callers sync.WaitGroup
	for caller := range 4 {
		callers.Go(func() {
			for n := range 2000 {
				c := query(t)
				if c.Cookie = 0; n%50 == 49 && caller == 0 {
					c.Cookie = 1
				}
				_, err := f.Call(c)
				for errors.Is(err, errBusy) && t.Context().Err() == nil { // traps are faster than new instances
					runtime.Gosched()
					_, err = f.Call(c)
				}
				if c.Cookie == 1 && err == nil {
					t.Error("a trap without an error")
				}
				if c.Cookie == 0 && err != nil {
					t.Errorf("a call fails because others do: %v", err)
				}
			}
		})
	}
	callers.Wait()
	for f.pool.live.Load() < f.target.Load() && t.Context().Err() == nil {
		runtime.Gosched()
	}
	cancel()
	wait.Wait()
	if got := testutil.ToFloat64(f.faults[causeTrap]); got != 40 {
		t.Errorf("%v traps are counted, want 40", got)
	}
}

// When no new instance can be made any more, Run does not try for ever: the filter goes to quarantine. When it can, the filter recovers.
func TestRunGivesUp(t *testing.T) {
	turn := &clock{now: time.Unix(1e9, 0)}
	r := newRig(t, 0, func(c *RuntimeConfig) { c.Now = turn.Now })
	// configure traps in the second of 1e9 + 10; query always does before that.
	f := r.open(t, guest(t, `(import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
		(func $now (result i64) (drop (call $clock (i32.const 0) (i64.const 0) (i32.const 80000))) (i64.div_u (i64.load (i32.const 80000)) (i64.const 1000000000)))
		(func (export "configure") (param i32) (result i64) (if (i64.eq (call $now) (i64.const 1000000010)) (then unreachable)) (i64.const 0x100000000))
		(func (export "query") (result i64) (if (i64.le_u (call $now) (i64.const 1000000010)) (then unreachable)) (i64.const 0))`), Config{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wait sync.WaitGroup
	wait.Go(func() { r.Run(ctx) })
	turn.advance(10 * time.Second)
	for !f.quarantine.active() && t.Context().Err() == nil {
		_, _ = f.Call(query(t)) // traps, then finds no instance
		runtime.Gosched()
	}
	if n := f.pool.live.Load(); n != 0 {
		t.Errorf("%d instances live", n)
	}
	for t.Context().Err() == nil {
		turn.advance(time.Minute)
		if _, err := f.Call(query(t)); err == nil {
			break
		}
		runtime.Gosched()
	}
	if f.quarantine.active() {
		t.Error("a call without fault does not end the quarantine")
	}
	cancel()
	wait.Wait()
}

// Close and calls at the same time leave nothing.
func TestCloseHammer(t *testing.T) {
	r := newRig(t, 0)
	module := guest(t, `(func (export "query") (result i64) (i64.const 0))`)
	for range 20 {
		f, err := r.Open(t.Context(), "test", Config{}, Environment{Module: module, Bundled: true})
		if err != nil {
			t.Fatal(err)
		}
		var wait sync.WaitGroup
		for range 4 {
			c := query(t)
			wait.Go(func() {
				for range 500 {
					_, _ = f.Call(c) // busy, once it is closed
				}
			})
		}
		f.Close()
		wait.Wait()
		if n, live := f.memory.Load(), f.pool.live.Load(); n != 0 || live != 0 {
			t.Fatalf("%d octets and %d instances are left", n, live)
		}
	}
}

func TestQuarantine(t *testing.T) {
	turn := &clock{now: time.Unix(1e9, 0)}
	r := newRig(t, 0, func(c *RuntimeConfig) { c.Now = turn.Now })
	f := r.open(t, guest(t, `(func (export "query") (result i64) (if (i32.and (i32.load (i32.const 1040)) (i32.const 1)) (then unreachable)) (i64.const 0))`), Config{})
	call := func(cookie uint64) error {
		t.Helper()
		if err := f.fill(); err != nil {
			t.Fatal(err)
		}
		c := query(t)
		c.Cookie = cookie
		_, err := f.Call(c)
		return err
	}
	const good, bad = 0, 1
	for range faultsInRow - 1 {
		_ = call(bad)
	}
	if err := call(good); err != nil {
		t.Fatalf("after 7 faults: %v", err)
	}
	for range faultsInRow {
		if err := call(bad); !errors.Is(err, errTrap) {
			t.Fatalf("before quarantine: %v", err)
		}
	}
	// In quarantine: after 1, 2, 4 ... 60 s one call is let through.
	for _, wait := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
		turn.advance(wait*time.Second - 1)
		if err := call(good); !errors.Is(err, errQuarantined) {
			t.Fatalf("just before %d s: %v, want no call", wait, err)
		}
		turn.advance(1)
		if err := call(bad); !errors.Is(err, errTrap) {
			t.Fatalf("after %d s: %v, want a try", wait, err)
		}
		if err := call(good); !errors.Is(err, errQuarantined) {
			t.Fatalf("after a try that failed: %v, want no call", err)
		}
	}
	turn.advance(60 * time.Second)
	for range 3 {
		if err := call(good); err != nil {
			t.Fatalf("out of quarantine: %v", err)
		}
	}
	// More than half of 64, without eight in a row.
	n := 0
	for ; n < 200 && !f.quarantine.active(); n++ {
		_ = call(uint64(min(n%4, 1))) // good, bad, bad, bad
	}
	if n < faultsOf64 || n > 64 {
		t.Errorf("quarantine after %d calls of which three of four failed, want it after %d to 64", n, faultsOf64)
	}
	if got := strings.Count(r.log.String(), "keeps failing"); got != 2 {
		t.Errorf("%d lines about entering quarantine, want 2", got)
	}
	if got := strings.Count(r.log.String(), "works again"); got != 1 {
		t.Errorf("%d lines about leaving quarantine, want 1", got)
	}
	// It relapsed at once, so the times go on where they were.
	turn.advance(59 * time.Second)
	if err := call(good); !errors.Is(err, errQuarantined) {
		t.Errorf("59 s after a relapse: %v, want no call", err)
	}
}

// withSchema gives a module of guest another manifest: with this schema.
func withSchema(t testing.TB, module []byte, schema string) []byte {
	t.Helper()
	m, err := abi.ReadManifest(module)
	if err != nil {
		t.Fatal(err)
	}
	m.Schema = json.RawMessage(schema)
	module, err = abi.AppendManifest(module, m)
	if err != nil {
		t.Fatal(err)
	}
	return module
}

// A panic costs a filter the instance that was being made, or its opening; Run and the others go on.
func TestFaultX24Filters(t *testing.T) {
	panics := prometheus.NewCounter(prometheus.CounterOpts{Name: "panics"})
	r := newRig(t, 0, func(c *RuntimeConfig) { c.Guard = &rescue.Guard{Log: c.Log, Count: panics} })
	f := r.open(t, guest(t, `(func (export "query") (result i64) unreachable)`), Config{})
	ctx, cancel := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	wait.Go(func() { r.Run(ctx) })
	r.wanted <- nil // there is no such filter
	for testutil.ToFloat64(panics) < 1 && t.Context().Err() == nil {
		runtime.Gosched()
	}
	if _, err := f.Call(query(t)); err == nil {
		t.Error("a trap without an error")
	}
	for f.pool.live.Load() < f.target.Load() && t.Context().Err() == nil {
		runtime.Gosched()
	}
	cancel()
	wait.Wait()

	engine := r.engine
	r.engine = nil // so that compiling panics
	other := guest(t, `(func (export "query") (result i64) (i64.const 0))`)
	env := Environment{Module: other, Bundled: true}
	if _, err := r.Open(t.Context(), "other", Config{}, env); err == nil || !strings.Contains(err.Error(), errPanic.Error()) {
		t.Errorf("Open: got %v, want an error that says %q", err, errPanic)
	}
	r.engine = engine
	if f, err := r.Open(t.Context(), "other", Config{}, env); err != nil {
		t.Errorf("Open, the next time: %v", err)
	} else {
		f.Close()
	}
	if got := testutil.ToFloat64(panics); got != 2 {
		t.Errorf("%v panics are counted, want 2", got)
	}
}
