package meter

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"

	"github.com/weirdns/weir/host/internal/fuzzing"
	"github.com/weirdns/weir/host/wasm/opcode"
	"github.com/weirdns/weir/host/wasm/wat"
)

// control has the instructions whose operands depend on more than their code.
const control = `(type $t (func (param i32) (result i32))) (tag $e (param i32)) (table 1 funcref) (memory 1)
	(global $g (mut i32) (i32.const 0)) (elem (i32.const 0) $f) (elem declare func $f)
	(func $f (type $t) (if (result i32) (local.get 0) (then (return (i32.const 1))) (else nop (i32.const 2))))
	(func $tail (type $t) (return_call $f (local.get 0)))
	(func $indirect (type $t) (return_call_indirect (type $t) (local.get 0) (i32.const 0)))
	(func $many (param i32 i32 i32 i32 i32 i32 i32) (result i32) (i32.const 3))
	(func $spill (result i32) (loop $l (br_if $l (i32.const 0)))
		(return_call $many (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))
	(func (export "run") (param i32) (result i32 i32) (local $x exnref)
		(block $h (result i32 exnref) (try_table (catch_ref $e $h) (throw $e (i32.const 4))) unreachable)
		(local.set $x) drop
		(block $h (result i32) (try_table (catch $e $h) (throw_ref (local.get $x))) (i32.const 0))
		drop
		(loop $l (block $b (block $a (br_table $a $b (local.get 0))) (br $b)) (br_if $l (i32.const 0)))
		(global.set $g (select (global.get $g) (i32.const 5) (local.tee 0 (i32.const 1))))
		(drop (select (result i32) (i32.const 1) (i32.const 2) (local.get 0)))
		(drop (call $tail (call $indirect (call $f (call_indirect (type $t) (i32.const 0) (i32.const 0))))))
		(call $spill) (local.get 0))`

// TestOpcodes meters each instruction of the table and has wazero validate and compile the result.
func TestOpcodes(t *testing.T) {
	operands := map[byte]string{
		'i': "(i32.const 1)", 'I': "(i64.const 1)", 'f': "(f32.const 1)", 'F': "(f64.const 1)",
		'v': "(v128.const i64x2 1 1)", 'r': "(ref.null func)",
	}
	immediates := map[opcode.Immediate]string{
		opcode.ImmFunc: "0", opcode.ImmTable: "0", opcode.ImmElem: "0", opcode.ImmData: "0", opcode.ImmMemoryInit: "0",
		opcode.ImmTableInit: "0", opcode.ImmRefType: "func", opcode.ImmI32: "1", opcode.ImmI64: "1", opcode.ImmF32: "1",
		opcode.ImmF64: "1", opcode.ImmV128: "i32x4 1 2 3 4", opcode.ImmLane: "0", opcode.ImmMemoryLane: "0",
		opcode.ImmShuffle: strings.Repeat("1 ", 16),
	}
	ctx := t.Context()
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().WithCoreFeatures(features))
	defer r.Close(ctx)
	all, n := control, 0
	for op := range opcode.All() {
		n++
		if op.Signature == "" {
			if !strings.Contains(control, op.Name) && op.Code != opcode.End && op.Code != opcode.LocalSet {
				t.Errorf("%s is not tested", op.Name)
			}
			continue
		}
		in, out, _ := strings.Cut(op.Signature, ":")
		args := ""
		for _, c := range []byte(in) {
			args += operands[c]
		}
		fields := `(memory 1) (data "a") (table 1 funcref) (elem func 0)`
		f := fmt.Sprintf("(func (%s %s %s) %s)", op.Name, immediates[op.Immediate], args, strings.Repeat("drop ", len(out)))
		all += f
		metered, _, err := Rewrite(wat.MustCompile(fields+f), Options{})
		if err != nil {
			t.Errorf("%s: %v", op.Name, err)
			continue
		}
		m, err := r.CompileModule(ctx, metered)
		if err != nil {
			t.Errorf("%s: metered: %v", op.Name, err)
			continue
		}
		m.Close(ctx)
	}
	t.Logf("%d instructions", n)
	g := open(t, wazero.NewRuntimeConfig(), wat.MustCompile(control), &Options{})
	if got, err := g.ExportedFunction("run").Call(ctx, 0); err != nil || got[0] != 3 || got[1] != 1 {
		t.Errorf("control: %v, %v, want 3 and 1", got, err)
	}
	if left := g.left(StackExport); left != g.info.Stack {
		t.Errorf("%d octets of the stack budget are left, want all %d back", left, g.info.Stack)
	}
}

