package meter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/sys"

	"github.com/weirdns/weir/host/wasm/wat"
)

// spinners never come to an end by themselves, each in a way of its own. off are the defences that stop it.
var spinners = []struct {
	name string
	src  string
	off  defence
}{
	{"empty loop", `(func (export "run") (param i32) (loop (br 0)))`, offLoop},
	{"loop with br_if", `(func (export "run") (param i32) (loop (br_if 0 (i32.const 1))))`, offLoop},
	{"loop in dead branch's place", `(func (export "run") (param i32) (block (br 0) (loop (br 0))) (loop (br 0)))`, offLoop},
	{"nested loops", `(func (export "run") (param i32) (loop $a (block (loop $b (br_if 1 (i32.const 1)))) (br $a)))`, offLoop},
	{"br_table machine", `(func (export "run") (param $s i32) (loop $l (block $c (block $b (block $a
		(br_table $a $b $c (local.get $s)))
		(local.set $s (i32.const 1)) (br $l))
		(local.set $s (i32.const 2)) (br $l))
		(local.set $s (i32.const 0)) (br $l)))`, offLoop},
	{"resume switch around calls", `(func $f) (func (export "run") (param $s i32) (loop $l (block $b (block $a
		(br_table $a $b (local.get $s))) (call $f) (local.set $s (i32.const 1)) (br $l)) (call $f)
		(local.set $s (i32.const 0)) (br $l)))`, offLoop | offEntry},
	{"tail recursion", `(func $f (export "run") (param i32)
		(br_if 0 (i32.eqz (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
		(return_call $f (local.get 0)))`, offEntry},
	{"indirect tail recursion", `(table funcref (elem $f)) (func $f (export "run") (param i32)
		(br_if 0 (i32.eqz (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
		(return_call_indirect (param i32) (local.get 0) (i32.const 0)))`, offEntry},
	{"call_indirect ring in a loop", `(type $t (func)) (table funcref (elem $a $b)) (func $a)
		(func $b (call_indirect (type $t) (i32.const 0))) (func (export "run") (param i32)
		(loop (call_indirect (type $t) (i32.const 1)) (br 0)))`, offLoop | offEntry},
	{"exceptions", `(tag $e) (func (export "run") (param i32) (loop $l (block $h (try_table (catch $e $h) (throw $e))) (br $l)))`,
		offLoop | offTry},
	{"branching tree", tree(17), offEntry},
}

// tree is a function that calls the next one twice, and so on: 2^depth calls without loop or recursion.
func tree(depth int) string {
	var b strings.Builder
	fmt.Fprintf(&b, `(func (export "run") (param i32) (call $f0))`)
	for i := range depth {
		fmt.Fprintf(&b, "(func $f%d (call $f%d) (call $f%d))", i, i+1, i+1)
	}
	fmt.Fprintf(&b, "(func $f%d)", depth)
	return b.String()
}

// wantTrap calls run and wants it to trap by metering.
func wantTrap(t *testing.T, g *guest, fuel int64, arg uint64) {
	t.Helper()
	g.refill(fuel)
	_, err := g.ExportedFunction("run").Call(t.Context(), arg)
	if err == nil || !strings.Contains(err.Error(), "wasm error: unreachable") {
		t.Fatalf("run(%d) = %v, want a trap", arg, err)
	}
}

func (g *guest) left(export string) int64 {
	return int64(g.ExportedGlobal(export).(api.MutableGlobal).Get())
}

func TestSpinnersStop(t *testing.T) {
	for _, tt := range spinners {
		t.Run(tt.name, func(t *testing.T) {
			g := open(t, wazero.NewRuntimeConfig(), wat.MustCompile(tt.src), &Options{})
			wantTrap(t, g, 100_000, 0)
			if left := g.left(FuelExport); left >= 0 {
				// A function that keeps its fuel in a local need not bring it home when it traps, but has to take some.
				wantTrap(t, g, 1000, 0)
			}
		})
	}
}

