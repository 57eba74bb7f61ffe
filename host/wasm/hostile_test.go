package wasm

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weirdns/weir/host/chain"
)

// Filters that attack the host while they run. Each ends in an error that names the cause, within the memory that it was allowed, and
// leaves nothing behind. Without its defence each succeeds, as far as the test lets it: TestDefences.
var attacks = []struct {
	name, fields string
	cause        string // of the fault, or what the error of Open has in it
	atLoad       bool
}{
	{name: "endless loop", cause: "fuel", fields: `(func (export "query") (result i64) (loop $l (br $l)) (i64.const 0))`},
	{name: "endless loop of calls", cause: "fuel", fields: `(func $f (param i32) (result i32) (i32.add (local.get 0) (i32.const 1)))
		(func (export "query") (result i64) (local i32) (loop $l (local.set 0 (call $f (local.get 0))) (br $l)) (i64.const 0))`},
	{name: "endless recursion", cause: "stack", fields: `(func $f (param i64) (result i64) (i64.add (call $f (i64.add (local.get 0) (i64.const 1))) (i64.const 1)))
		(func (export "query") (result i64) (call $f (i64.const 0)))`},
	{name: "endless recursion through a table", cause: "stack", fields: `(type $t (func (result i64))) (table 1 funcref) (elem (i32.const 0) $f)
		(func $f (result i64) (i64.add (call_indirect (type $t) (i32.const 0)) (i64.const 1)))
		(func (export "query") (result i64) (call $f))`},
	{name: "memory.fill in a loop", cause: "fuel", fields: `(func (export "query") (result i64)
		(loop $l (memory.fill (i32.const 70000) (i32.const 1) (i32.const 60000)) (br $l)) (i64.const 0))`},
	{name: "memory.copy in a loop", cause: "fuel", fields: `(func (export "query") (result i64)
		(loop $l (memory.copy (i32.const 70000) (i32.const 70001) (i32.const 60000)) (br $l)) (i64.const 0))`},
	{name: "memory.grow bomb", cause: "fuel", fields: `(func (export "query") (result i64)
		(loop $l (drop (memory.grow (i32.const 1))) (memory.fill (i32.const 70000) (i32.const 1) (i32.const 60000)) (br $l)) (i64.const 0))`},
	{name: "table.grow bomb", cause: "fuel", fields: `(table $t 1 funcref) (func (export "query") (result i64)
		(loop $l (drop (table.grow $t (ref.null func) (i32.const 100000))) (br $l)) (i64.const 0))`},
	{name: "flood of host calls", cause: "host_calls", fields: `(import "weir" "explain" (func $explain (param i32 i32)))
		(func (export "query") (result i64) (loop $l (call $explain (i32.const 0) (i32.const 16)) (br $l)) (i64.const 0))`},
	{name: "flood of WASI calls", cause: "host_calls", fields: `(import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
		(func (export "query") (result i64) (loop $l (drop (call $yield)) (br $l)) (i64.const 0))`},
	{name: "flood of octets", cause: "host_calls", fields: `(import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
		(func (export "query") (result i64) (loop $l (drop (call $random (i32.const 0) (i32.const 100000))) (br $l)) (i64.const 0))`},
	{name: "trap", cause: "trap", fields: `(func (export "query") (result i64) unreachable)`},
	{name: "division by zero", cause: "trap", fields: `(func (export "query") (result i64) (i64.div_u (i64.const 1) (i64.const 0)))`},
	{name: "access out of bounds", cause: "trap", fields: `(func (export "query") (result i64) (i64.load (i32.const -8)))`},
	{name: "exit", cause: "trap", fields: `(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
		(func (export "query") (result i64) (call $exit (i32.const 0)) (i64.const 0))`},
	{name: "message beyond the memory", cause: "verdict", fields: `(func (export "query") (result i64) (i64.const 0x010000100001FFF8))`},
	{name: "message at the end of 32 bits", cause: "verdict", fields: `(func (export "query") (result i64) (i64.const 0x0100FFFFFFFFFFFF))`},
	{name: "unknown verdict", cause: "verdict", fields: `(func (export "query") (result i64) (i64.const 0x7F00000000000000))`},
	{name: "negative verdict", cause: "verdict", fields: `(func (export "query") (result i64) (i64.const -1))`},
	{name: "upstream that it has not", cause: "verdict", fields: `(func (export "query") (result i64) (i64.const 0x0200000000000007))`},
	{name: "kept in the query phase", cause: "verdict", fields: `(func (export "query") (result i64) (i64.const 0x0600000000000000))`},
	{name: "log beyond the memory", cause: "memory", fields: `(import "weir" "log" (func $log (param i32 i32 i32)))
		(func (export "query") (result i64) (call $log (i32.const 1) (i32.const 131072) (i32.const 1)) (i64.const 0))`},
	{name: "log where pointer and size overflow", cause: "memory", fields: `(import "weir" "log" (func $log (param i32 i32 i32)))
		(func (export "query") (result i64) (call $log (i32.const 1) (i32.const -1) (i32.const -1)) (i64.const 0))`},
	{name: "log of an unknown level", cause: "host_function", fields: `(import "weir" "log" (func $log (param i32 i32 i32)))
		(func (export "query") (result i64) (call $log (i32.const 4) (i32.const 0) (i32.const 1)) (i64.const 0))`},
	{name: "table that it has not", cause: "host_function", fields: `(import "weir" "table_get" (func $get (param i32 i32 i32 i32 i32) (result i64)))
		(func (export "query") (result i64) (call $get (i32.const -1) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 1)))`},
	{name: "configuration outside configure", cause: "host_function", fields: `(import "weir" "config_read" (func $read (param i32 i32 i32) (result i32)))
		(func (export "query") (result i64) (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1))) (i64.const 0))`},

	{name: "loop in the start function", cause: "instantiation trapped", atLoad: true, fields: `(func $s (loop $l (br $l))) (start $s) (func (export "query") (result i64) (i64.const 0))`},
	{name: "recursion in the start function", cause: "instantiation trapped", atLoad: true, fields: `(func $f (param i64) (result i64) (i64.add (call $f (i64.add (local.get 0) (i64.const 1))) (i64.const 1)))
		(func $s (drop (call $f (i64.const 0)))) (start $s) (func (export "query") (result i64) (i64.const 0))`},
	{name: "loop in _initialize", cause: "used up its fuel", atLoad: true, fields: `(func (export "_initialize") (loop $l (br $l))) (func (export "query") (result i64) (i64.const 0))`},
	{name: "loop in configure", cause: "used up its fuel", atLoad: true, fields: `(func (export "configure") (param i32) (result i64) (loop $l (br $l)) (i64.const 0)) (func (export "query") (result i64) (i64.const 0))`},
	{name: "trap in configure", cause: "configure trapped", atLoad: true, fields: `(func (export "configure") (param i32) (result i64) unreachable) (func (export "query") (result i64) (i64.const 0))`},
}

