package filters_test

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"github.com/weirdns/weir/abi"
	"github.com/weirdns/weir/filters/build/driver"
	"github.com/weirdns/weir/sdk"
	"github.com/weirdns/weir/sdk/sdktest"
)

// TestModules runs the cases of each filter against its module, in a bare wazero: the same files that the tests of the filters run
// natively, so both must agree. It also holds the modules to what they say they need.
func TestModules(t *testing.T) {
	files, err := filepath.Glob("*/filter.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("filters: %d found, %v", len(files), err)
	}
	for _, f := range files {
		name := filepath.Dir(f)
		t.Run(name, func(t *testing.T) {
			module, err := driver.Module(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			m, err := abi.ReadManifest(module)
			if err != nil || m.Name != name {
				t.Fatalf("manifest: got name %q and error %v, want %q", m.Name, err, name)
			}
			r := newRuntime(t.Context(), t, module)
			checkImports(t, r.compiled, m)
			for _, l := range sdktest.Lookups {
				t.Run(l.String(), func(t *testing.T) {
					sdktest.Run(t, filepath.Join(name, "testdata", "*.txtar"), sdktest.With(l, r.open))
				})
			}
		})
	}
}

// checkImports: a module imports nothing that its manifest does not name.
func checkImports(t *testing.T, m wazero.CompiledModule, manifest abi.Manifest) {
	granted := " " + strings.Join(manifest.Grants, " ") + " "
	for _, f := range m.ImportedFunctions() {
		module, name, _ := f.Import()
		need := map[string]string{
			abi.Log: abi.GrantLog, abi.Metric: abi.GrantMetrics, abi.MetricAdd: abi.GrantMetrics,
			abi.TableGet: abi.GrantTables, abi.TableLongest: abi.GrantTables, abi.TableNext: abi.GrantTables, abi.TablePrefix: abi.GrantTables,
		}[name]
		if module == abi.HostModule && need != "" && !strings.Contains(granted, " "+need+" ") {
			t.Errorf("imports %s without the grant %s", name, need)
		}
	}
}

// A runtime holds one compiled module, whose instances have hosts of their own.
type runtime struct {
	ctx      context.Context
	runtime  wazero.Runtime
	compiled wazero.CompiledModule
	count    int
}

func newRuntime(ctx context.Context, t testing.TB, module []byte) *runtime {
	t.Helper()
	r := &runtime{ctx: ctx, runtime: wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler())}
	t.Cleanup(func() { r.runtime.Close(context.WithoutCancel(ctx)) })
	wasi_snapshot_preview1.MustInstantiate(ctx, r.runtime)
	if err := exportHost(ctx, r.runtime); err != nil {
		t.Fatal(err)
	}
	var err error
	if r.compiled, err = r.runtime.CompileModule(ctx, module); err != nil {
		t.Fatal(err)
	}
	return r
}

// hostKey is the key of the host of an instance in the context of its calls.
type hostKey struct{}