// TestSpinnersNeedTheDefence is the control of the test above: with the defence off, only the context ends a spinner.
func TestSpinnersNeedTheDefence(t *testing.T) {
	for _, tt := range spinners {
		t.Run(tt.name, func(t *testing.T) {
			if tt.off == offEntry {
				// wazero's own guard stops loops only. These take a million steps, and end.
				g := open(t, wazero.NewRuntimeConfig(), wat.MustCompile(tt.src), &Options{off: tt.off})
				g.refill(1000)
				if _, err := g.ExportedFunction("run").Call(t.Context(), 1_000_000); err != nil {
					t.Errorf("run(1000000) = %v, want it to end", err)
				}
				return
			}
			g := open(t, wazero.NewRuntimeConfig().WithCloseOnContextDone(true), wat.MustCompile(tt.src), &Options{off: tt.off})
			g.refill(1000)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			_, err := g.ExportedFunction("run").Call(ctx, 0)
			if exit := (*sys.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != sys.ExitCodeDeadlineExceeded {
				t.Errorf("run() = %v, want the context's end", err)
			}
		})
	}
}

// TestWorkIsCharged compares what instructions take whose work is up to an operand, and what they take without the
// charge for it.
func TestWorkIsCharged(t *testing.T) {
	tests := []struct {
		name, src string
		off       defence
		atLeast   int64
	}{
		{"memory.fill", `(memory 16) (func (export "run") (param i32)
			(memory.fill (i32.const 0) (i32.const 1) (i32.const 0x100000)))`, offBulk, 0x100000 >> fillShift},
		{"memory.copy", `(memory 16) (func (export "run") (param i32)
			(memory.copy (i32.const 0) (i32.const 1) (i32.const 0xfffff)))`, offBulk, 0xfffff >> copyShift},
		{"memory.copy in a function with its fuel in a local", `(memory 16) (func (export "run") (param i32)
			(loop (br_if 0 (local.get 0)))
			(memory.copy (i32.const 0) (i32.const 1) (i32.const 0xfffff)))`, offBulk, 0xfffff >> copyShift},
		{"memory.init", `(memory 16) (data $d "` + strings.Repeat("x", 8000) + `") (func (export "run") (param i32)
			(memory.init $d (i32.const 0) (i32.const 0) (i32.const 8000)))`, offBulk, 8000 >> copyShift},
		{"table.fill", `(table 30000 funcref) (func (export "run") (param i32)
			(table.fill (i32.const 0) (ref.null func) (i32.const 30000)))`, offBulk, 30000 >> tableShift},
		{"table.copy", `(table 30000 funcref) (func (export "run") (param i32)
			(table.copy (i32.const 0) (i32.const 1) (i32.const 29999)))`, offBulk, 29999 >> tableShift},
		{"table.init", `(table 3000 funcref) (elem $e func ` + strings.Repeat("0 ", 2000) + `) (func (export "run") (param i32)
			(table.init $e (i32.const 0) (i32.const 0) (i32.const 2000)))`, offBulk, 2000 >> tableShift},
		{"memory.grow", `(memory 1) (func (export "run") (param i32) (drop (memory.grow (i32.const 10))))`, offGrow, 10 * pageCost},
		{"table.grow", `(table 1 funcref) (func (export "run") (param i32)
			(drop (table.grow (ref.null func) (i32.const 1000))))`, offGrow, 1000 * elementCost},
		{"try_table", `(func (export "run") (param i32) (block (try_table (catch_all 0))))`, offTry, tryCost},
		{"try_table deep in the stack", `(func $f (export "run") (param i32)
			(if (local.get 0) (then (call $f (i32.sub (local.get 0) (i32.const 1)))) (else (block (try_table (catch_all 0))))))`, offTry, tryCost},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			const fuel = 1 << 40
			var took [2]int64
			for i, off := range []defence{0, tt.off} {
				g := open(t, wazero.NewRuntimeConfig(), wat.MustCompile(tt.src), &Options{off: off})
				g.refill(fuel)
				if _, err := g.ExportedFunction("run").Call(t.Context(), 0); err != nil {
					t.Fatal(err)
				}
				took[i] = fuel - g.left(FuelExport)
				if i == 0 {
					wantTrap(t, g, took[0]-1, 0)
				}
			}
			if took[0]-took[1] < tt.atLeast {
				t.Errorf("took %d units, and %d without the charge; want a difference of at least %d", took[0], took[1], tt.atLeast)
			}
		})
	}
}