// TestUnknown refuses what is not in the table.
func TestUnknown(t *testing.T) {
	code := func(instructions ...byte) []byte {
		m := wat.MustCompile("(func nop)")
		at := bytes.LastIndexByte(m, 0x01) // nop
		body := append(append([]byte{0}, instructions...), 0x0b)
		section := append([]byte{1, byte(len(body))}, body...)
		return append(append(m[:at-5:at-5], 10, byte(len(section))), section...)
	}
	if _, _, err := Rewrite(code(0x01), Options{}); err != nil {
		t.Fatalf("nop: %v", err)
	}
	tests := []struct {
		name   string
		module []byte
		want   string
	}{
		{"legacy try", code(0x06, 0x40, 0x0b), "function 0: unknown opcode 0x6 at offset 1"},
		{"call_ref", code(0x14, 0x00), "unknown opcode 0x14"},
		{"atomic", code(0xfe, 0x03, 0x00), "atomic instruction at offset 1: threads are not supported"},
		{"misc", code(0xfc, 0x12), "unknown opcode 0xfc12"},
		{"relaxed vector", code(0xfd, 0x80, 0x02), "unknown opcode 0xfd 0x100"},
		{"unused vector", code(0xfd, 0x9a, 0x01), "unknown opcode 0xfd9a"},
		{"code after the end", code(0x0b, 0x01), "code goes on after the function's end"},
		{"no end", code(0x02, 0x40), "unexpected end"},
		{"long integer", code(0x41, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00, 0x1a), "integer is too long"},
		{"else alone", code(0x05), "no if to belong to"},
		{"header", []byte("\x00asm\x02\x00\x00\x00"), "not a WebAssembly module"},
		{"section", []byte("\x00asm\x01\x00\x00\x00\x0e\x00"), "unknown section 14"},
		{"order", []byte("\x00asm\x01\x00\x00\x00\x02\x01\x00\x01\x01\x00"), "type section at offset 11 is out of order"},
		{"section length", []byte("\x00asm\x01\x00\x00\x00\x01\x02\x00\x00"), "1 octets too many"},
		{"count", []byte("\x00asm\x01\x00\x00\x00\x01\x05\xff\xff\xff\xff\x0f"), "unexpected end"},
		{"shared memory", []byte("\x00asm\x01\x00\x00\x00\x05\x04\x01\x03\x01\x01"), "shared and 64-bit memories"},
		{"memories", wat.MustCompile("(memory 1) (memory 1)"), "more than one memory"},
		{"memory minimum", wat.MustCompile("(memory 2000)"), "starts with 2000 pages, and 1024 is the limit"},
		{"table minimum", wat.MustCompile("(table 100000 funcref)"), "starts with 100000 elements, and 65536 is the limit"},
		{"locals", wat.MustCompile("(func (local " + strings.Repeat("i32 ", 50_001) + "))"), "more than 50000 locals"},
		{"nesting", code(bytes.Repeat([]byte{0x02, 0x40}, 60)...), "unexpected end"},
		{"no code", wat.MustCompile("(func)")[:8+6+4], "1 functions are declared and 0 have code"},
		{"reserved export", wat.MustCompile(`(global (export "weir_fuel") i64 (i64.const 0))`), `"weir_fuel": this name is reserved`},
		{"static stack", wat.MustCompile(frames(200)), "is the limit"},
		// What metering adds must not come into reach of a module that reads beyond its own.
		{"global of metering", wat.MustCompile("(func (global.set 0 (i64.const 0)))"), "unknown global 0"},
		{"global in a constant", wat.MustCompile("(global i64 (global.get 0))"), "unknown global 0"},
		{"export of a global of metering", wat.MustCompile(`(export "x" (global 0))`), `"x" is number 0 of 0`},
		{"local of metering", wat.MustCompile("(func (loop) (drop (local.get 0)))"), "unknown local 0"},
		{"label of metering", wat.MustCompile("(func $f (br 1) (call $f))"), "unknown label 1"},
		{"type of metering", wat.MustCompile("(func $f (result i32 i32) (call $f)) (func (block (type 2)))"), "unknown block type 2"},
		{"function", wat.MustCompile("(func (call 1))"), "unknown function 1"},
		{"element", wat.MustCompile("(table 1 funcref) (elem (i32.const 0) 0)"), "unknown function 0"},
		{"start", wat.MustCompile("(start 0)"), "unknown function 0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, _, err := Rewrite(tt.module, Options{}); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}

// frames is a chain of functions, each with a large frame.
func frames(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "(func $f%d (param %s) %s)", i, strings.Repeat("i64 ", 900),
			map[bool]string{true: strings.Repeat("(i64.const 0)", 900) + fmt.Sprintf("(call $f%d)", i+1)}[i < n-1])
	}
	return b.String()
}

// TestSections holds which custom sections are kept.
func TestSections(t *testing.T) {
	in := wat.MustCompile(`(func $named (export "run") (param i32)) (@custom "manifest" "{}") (@custom ".debug_line" "x")
		(@custom "sourceMappingURL" "y") (@custom "producers" "z")`)
	metered, _, err := Rewrite(in, Options{})
	if err != nil {
		t.Fatal(err)
	}
	m, err := parse(bytes.ReplaceAll(metered, []byte("weir_"), []byte("xxxx_")))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range m.sections {
		if s.id == sectionCustom {
			got = append(got, s.name+"="+string(s.body[max(0, len(s.body)-5):]))
		}
	}
	if want := "name=named manifest={} producers=z"; strings.Join(got, " ") != want {
		t.Errorf("custom sections %q, want %q", got, want)
	}
	if _, _, err := Rewrite(metered, Options{}); err == nil {
		t.Errorf("a metered module can be metered again, want an error")
	}
}

// TestInputUntouched holds that Rewrite neither modifies its input nor returns parts of it.
func TestInputUntouched(t *testing.T) {
	in := wat.MustCompile(control)
	before := bytes.Clone(in)
	out, _, err := Rewrite(in, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(in, before) {
		t.Error("the input was modified")
	}
	want := bytes.Clone(out)
	clear(in)
	if !bytes.Equal(out, want) {
		t.Error("the output aliases the input")
	}
}

// TestUncounted holds which functions count their frames: those on a cycle of calls, and only those.
func TestUncounted(t *testing.T) {
	tests := []struct {
		name, src string
		want      int
	}{
		{"chain", "(func $a (call $b)) (func $b (call $c)) (func $c)", 0},
		{"itself", "(func $a (call $a)) (func $b (call $a))", 1},
		{"ring with tail", "(func $a (call $b)) (func $b (call $a) (call $c)) (func $c)", 2},
		{"by reference of the same type", "(table funcref (elem $a)) (func $a (call_indirect (i32.const 0))) (func $b)", 1},
		{"by reference of another type", "(table funcref (elem $b)) (func $a (call_indirect (i32.const 0))) (func $b (param i32) (call $a))", 0},
		{"by ref.func", `(table 1 funcref) (elem declare func $a) (func $a (call $b)) (func $b
			(table.set (i32.const 0) (ref.func $a)) (call_indirect (i32.const 0)))`, 2},
		{"by a global", `(table 1 funcref) (global funcref (ref.func $a)) (func $a (call $b)) (func $b (call_indirect (i32.const 0)))`, 2},
		{"by tail call", "(func $a (return_call $b)) (func $b (return_call $a))", 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, info, err := Rewrite(wat.MustCompile(tt.src), Options{})
			if err != nil || info.Counted != tt.want {
				t.Errorf("%d functions count, %v; want %d", info.Counted, err, tt.want)
			}
		})
	}
}

// TestBudgetComesBack calls recursive functions often, leaving them in each possible way: a frame that is not given
// back shows as a trap. With that defence off, it does trap.
func TestBudgetComesBack(t *testing.T) {
	tests := []struct {
		name, src string
		off       defence
	}{
		{"end", "(func $f (param i32) (if (local.get 0) (then (call $f (i32.const 0)))))", offGiveBack},
		{"return", "(func $f (param i32) (if (local.get 0) (then (call $f (i32.const 0)) (return))) (return))", offGiveBack},
		{"br", "(func $f (param i32) (block (br_if 1 (i32.eqz (local.get 0))) (call $f (i32.const 0))))", offGiveBack},
		{"br_table", "(func $f (param i32) (block (br_table 1 0 (local.get 0))) (call $f (i32.const 0)))", offGiveBack},
		{"tail call", "(func $f (param i32) (if (local.get 0) (then (return_call $f (i32.const 0)))))", offGiveBack},
		{"exception", `(tag $e) (func $g (param i32) (if (local.get 0) (then (call $g (i32.const 0)))) (throw $e))
			(func $f (param i32) (block $h (try_table (catch $e $h) (call $g (i32.const 1)))))`, offCatch},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			src := tt.src + `(func (export "run") (param $n i32) (loop $l (call $f (i32.const 1))
				(br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1))))))`
			for _, off := range []defence{0, tt.off} {
				g := open(t, wazero.NewRuntimeConfig(), wat.MustCompile(src), &Options{Stack: 4096, off: off})
				g.refill(1 << 60)
				_, err := g.ExportedFunction("run").Call(t.Context(), 1000)
				if (err != nil) != (off != 0) {
					t.Errorf("with %b off: %v", off, err)
				}
				if left := g.left(StackExport); off == 0 && left != g.info.Stack {
					t.Errorf("%d octets left, want %d", left, g.info.Stack)
				}
			}
		})
	}
}

