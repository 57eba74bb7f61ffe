package wat

import (
	"bytes"
	"context"
	"math"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/weirdns/weir/host/wasm/opcode"
)

const features = api.CoreFeaturesV2 | experimental.CoreFeaturesTailCall | experimental.CoreFeaturesExtendedConst |
	experimental.CoreFeaturesExceptionHandling

func newRuntime(t *testing.T) (context.Context, wazero.Runtime) {
	ctx := t.Context()
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().WithCoreFeatures(features).WithCustomSections(true))
	t.Cleanup(func() { r.Close(context.Background()) })
	return ctx, r
}

// TestCompile runs the export "f" of each module.
func TestCompile(t *testing.T) {
	tests := []struct {
		name string
		src  string
		args []uint64
		want []uint64
	}{
		{"flat", `(func (export "f") (param i32 i32) (result i32) local.get 0 local.get 1 i32.sub)`, []uint64{5, 3}, []uint64{2}},
		{"folded", `(module $m (func (export "f") (param $a i32) (param $b i32) (result i32)
			(i32.sub (local.get $a) (local.get $b))))`, []uint64{5, 3}, []uint64{2}},
		{"named type and separate export", `(type $t (func (param $x i64) (result i64)))
			(export "f" (func $g)) (func $g (type $t) (local $y i64) (local i32 i32 f32)
			(local.set $y (i64.const 7)) (i64.add (local.get 0) (local.get $y)))`, []uint64{1}, []uint64{8}},
		{"loop and labels", `(func (export "f") (param $n i32) (result i32) (local $sum i32)
			(block $out (loop $again
				(br_if $out (i32.eqz (local.get $n)))
				(local.set $sum (i32.add (local.get $sum) (local.get $n)))
				(local.set $n (i32.sub (local.get $n) (i32.const 1)))
				(br $again)))
			local.get $sum)`, []uint64{4}, []uint64{10}},
		{"flat blocks", `(func (export "f") (param i32) (result i32)
			block $a (result i32) i32.const 3 local.get 0 br_if 0 drop i32.const 9 end $a)`, []uint64{0}, []uint64{9}},
		{"folded if", `(func (export "f") (param i32) (result i32)
			(if (result i32) (local.get 0) (then (i32.const 1)) (else (i32.const 2))))`, []uint64{0}, []uint64{2}},
		{"if with label, no else", `(func (export "f") (param i32) (result i32)
			(if $l (local.get 0) (then (local.set 0 (i32.const 8)) (br $l) unreachable)) local.get 0)`, []uint64{1}, []uint64{8}},
		{"flat if", `(func (export "f") (param i32) (result i32)
			local.get 0 if $x (result i32) i32.const 1 else $x i32.const 2 end)`, []uint64{1}, []uint64{1}},
		{"br_table", `(func (export "f") (param i32) (result i32)
			(block $c (block $b (block $a (br_table $a $b $c (local.get 0))) (return (i32.const 10))) (return (i32.const 20)))
			(i32.const 30))`, []uint64{1}, []uint64{20}},
		{"multi-value", `(func $two (result i32 i64) (i32.const 1) (i64.const -1))
			(func (export "f") (result i32 i64) (block (result i32 i64) call $two)
			(block (param i32 i64) (result i32 i64)))`, nil, []uint64{1, math.MaxUint64}},
		{"call_indirect", `(type $t (func (result i32))) (table 2 funcref) (elem (i32.const 0) $a $b)
			(func $a (result i32) i32.const 5) (func $b (result i32) i32.const 6)
			(func (export "f") (param i32) (result i32) (call_indirect (type $t) (local.get 0)))`, []uint64{1}, []uint64{6}},
		{"inline table, named, by signature", `(table $x funcref (elem $a)) (func $a (param i32) (result i32) local.get 0)
			(func (export "f") (result i32) (call_indirect $x (param i32) (result i32) (i32.const 4) (i32.const 0)))`, nil, []uint64{4}},
		{"tail calls", `(type $t (func (param i32) (result i32))) (table funcref (elem $g))
			(func $g (param i32) (result i32) local.get 0)
			(func $h (param i32) (result i32) (return_call_indirect (type $t) (local.get 0) (i32.const 0)))
			(func (export "f") (result i32) (return_call $h (i32.const 3)))`, nil, []uint64{3}},
		{"memory and data", `(memory 1 2) (data (i32.const 3) "ab" "\63\n\u{e9}")
			(func (export "f") (result i32 i64) (i32.load8_u offset=5 (i32.const 0)) (i64.load align=1 (i32.const 3)))`,
			nil, []uint64{0x63, 0xa9c30a636261}},
		{"inline data", `(memory (data "\2a")) (func (export "f") (result i32 i32) (i32.load8_u (i32.const 0)) memory.size)`,
			nil, []uint64{42, 1}},
		{"bulk memory", `(memory $m (export "m") 1) (data $d "xyz")
			(func (export "f") (result i32)
			(memory.init $d (i32.const 0) (i32.const 1) (i32.const 2)) (data.drop $d)
			(memory.copy (i32.const 8) (i32.const 0) (i32.const 2)) (memory.fill (i32.const 9) (i32.const 1) (i32.const 1))
			(i32.load16_u (i32.const 8)))`, nil, []uint64{0x0179}},
		{"tables", `(table $a 4 funcref) (table $b 1 9 externref) (elem $e func $g) (elem declare func $g)
			(elem $x externref (ref.null extern) (item ref.null extern)) (func $g)
			(func (export "f") (result i32 i32 i32)
			(table.init $a $e (i32.const 1) (i32.const 0) (i32.const 1)) (elem.drop $e)
			(table.copy $a $a (i32.const 2) (i32.const 1) (i32.const 1))
			(table.fill $a (i32.const 3) (ref.func $g) (i32.const 1))
			(table.set $a (i32.const 3) (table.get $a (i32.const 3)))
			(drop (table.grow $b (ref.null extern) (i32.const 2)))
			(ref.is_null (table.get $a (i32.const 0))) (ref.is_null (table.get $a (i32.const 2))) (table.size $b))`,
			nil, []uint64{1, 0, 3}},
		{"globals and start", `(global $g (mut i32) (i32.const 1)) (global $h i64 (i64.add (i64.const 2) (i64.const 3)))
			(func $s (global.set $g (i32.const 7))) (start $s)
			(func (export "f") (result i32 i64) global.get $g global.get $h)`, nil, []uint64{7, 5}},
		{"select", `(func (export "f") (param i32) (result i32 i64)
			(select (i32.const 1) (i32.const 2) (local.get 0)) (select (result i64) (i64.const 3) (i64.const 4) (local.get 0)))`,
			[]uint64{0}, []uint64{2, 4}},
		{"float literals", `(func (export "f") (result f64 f64 f64 f64 f32)
			f64.const 0x1.8 f64.const -inf f64.const nan:0x1 f64.const -1_0.5e1 f32.const nan)`, nil,
			[]uint64{math.Float64bits(1.5), math.Float64bits(math.Inf(-1)), 0x7ff0000000000001, math.Float64bits(-105), 0x7fc00000}},
		{"integer literals", `(func (export "f") (result i32 i32 i64 i64)
			i32.const 0xffff_ffff i32.const -0x80000000 i64.const +5 i64.const 18446744073709551615)`, nil,
			[]uint64{0xffffffff, 0x80000000, 5, math.MaxUint64}},
		{"extensions", `(func (export "f") (result i32 i32)
			(i32.extend8_s (i32.const 0x80)) (i32.trunc_sat_f32_u (f32.const 1e30)))`, nil, []uint64{0xffffff80, 0xffffffff}},
		{"vector", `(func (export "f") (result i32) (i32x4.extract_lane 2
			(i32x4.add (v128.const i32x4 1 2 3 -4) (v128.const f32x4 0 0 0 0))))`, nil, []uint64{3}},
		{"exceptions", `(tag $e (param i32)) (func $t (throw $e (i32.const 11)))
			(func (export "f") (result i32) (block $h (result i32)
			(block $any (try_table (catch $e $h) (catch_all $any) (call $t))) (i32.const 0)))`, nil, []uint64{11}},
		{"comments", `(; outer (; inner ;) ;) (func (export "f") (result i32) ;; line
			i32.const 1)`, nil, []uint64{1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			module, err := Compile(tt.src)
			if err != nil {
				t.Fatal(err)
			}
			ctx, r := newRuntime(t)
			m, err := r.Instantiate(ctx, module)
			if err != nil {
				t.Fatalf("%v\n% x", err, module)
			}
			got, err := m.ExportedFunction("f").Call(ctx, tt.args...)
			if err != nil {
				t.Fatal(err)
			}
			for i := range tt.want {
				if len(got) != len(tt.want) || got[i] != tt.want[i] {
					t.Fatalf("f(%d) = %#x, want %#x", tt.args, got, tt.want)
				}
			}
		})
	}
}