// TestGrowBeyondLimit holds that growing by more than there can be fails as it does without metering.
func TestGrowBeyondLimit(t *testing.T) {
	g := open(t, wazero.NewRuntimeConfig(), wat.MustCompile(`(memory 1 100) (table 1 funcref) (func (export "run") (param i32) (result i32 i32)
		(memory.grow (local.get 0)) (table.grow (ref.null func) (local.get 0)))`), &Options{MaxMemoryPages: 20, MaxTableElements: 30})
	g.refill(100_000)
	for _, n := range []uint64{31, 1 << 31, 1<<32 - 1} {
		got, err := g.ExportedFunction("run").Call(t.Context(), n)
		if err != nil || uint32(got[0]) != 1<<32-1 || uint32(got[1]) != 1<<32-1 {
			t.Errorf("grow by %d: %#x, %v; want -1 and -1", n, got, err)
		}
	}
}

// TestStartFunction holds that the start function runs on Options.Fuel.
func TestStartFunction(t *testing.T) {
	module := wat.MustCompile(`(func $s (loop (br 0))) (start $s)`)
	metered, _, err := Rewrite(module, Options{Fuel: 1000})
	if err != nil {
		t.Fatal(err)
	}
	r := wazero.NewRuntime(t.Context())
	defer r.Close(t.Context())
	if _, err := r.Instantiate(t.Context(), metered); err == nil || !strings.Contains(err.Error(), "unreachable") {
		t.Errorf("instantiate: %v, want a trap", err)
	}
}

// TestLimits holds the ceilings of memory and tables, and that they are what holds.
func TestLimits(t *testing.T) {
	const src = `(memory 1) (table 1 50 externref) (func (export "run") (param i32) (result i32 i32)
		(memory.grow (i32.const 3)) (table.grow (ref.null extern) (i32.const 40)))`
	for _, tt := range []struct {
		name string
		o    Options
		want [2]uint32
	}{
		{"within", Options{MaxMemoryPages: 4, MaxTableElements: 41}, [2]uint32{1, 1}},
		{"beyond", Options{MaxMemoryPages: 3, MaxTableElements: 40}, [2]uint32{1<<32 - 1, 1<<32 - 1}},
		{"beyond, off", Options{MaxMemoryPages: 3, MaxTableElements: 40, off: offLimits}, [2]uint32{1, 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := open(t, wazero.NewRuntimeConfig(), wat.MustCompile(src), &tt.o)
			got, err := g.ExportedFunction("run").Call(t.Context(), 0)
			if err != nil || uint32(got[0]) != tt.want[0] || uint32(got[1]) != tt.want[1] {
				t.Errorf("got %#x, %v, want %#x", got, err, tt.want)
			}
		})
	}
}