// config of the attacks: little memory, so that exceeding it shows.
var small = Config{Memory: 8 << 20, Fuel: 1_000_000}

func TestHostileFilters(t *testing.T) {
	for _, tt := range attacks {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, 0)
			module := guest(t, tt.fields)
			before := rss(t)
			f, err := r.Open(t.Context(), "test", small, Environment{Module: module, Bundled: true, Upstreams: []string{"a", "b"}})
			if tt.atLoad {
				if err == nil || !strings.Contains(err.Error(), tt.cause) {
					t.Fatalf("Open: %v, want an error with %q", err, tt.cause)
				}
			} else {
				if err != nil {
					t.Fatalf("Open: %v", err)
				}
				for range 2 { // each instance once
					attack(t, f, tt.cause)
				}
				f.Close()
			}
			// What a filter may have, and 8 MB; and as much again for the garbage of compiling, which is the test's.
			if grown := rss(t) - before; grown > int(small.Memory)+8<<20+16<<20 {
				t.Errorf("memory grew by %d KiB", grown>>10)
			}
			if n := f.octets(); n != 0 {
				t.Errorf("%d octets of memory are left after Close", n)
			}
		})
	}
}

func (f *Filter) octets() int64 {
	if f == nil {
		return 0
	}
	return f.memory.Load()
}