func TestImportsAndCustomSections(t *testing.T) {
	module := MustCompile(`(module
		(import "env" "a" (func $a (param i32)))
		(func $b (import "env" "b") (result i32))
		(import "env" "g" (global $g (mut i32)))
		(import "env" "m" (memory 1))
		(import "env" "t" (table 1 funcref))
		(func $run (export "run") (call $a (call $b)))
		(@custom "manifest" "{" "}"))`)
	_, r := newRuntime(t)
	m, err := r.CompileModule(t.Context(), module)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range m.ImportedFunctions() {
		module, name, _ := f.Import()
		got = append(got, module+"."+name)
	}
	if want := "env.a env.b"; strings.Join(got, " ") != want {
		t.Errorf("imported functions %q, want %q", got, want)
	}
	if s := m.CustomSections(); len(s) != 1 || s[0].Name() != "manifest" || string(s[0].Data()) != "{}" {
		t.Errorf("custom sections %v, want manifest with {}", s)
	}
	if name := m.ExportedFunctions()["run"].Name(); name != "run" {
		t.Errorf("the name of the exported function is %q, want run", name)
	}
}

func TestErrors(t *testing.T) {
	tests := []struct{ name, src, want string }{
		{"unclosed", "(func\n(nop)", "line 1: ( is never closed"},
		{"unopened", "(func))", "line 1: unexpected )"},
		{"unknown field", "\n(fun)", `line 2: unknown module field "fun"`},
		{"unknown instruction", "(func\n\n i32.foo)", "line 3: unknown instruction i32.foo"},
		{"unknown local", "(func local.get $x)", "line 1: unknown local $x"},
		{"unknown label", "(func (block $a (br $b)))", "line 1: unknown label $b"},
		{"unknown function", "(func call $x)", "line 1: unknown function $x"},
		{"defined twice", "(func $f)\n(func $f)", "line 2: function $f is defined twice"},
		{"integer too large", "(func (drop (i32.const 0x1_0000_0000)))", "want an integer of 32 bits"},
		{"no immediate", "(func (drop (i32.const)))", "i32.const: want an integer"},
		{"not a number", "(func (drop (f32.const x)))", "want a floating-point number of 32 bits"},
		{"string", "(data \"a\nb\")", "line 1: string is never closed"},
		{"escape", `(data "\q")`, `unknown escape \q`},
		{"surrogate", `(data "\u{d800}")`, "not a Unicode scalar value"},
		{"comment", "(func) (; a", "line 1: (; is never closed"},
		{"no end", "(func\nblock nop)", "line 2: 1 blocks have no end"},
		{"end without block", "(func end)", "end without a block"},
		{"wrong end", "(func block $a end $b)", `end $b ends the block with label "$a"`},
		{"other signature", "(type $t (func)) (func (type $t) (param i32))", "not those of type $t"},
		{"late import", `(func) (import "a" "b" (func))`, "imports come before the first function"},
		{"depth", strings.Repeat("(", maxDepth+2), "nested parentheses"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := Compile(tt.src); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Compile(%q): got %v, want an error with %q", tt.src, err, tt.want)
			}
		})
	}
}