// FuzzRewrite holds that no input makes Rewrite panic, and that what it makes of a valid module is valid.
func FuzzRewrite(f *testing.F) {
	f.Add(wat.MustCompile(control))
	for _, tt := range spinners {
		f.Add(wat.MustCompile(tt.src))
	}
	for _, tt := range recursions {
		f.Add(wat.MustCompile(recursionFields + tt.src))
	}
	f.Add([]byte("\x00asm\x01\x00\x00\x00\x0a\x04\x01\x02\x00\x0b"))
	f.Fuzz(func(t *testing.T, module []byte) {
		if len(module) > 10_000 {
			return
		}
		var metered []byte
		var err error
		fuzzing.Bounded(t, len(module), 64<<10, func() { metered, _, err = Rewrite(module, Options{Enter: []string{"", "f", "run"}}) })
		if err != nil || !namesKept(module) {
			return
		}
		ctx := t.Context()
		// The interpreter validates the same and compiles in no time.
		r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter().WithCoreFeatures(features))
		defer r.Close(ctx)
		if _, err := r.CompileModule(ctx, module); err != nil {
			return
		}
		if _, err := r.CompileModule(ctx, metered); err != nil {
			t.Errorf("valid, but not when it is metered: %v\n% x", err, module)
		}
	})
}