// exportHost makes the host functions, which call those of the host in the context.
func exportHost(ctx context.Context, r wazero.Runtime) error {
	type function func(h sdk.Host, memory api.Memory, s []uint64) uint64
	const i32, i64, f64 = api.ValueTypeI32, api.ValueTypeI64, api.ValueTypeF64
	b := r.NewHostModuleBuilder(abi.HostModule)
	add := func(name string, parameters, results []api.ValueType, f function) {
		b.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(func(ctx context.Context, m api.Module, s []uint64) {
			if result := f(ctx.Value(hostKey{}).(sdk.Host), m.Memory(), s); len(results) > 0 {
				s[0] = result
			}
		}), parameters, results).Export(name)
	}
	add(abi.NameAdd, []api.ValueType{i32, i32}, []api.ValueType{i32}, func(h sdk.Host, m api.Memory, s []uint64) uint64 {
		return uint64(uint32(h.NameAdd(view(m, s[0], s[1]))))
	})
	add(abi.ConfigRead, []api.ValueType{i32, i32, i32}, []api.ValueType{i32}, func(h sdk.Host, m api.Memory, s []uint64) uint64 {
		return uint64(h.ConfigRead(uint32(s[0]), view(m, s[1], s[2])))
	})
	add(abi.Explain, []api.ValueType{i32, i32}, nil, func(h sdk.Host, m api.Memory, s []uint64) uint64 {
		h.Explain(view(m, s[0], s[1]))
		return 0
	})
	add(abi.Log, []api.ValueType{i32, i32, i32}, nil, func(h sdk.Host, m api.Memory, s []uint64) uint64 {
		h.Log(uint32(s[0]), view(m, s[1], s[2]))
		return 0
	})
	add(abi.Metric, []api.ValueType{i32, i32, i32}, []api.ValueType{i32}, func(h sdk.Host, m api.Memory, s []uint64) uint64 {
		return uint64(h.Metric(uint32(s[0]), view(m, s[1], s[2])))
	})
	add(abi.MetricAdd, []api.ValueType{i32, f64}, nil, func(h sdk.Host, _ api.Memory, s []uint64) uint64 {
		h.MetricAdd(uint32(s[0]), math.Float64frombits(s[1]))
		return 0
	})
	for name, f := range map[string]func(sdk.Host, uint32, []byte, []byte) int64{
		abi.TableGet: sdk.Host.TableGet, abi.TableLongest: sdk.Host.TableLongest, abi.TableNext: sdk.Host.TableNext, abi.TablePrefix: sdk.Host.TablePrefix,
	} {
		add(name, []api.ValueType{i32, i32, i32, i32, i32}, []api.ValueType{i64}, func(h sdk.Host, m api.Memory, s []uint64) uint64 {
			return uint64(f(h, uint32(s[0]), view(m, s[1], s[2]), view(m, s[3], s[4])))
		})
	}
	_, err := b.Instantiate(ctx)
	return err
}

// view is a part of the memory of a guest; outside of it is a fault.
func view(m api.Memory, offset, size uint64) []byte {
	b, ok := m.Read(uint32(offset), uint32(size))
	if !ok {
		panic(fmt.Sprintf("octets %d+%d are outside of the memory", offset, size))
	}
	return b
}

// instance is an instance of a module; it implements [sdktest.Instance].
type instance struct {
	ctx       context.Context
	module    api.Module
	configure api.Function
	phases    [3]api.Function
	frame     uint32
	stack     [1]uint64
}

// open implements [sdktest.Open].
func (r *runtime) open(h *sdktest.Host) (sdktest.Instance, error) { return r.instantiate(h) }

func (r *runtime) instantiate(h sdk.Host) (*instance, error) {
	ctx := context.WithValue(r.ctx, hostKey{}, h)
	r.count++
	m, err := r.runtime.InstantiateModule(ctx, r.compiled, wazero.NewModuleConfig().WithName(fmt.Sprint(r.count)).WithStartFunctions("_initialize"))
	if err != nil {
		return nil, err
	}
	i := &instance{ctx: ctx, module: m, configure: m.ExportedFunction(abi.ExportConfigure)}
	i.phases[abi.PhaseQuery] = m.ExportedFunction(abi.ExportQuery)
	i.phases[abi.PhaseResponse] = m.ExportedFunction(abi.ExportResponse)
	at, err := m.ExportedFunction(abi.Export).Call(ctx)
	if err != nil {
		return nil, err
	}
	if i.frame = uint32(at[0]); i.frame%8 != 0 {
		return nil, fmt.Errorf("frame at %d: not a multiple of 8", i.frame)
	}
	return i, nil
}

func (i *instance) Configure(size int) (uint64, []byte) {
	i.stack[0] = uint64(size)
	i.call(i.configure)
	_, _, length, offset := abi.Unpack(i.stack[0])
	if int64(i.stack[0]) >= 0 {
		return i.stack[0], nil
	}
	return i.stack[0], view(i.module.Memory(), uint64(offset), uint64(length))
}

func (i *instance) Frame() []byte { return view(i.module.Memory(), uint64(i.frame), abi.FrameTotal) }

func (i *instance) Call(phase uint8) (uint64, []byte) {
	i.call(i.phases[phase])
	_, _, length, offset := abi.Unpack(i.stack[0])
	return i.stack[0], view(i.module.Memory(), uint64(offset), uint64(length))
}

func (i *instance) call(f api.Function) {
	if err := f.CallWithStack(i.ctx, i.stack[:]); err != nil {
		panic(err)
	}
}