// TestNaturalAlignment holds the alignments against wazero, which refuses one above the natural one, for each load
// and store of the table: natural passes, twice of that does not.
func TestNaturalAlignment(t *testing.T) {
	_, r := newRuntime(t)
	n := 0
	for op := range opcode.All() {
		if op.Immediate != opcode.ImmMemory {
			continue
		}
		n++
		source := func(more byte) []byte {
			b := []byte{byte(op.Code)}
			if op.Code > 0xff {
				b = []byte{byte(op.Code >> 8), byte(op.Code)}
			}
			module := MustCompile("(memory 1) (func unreachable (" + op.Name + ") drop)")
			if strings.HasSuffix(op.Signature, ":") {
				module = MustCompile("(memory 1) (func unreachable (" + op.Name + "))")
			}
			at := bytes.LastIndex(module, b) + len(b)
			module[at] += more
			return module
		}
		if _, err := r.CompileModule(t.Context(), source(0)); err != nil {
			t.Errorf("%s with alignment %d: %v", op.Name, naturalAlignment(op.Name), err)
		}
		if _, err := r.CompileModule(t.Context(), source(1)); err == nil {
			t.Errorf("%s: twice the alignment %d is valid, too", op.Name, naturalAlignment(op.Name))
		}
	}
	if n < 23 {
		t.Errorf("%d loads and stores, want at least those of the core specification 1.0", n)
	}
}

func FuzzCompile(f *testing.F) {
	for _, seed := range []string{
		"(module)", `(func (export "f") (param $n i32) (loop $l (br_if $l (local.get $n))))`,
		`(memory 1) (data (i32.const 0) "\00\u{7f}")`, "(func i32.const 1 if nop else nop end)",
		`(table 1 funcref) (elem (i32.const 0) 0) (func (call_indirect (i32.const 0)))`, "(if (then))", "(global", `(@custom "a" "b")`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, src string) {
		module, err := Compile(src) // must not panic
		if err == nil && !bytes.HasPrefix(module, []byte("\x00asm\x01\x00\x00\x00")) {
			t.Errorf("Compile(%q) has no header: % x", src, module)
		}
	})
}