// exhausting is a loop of one instruction at its worst.
var exhausting = []struct{ name, src string }{
	{"i64.div_u", body("", `(local.set $x (i64.or (i64.div_u (local.get $x) (i64.const 3)) (i64.const 0x7fffff0000000000)))`, 20)},
	{"f64.mul subnormal", body(`(global $g (mut f64) (f64.const 0x1p-1060))`, `(global.set $g (f64.mul (global.get $g) (f64.const 0.9999999)))`, 20)},
	{"f32.sqrt subnormal", body(`(global $g (mut f32) (f32.const 0x1p-140))`, `(drop (f32.sqrt (global.get $g))) (global.set $g (f32.const 0x1p-140))`, 20)},
	{"random load", body("(memory 256)", `(local.set $x (i64.add (i64.load (i32.and (i32.wrap_i64 (i64.mul (i64.add (local.get $x) (local.get $n)) (i64.const 0x9e3779b97f4a7c15))) (i32.const 0xffffff))) (local.tee $n (i64.add (local.get $n) (i64.const 0x3777777)))))`, 1)},
	{"random store", body("(memory 256)", `(i64.store (i32.and (i32.wrap_i64 (local.tee $x (i64.mul (i64.add (local.get $x) (i64.const 1)) (i64.const 0x9e3779b97f4a7c15)))) (i32.const 0xffffff)) (local.get $x))`, 1)},
	{"memory.fill", body("(memory 256)", `(memory.fill (i32.const 0) (i32.const 1) (i32.const 0xffffff))`, 1)},
	{"memory.fill of one octet", body("(memory 256)", `(memory.fill (i32.const 0) (i32.const 1) (i32.const 1))`, 20)},
	{"memory.copy", body("(memory 256)", `(memory.copy (i32.const 0) (i32.const 0x800000) (i32.const 0x7fffff))`, 1)},
	{"memory.grow", body("(memory 1)", `(drop (memory.grow (i32.const 1)))`, 1)},
	{"memory.grow by 0", body("(memory 1)", `(drop (memory.grow (i32.const 0)))`, 20)},
	{"table.grow", body("(table 1 funcref)", `(drop (table.grow (ref.null func) (i32.const 1)))`, 1)},
	{"table.fill", body("(table 60000 funcref)", `(table.fill (i32.const 0) (ref.null func) (i32.const 60000))`, 1)},
	{"ref.func", body("(elem declare func 0)", `(drop (ref.func 0))`, 20)},
	{"call", body("(func $f)", `(call $f)`, 20)},
	{"call_indirect", body("(table funcref (elem $f)) (func $f)", `(call_indirect (i32.const 0))`, 20)},
	{"host call", body(`(import "env" "host" (func $h (param i32) (result i32)))`, `(drop (call $h (i32.const 0)))`, 20)},
	{"exceptions", body("(tag $e)", `(block $h (try_table (catch $e $h) (throw $e)))`, 1)},
	{"try_table", body("", `(block (try_table (catch_all 0)))`, 1)},
	{"nested try_table", `(func $f (export "run") (param i32) (block (try_table (catch_all 0) (call $f (i32.const 0)))))`},
	{"recursion", `(func $f (export "run") (param i32) (call $f (i32.const 0)) (call $f (i32.const 0)))`},
	{"empty loop", body("", "", 1)},
}

func body(fields, instructions string, n int) string {
	return fields + `(func (export "run") (param i32) (local $x i64) (local $n i64) (loop $l ` +
		strings.Repeat(instructions, n) + ` (br $l)) (global.set $sink (local.get $x)))
		(global $sink (mut i64) (i64.const 0))`
}

// BenchmarkExhaust is how long 5,000,000 units last with one instruction at its worst.
func BenchmarkExhaust(b *testing.B) {
	for _, tt := range exhausting {
		b.Run(tt.name, func(b *testing.B) {
			module := wat.MustCompile(tt.src)
			for b.Loop() {
				b.StopTimer()
				g := open(b, wazero.NewRuntimeConfig(), module, &Options{Fuel: 5_000_000})
				f := g.ExportedFunction("run")
				if m := g.Memory(); strings.Contains(tt.src, "(memory ") { // the first touch of a page is the operating system's
					m.Write(0, bytes.Repeat([]byte{1}, int(m.Size())))
				}
				b.StartTimer()
				if _, err := f.Call(b.Context(), 0); err == nil {
					b.Fatal("it ended")
				}
				b.StopTimer()
				g.Close(context.Background())
				b.StartTimer()
			}
		})
	}
}