func attack(t *testing.T, f *Filter, cause string) {
	t.Helper()
	c := query(t)
	v, err := f.Call(c)
	var fault *Fault
	if !errors.As(err, &fault) || fault.Cause != cause {
		t.Fatalf("Call = %+v, %v; want a fault by %s", v, err, cause)
	}
	if v != (chain.Verdict{}) {
		t.Errorf("the verdict of a fault is %+v, want none", v)
	}
}

// rss is the memory of this process in octets.
func rss(t testing.TB) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Skip("no /proc")
	}
	pages, err := strconv.Atoi(strings.Fields(string(b))[1])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}

// What is left of a filter after Close: nothing in the list of mappings, and no goroutine.
func TestNothingLeft(t *testing.T) {
	r := newRig(t, 0)
	module := guest(t, `(func (export "query") (result i64) (drop (memory.grow (i32.const 4))) (i64.const 0))`)
	cycle := func() {
		f, err := r.Open(t.Context(), "test", small, Environment{Module: module, Bundled: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Call(query(t)); err != nil {
			t.Fatal(err)
		}
		if f.octets() == 0 {
			t.Fatal("a filter without memory")
		}
		f.Close()
		if n := f.octets(); n != 0 {
			t.Fatalf("%d octets of memory are left after Close", n)
		}
	}
	cycle()
	goroutines, mapped := runtime.NumGoroutine(), mappings(t, small.Memory)
	for range 50 {
		cycle()
	}
	if got := mappings(t, small.Memory); got > mapped {
		t.Errorf("%d mappings of the size of the filter's memory are left, %d before", got, mapped)
	}
	// One that ran to its end is still counted until the scheduler has buried it, as is the runtime's own while it runs finalizers.
	for start := time.Now(); runtime.NumGoroutine() > goroutines && time.Since(start) < 10*time.Second; {
		runtime.Gosched()
	}
	if got := runtime.NumGoroutine(); got > goroutines {
		var stacks strings.Builder
		if err := pprof.Lookup("goroutine").WriteTo(&stacks, 1); err != nil {
			t.Error(err)
		}
		t.Errorf("%d goroutines are left, %d before:\n%s", got, goroutines, &stacks)
	}
	if n := len(r.codes); n != 0 {
		t.Errorf("%d compiled modules are left", n)
	}
}

// mappings counts the reserved parts of memories that may have size octets: what the guest did not ask for yet, more than half of it.
func mappings(t *testing.T, size Size) (n int) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Skip("no /proc")
	}
	for line := range strings.Lines(string(b)) {
		fields := strings.Fields(line)
		from, to, ok := strings.Cut(fields[0], "-")
		if !ok || len(fields) > 5 {
			continue
		}
		a, errA := strconv.ParseUint(from, 16, 64)
		z, errZ := strconv.ParseUint(to, 16, 64)
		if errA == nil && errZ == nil && strings.HasPrefix(fields[1], "---") && z-a <= uint64(size) && z-a > uint64(size)/2 {
			n++
		}
	}
	return n
}

// bomb is a module whose one function takes the compiler minutes and gigabytes.
func bomb(t testing.TB, locals, blocks int) []byte {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, `(func (export "query") (result i64) (local %s)`, strings.Repeat("i32 ", locals))
	for i := range blocks {
		fmt.Fprintf(&b, "(if (local.get %d) (then (local.set %d (i32.const %d))))", i%locals, (i*7+1)%locals, i)
	}
	b.WriteString("(i64.const 0))")
	return guest(t, b.String())
}