// namesKept reports whether Rewrite leaves the names of a module as they are. wazero makes room for as many as their section says that it has,
// gigabytes for a few octets, before it looks for them; what Rewrite gives it has no more than it says.
func namesKept(module []byte) bool {
	m, err := parse(module)
	if err != nil {
		return false
	}
	for _, s := range m.sections {
		if s.name == "name" && len(keepNames(s.body)) < len(s.body) {
			return false
		}
	}
	return true
}

// The way in that Rewrite adds sets both globals, and gives the result with what is left of the fuel.
func TestEnter(t *testing.T) {
	in := wat.MustCompile(`(module
		(func $down (param i32) (if (local.get 0) (then (call $down (i32.sub (local.get 0) (i32.const 1))))))
		(func $query (export "query") (result i64) (call $down (i32.const 10)) (i64.const 42))
		(func (export "odd") (param i32) (result i64) (i64.const 1))
		(func (export "narrow") (result i32) (i32.const 1)))`)
	metered, info, err := Rewrite(in, Options{Enter: []string{"query", "odd", "narrow", "missing"}})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().WithCoreFeatures(features))
	defer r.Close(ctx)
	m, err := r.Instantiate(ctx, metered)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"odd", "narrow", "missing"} {
		if m.ExportedFunction(EnterExport+name) != nil {
			t.Errorf("%s has a way in", name)
		}
	}
	enter, fuel, stack := m.ExportedFunction(EnterExport+"query"), m.ExportedGlobal(FuelExport), m.ExportedGlobal(StackExport)
	if enter == nil {
		t.Fatal("query has no way in")
	}
	out, err := enter.Call(ctx, 1000, uint64(info.Stack))
	if err != nil || out[0] != 42 || out[1] != fuel.Get() || out[1] >= 1000 || stack.Get() != uint64(info.Stack) {
		t.Errorf("got %d, %v with %d left of the fuel and %d of the stack, want 42, with %d and %d", out, err, fuel.Get(), stack.Get(), fuel.Get(), info.Stack)
	}
	if _, err := enter.Call(ctx, 1000-out[1]-1, uint64(info.Stack)); err == nil || int64(fuel.Get()) >= 0 {
		t.Errorf("with one unit less it ends with %v, and %d units", err, int64(fuel.Get()))
	}
	if _, err := enter.Call(ctx, 1000, 100); err == nil || int64(stack.Get()) >= 0 {
		t.Errorf("with hardly any stack it ends with %v, and %d octets", err, int64(stack.Get()))
	}
	for _, name := range []string{FuelExport, StackExport, EnterExport + "x"} {
		if _, _, err := Rewrite(wat.MustCompile(`(module (func (export "`+name+`")))`), Options{}); err == nil || !strings.Contains(err.Error(), "reserved") {
			t.Errorf("export %s: got %v", name, err)
		}
	}
}
