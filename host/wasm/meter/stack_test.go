package meter

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"

	"github.com/weirdns/weir/host/wasm/wat"
)

// recursions never return; $depth counts how far they came. Each makes native frames large in a way of its own.
var recursions = []struct{ name, src string }{
	{"plain", recursion("", "", "(call $f)")},
	{"ring of three", recursion("", "", "(call $g)") + "(func $g (call $h)) (func $h (call $f))"},
	{"call_indirect", `(table funcref (elem $f))` + recursion("", "", "(call_indirect (i32.const 0))")},
	{"100 locals", recursion("", "(local "+strings.Repeat("i64 ", 100)+")",
		numbered("(local.set %d (i64.load (i32.const %[1]d)))", 100)+"(call $f)"+
			numbered("(i64.store (i32.const %d) (local.get %[1]d))", 100))},
	{"100 operands", recursion("", "",
		numbered("(i64.load (i32.const %d))", 100)+"(call $f)"+strings.Repeat("(global.set $sink)", 100))},
	{"20 operands again and again", recursion("", "", strings.Repeat(
		numbered("(i64.load (i32.const %d))", 20)+"(call $f)"+strings.Repeat("(global.set $sink)", 20), 20))},
	{"a local set between 500 calls", recursion("", "(local i64)",
		strings.Repeat("(local.set 0 (i64.mul (local.get 0) (global.get $sink))) (call $f)", 500)+"(global.set $sink (local.get 0))")},
	{"500 sums of 20 values and a call", recursion("", "(local i64)", strings.Repeat(
		numbered("(i64.load (i32.const %d))", 20)+strings.Repeat("(i64.add)", 19)+"(global.set $sink)", 500)+"(call $f)")},
	{"40 params", recursion(numbered("(param $p%d i64)", 40), "",
		numbered("(local.get $p%d)", 40)+"(call $f)")},
	{"40 results", recursion("(result "+strings.Repeat("i64 ", 40)+")", "", "(call $f)")},
	{"40 vectors", recursion("", "(local "+strings.Repeat("v128 ", 40)+")",
		numbered("(local.set %d (v128.load (i32.const %[1]d)))", 40)+"(call $f)"+
			numbered("(v128.store (i32.const %d) (local.get %[1]d))", 40))},
	{"values that blocks merge", recursion("", "(local "+strings.Repeat("i64 ", 30)+")",
		strings.Repeat("(block ", 30)+"(br_table "+numbered("%d ", 30)+"(i32.wrap_i64 (global.get $sink)))"+
			strings.Repeat(")"+numbered("(local.set %d (i64.add (local.get %[1]d) (i64.const 1)))", 30)+"(call $f)", 30)+
			numbered("(i64.store (i32.const %d) (local.get %[1]d))", 30))},
	{"tail call with 40 params", recursion(numbered("(param $p%d i64)", 40), "",
		numbered("(local.get $p%d)", 40)+"(return_call $f)")},
	{"exceptions", `(tag $e) (func $f (export "run") (param i32) (global.set $depth (i64.add (global.get $depth) (i64.const 1)))
		(block (try_table (catch_all 0) (call $f (i32.const 0)))))`},
}

// recursion is a function that counts its calls, without end.
func recursion(params, locals, body string) string {
	args := strings.Repeat("(i64.const 0)", strings.Count(params, "param"))
	drops := strings.Repeat("(drop)", strings.Count(params, "i64 ")*strings.Count(params, "result"))
	return `(func $f ` + params + locals + `(global.set $depth (i64.add (global.get $depth) (i64.const 1))) ` + body + `)
		(func (export "run") (param i32) ` + args + ` (call $f) ` + drops + `)`
}

const recursionFields = `(memory 1) (global $sink (mut i64) (i64.const 0))
	(global $depth (export "depth") (mut i64) (i64.const 0))`

func numbered(format string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

// TestRecursion holds that endless recursion ends for want of stack, not of fuel, and that frames are not larger than
// estimated. How large they are shows in how deep wazero gets without metering, on the 84 MB that its stack has grown
// to by doubling when it gives up.
func TestRecursion(t *testing.T) {
	for _, tt := range recursions {
		t.Run(tt.name, func(t *testing.T) {
			module := wat.MustCompile(recursionFields + tt.src)
			g := open(t, wazero.NewRuntimeConfig(), module, &Options{})
			fuel := int64(1 << 60)
			if tt.name == "exceptions" {
				fuel = 5_000_000 // which has to bound the copies of the stack
			}
			g.refill(fuel)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			_, err := g.ExportedFunction("run").Call(t.Context(), 0)
			took := time.Since(start)
			runtime.ReadMemStats(&after)
			if err == nil || !strings.Contains(err.Error(), "wasm error: unreachable") {
				t.Fatalf("%v, want a trap", err)
			}
			depth := g.ExportedGlobal("depth").Get()
			estimate := float64(g.info.Stack) / float64(depth)
			allocated := after.TotalAlloc - before.TotalAlloc
			t.Logf("depth %d, %v, %.1f MB allocated", depth, took, float64(allocated)/1e6)
			if allocated > 8e6 {
				t.Errorf("%d octets allocated, want at most 8 MB", allocated)
			}
			if tt.name == "exceptions" {
				return
			}
			if left := g.left(FuelExport); left < 0 {
				t.Errorf("%d units of fuel left, want the stack to end first", left)
			}
			// The control: without the budget, it goes on until wazero's own limit.
			g = open(t, wazero.NewRuntimeConfig(), module, &Options{off: offStack})
			g.refill(1 << 60)
			if _, err := g.ExportedFunction("run").Call(t.Context(), 0); err == nil || !strings.Contains(err.Error(), "stack overflow") {
				t.Fatalf("without the budget: %v, want a stack overflow", err)
			}
			frame := 84e6 / float64(g.ExportedGlobal("depth").Get())
			t.Logf("frames of %.0f octets, estimated as %.0f", frame, estimate)
			if frame > estimate {
				t.Errorf("frames of %.0f octets, estimated as %.0f", frame, estimate)
			}
		})
	}
}