func TestRefusedAtLoad(t *testing.T) {
	const query = `(func (export "query") (result i64) (i64.const 0))`
	const memory = `(memory (export "memory") 2)`
	const manifest = `(@custom "weir" "{\"name\":\"test\",\"version\":\"1.0.0\",\"abi\":1}")`
	const version = `(func (export "weir_abi_1") (result i32) (i32.const 1024))`
	for _, tt := range []struct {
		name   string
		module []byte
		want   string
	}{
		{"compile bomb", bomb(t, 3333, 10000), "3333 locals and 10000 blocks, which would take too long to compile"},
		{"huge memory at once", assemble(t, `(memory (export "memory") 60000)`+version+manifest+query), "needs 3840000 KiB of memory at once: the limit of this filter is 8192 KiB"},
		{"huge table at once", guest(t, `(table 100000000 funcref)`+query), "100000000 elements"},
		{"many tables", guest(t, strings.Repeat(`(table 1 funcref)`, 17)+query), "has 17 tables"},
		{"other ABI", assemble(t, memory+manifest+query+`(func (export "weir_abi_2") (result i32) (i32.const 1024))`), "is built for ABI 2, this weir serves ABI 1"},
		{"no ABI", assemble(t, memory+manifest+query), "does not export weir_abi_1"},
		{"two ABIs", guest(t, query+`(func (export "weir_abi_2") (result i32) (i32.const 1024))`), "exports both"},
		{"no memory", assemble(t, version+manifest+query), "does not export its memory"},
		{"memory not exported", assemble(t, `(memory 2)`+version+manifest+query), "does not export its memory"},
		{"no query", guest(t, ``), "exports neither query nor response"},
		{"query with another signature", guest(t, `(func (export "query") (result i32) (i32.const 0))`), "exports query as () -> (i32): it has to be () -> (i64)"},
		{"query that is a global", guest(t, `(global (export "query") i64 (i64.const 0))`), "exports query as something else than a function"},
		{"configure with another signature", guest(t, query+`(func (export "configure") (result i64) (i64.const 0))`), "exports configure as"},
		{"import of another module", guest(t, `(import "env" "system" (func (param i32)))`+"\n"+query), `imports "system" from "env": filters may import`},
		{"import that does not exist", guest(t, `(import "weir" "open" (func (param i32)))`+"\n"+query), `imports "open" from "weir", which has no such function`},
		{"import with another signature", guest(t, `(import "weir" "log" (func (param i32)))`+"\n"+query), `imports "log" from "weir" as (i32) -> (): it is (i32, i32, i32) -> ()`},
		{"import of a memory", guest(t, `(import "weir" "memory" (memory 1))`+"\n"+query), "which is not a function"},
		{"no manifest", assemble(t, memory+version+query), "no custom section"},
		{"import without its grant", assemble(t, `(import "weir" "table_get" (func (param i32 i32 i32 i32 i32) (result i64)))`+"\n"+memory+version+manifest+query), `imports table_get, for which its manifest has to name the grant "tables"`},
		{"frame beyond the memory", assemble(t, memory+manifest+query+`(func (export "weir_abi_1") (result i32) (i32.const 65536))`), "are not in the memory"},
		{"frame at the end of 32 bits", assemble(t, memory+manifest+query+`(func (export "weir_abi_1") (result i32) (i32.const -8))`), "are not in the memory"},
		{"frame at an odd address", assemble(t, memory+manifest+query+`(func (export "weir_abi_1") (result i32) (i32.const 1028))`), "multiple of 8"},
		{"a command", guest(t, query+`(func (export "_start"))`), "is a WASI command"},
		{"interest that does not exist", guest(t, query+`(func (export "configure") (param i32) (result i64) (i64.const 0x0010000000000000))`), "configure returns the bits"},
		{"interest in responses without response", guest(t, query+`(func (export "configure") (param i32) (result i64) (i64.const 4))`), "does not export response"},
		{"no module", []byte("\x7fELF"), "is not a WebAssembly module"},
		{"empty", nil, "is not a WebAssembly module"},
		{"large", append([]byte("\x00asm\x01\x00\x00\x00"), make([]byte, maxModule)...), "at most 16777216 (16 MiB)"},
		{"invalid code", guest(t, `(func (export "query") (result i64) (i32.const 0))`), "does not compile"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, 0)
			before := rss(t)
			// As from outside, with all grants.
			f, err := r.Open(t.Context(), "test", Config{Memory: 8 << 20, Grants: grantsOf(tt.module)}, Environment{Module: tt.module})
			if err == nil {
				f.Close()
				t.Fatal("the module is accepted")
			}
			if !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "filter.test.module: ") {
				t.Errorf("Open: %v\nwant an error with %q", err, tt.want)
			}
			if grown := rss(t) - before; grown > 8<<20+16<<20+len(tt.module) {
				t.Errorf("memory grew by %d KiB", grown>>10)
			}
		})
	}
}

func grantsOf(module []byte) []string {
	if bytes.Contains(module, []byte(`"grants"`)) {
		return []string{"forward", "ask", "rewrite", "tables"}
	}
	return nil
}
