package meter

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"github.com/weirdns/weir/host/wasm/wat"
)

// buildGo returns the Go guest.
func buildGo(t testing.TB) []byte {
	out := filepath.Join(t.TempDir(), "guest.wasm")
	build := exec.CommandContext(t.Context(), "go", "build", "-buildmode=c-shared", "-o", out, "./testdata/go")
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the Go guest: %v\n%s", err, text)
	}
	module, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return module
}

// guest is an instance of a module.
type guest struct {
	api.Module
	info    Info
	metered bool
}

// open instantiates a module, metered or not.
func open(t testing.TB, config wazero.RuntimeConfig, module []byte, o *Options) *guest {
	t.Helper()
	ctx := t.Context()
	r := wazero.NewRuntimeWithConfig(ctx, config.WithCoreFeatures(features))
	t.Cleanup(func() { r.Close(context.Background()) })
	wasi_snapshot_preview1.MustInstantiate(ctx, r)
	if _, err := r.NewHostModuleBuilder("env").NewFunctionBuilder().
		WithFunc(func(int32, int32, int32, int32) {}).Export("abort").
		NewFunctionBuilder().WithFunc(func(n int32) int32 { return n + 1 }).Export("host").Instantiate(ctx); err != nil {
		t.Fatal(err)
	}
	g := &guest{metered: o != nil}
	if o != nil {
		var err error
		if module, g.info, err = Rewrite(module, *o); err != nil {
			t.Fatal(err)
		}
	}
	m, err := r.InstantiateWithConfig(ctx, module, wazero.NewModuleConfig().WithStartFunctions("_initialize"))
	if err != nil {
		t.Fatal(err)
	}
	g.Module = m
	return g
}

// refill does what the host does before each call.
func (g *guest) refill(fuel int64) {
	if g.metered {
		g.ExportedGlobal(FuelExport).(api.MutableGlobal).Set(uint64(fuel))
		g.ExportedGlobal(StackExport).(api.MutableGlobal).Set(uint64(g.info.Stack))
	}
}

// variants are the ways to run a guest.
var variants = []struct {
	name   string
	config wazero.RuntimeConfig
	o      *Options
}{
	{"plain", wazero.NewRuntimeConfig(), nil},
	{"metered", wazero.NewRuntimeConfig(), &Options{Fuel: 1 << 60, Stack: 8 << 20}},
	{"close-on-context-done", wazero.NewRuntimeConfig().WithCloseOnContextDone(true), nil},
}

// benchmark calls an export of each variant with the refill that the host does.
func benchmark(b *testing.B, module []byte, setup map[string]uint64, export string, arg uint64) {
	for _, v := range variants {
		b.Run(v.name, func(b *testing.B) {
			ctx := b.Context()
			g := open(b, v.config, module, v.o)
			for name, arg := range setup {
				if _, err := g.ExportedFunction(name).Call(ctx, arg); err != nil {
					b.Fatal(err)
				}
			}
			f := g.ExportedFunction(export)
			stack := make([]uint64, 1)
			var fuel, budget api.MutableGlobal
			if g.metered {
				fuel = g.ExportedGlobal(FuelExport).(api.MutableGlobal)
				budget = g.ExportedGlobal(StackExport).(api.MutableGlobal)
			}
			b.ReportAllocs()
			for b.Loop() {
				if g.metered {
					fuel.Set(1 << 60)
					budget.Set(uint64(g.info.Stack))
				}
				stack[0] = arg
				if err := f.CallWithStack(ctx, stack); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkGoNothing(b *testing.B) { benchmark(b, buildGo(b), nil, "nothing", 1) }

func BenchmarkGoLookup(b *testing.B) {
	benchmark(b, buildGo(b), map[string]uint64{"fill": 100_000}, "lookup", 0)
}

func BenchmarkGoHash(b *testing.B)    { benchmark(b, buildGo(b), nil, "hash", 64) }
func BenchmarkGoSort(b *testing.B)    { benchmark(b, buildGo(b), nil, "sort", 1000) }
func BenchmarkGoRecurse(b *testing.B) { benchmark(b, buildGo(b), nil, "recurse", 15) }

// BenchmarkLoop is a loop of ten instructions, 1000 times.
func BenchmarkLoop(b *testing.B) {
	benchmark(b, wat.MustCompile(`(func (export "run") (param $n i32) (result i64) (local $x i64)
		(loop $again
			(local.set $x (i64.add (i64.mul (local.get $x) (i64.const 31)) (i64.const 7)))
			(br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
		(local.get $x))`), nil, "run", 1000)
}

// BenchmarkLoopCall is a loop around a call.
func BenchmarkLoopCall(b *testing.B) {
	benchmark(b, wat.MustCompile(`
		(func $step (param i64) (result i64) (i64.add (i64.mul (local.get 0) (i64.const 31)) (i64.const 7)))
		(func (export "run") (param $n i32) (result i64) (local $x i64)
		(loop $again
			(local.set $x (call $step (local.get $x)))
			(br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
		(local.get $x))`), nil, "run", 1000)
}

// BenchmarkRewrite is what loading a module costs.
func BenchmarkRewrite(b *testing.B) {
	module := buildGo(b)
	b.SetBytes(int64(len(module)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := Rewrite(module, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}
