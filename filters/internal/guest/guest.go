//go:build !wasip1

// Package guest runs the modules of the filters here in a bare wazero, with the host of package sdktest: what they do there, they do without any help
// from weir's own host.
package guest

import (
	"context"
	"fmt"
	"math"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"github.com/weirdns/weir/abi"
	"github.com/weirdns/weir/sdk"
	"github.com/weirdns/weir/sdk/sdktest"
)

// Runtime holds one compiled module, whose instances have hosts of their own.
type Runtime struct {
	ctx      context.Context
	runtime  wazero.Runtime
	Compiled wazero.CompiledModule
	count    int
}

// New compiles a module in a runtime that ends with the test.
func New(ctx context.Context, t testing.TB, module []byte) *Runtime {
	t.Helper()
	r := &Runtime{ctx: ctx, runtime: wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler())}
	t.Cleanup(func() {
		if err := r.runtime.Close(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
	})
	wasi_snapshot_preview1.MustInstantiate(ctx, r.runtime)
	if err := exportHost(ctx, r.runtime); err != nil {
		t.Fatal(err)
	}
	var err error
	if r.Compiled, err = r.runtime.CompileModule(ctx, module); err != nil {
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

// Instance is an instance of a module; it implements [sdktest.Instance].
type Instance struct {
	ctx       context.Context
	Module    api.Module
	configure api.Function
	Phases    [3]api.Function // by number
	frame     uint32
	Stack     [1]uint64 // parameter and result of a call
}

// Open implements [sdktest.Open].
func (r *Runtime) Open(h *sdktest.Host) (sdktest.Instance, error) { return r.Instantiate(h) }

// Instantiate makes an instance that calls the functions of h.
func (r *Runtime) Instantiate(h sdk.Host) (*Instance, error) {
	ctx := context.WithValue(r.ctx, hostKey{}, h)
	r.count++
	m, err := r.runtime.InstantiateModule(ctx, r.Compiled, wazero.NewModuleConfig().WithName(fmt.Sprint(r.count)).WithStartFunctions("_initialize"))
	if err != nil {
		return nil, err
	}
	i := &Instance{ctx: ctx, Module: m, configure: m.ExportedFunction(abi.ExportConfigure)}
	i.Phases[abi.PhaseQuery] = m.ExportedFunction(abi.ExportQuery)
	i.Phases[abi.PhaseResponse] = m.ExportedFunction(abi.ExportResponse)
	at, err := m.ExportedFunction(abi.Export).Call(ctx)
	if err != nil {
		return nil, err
	}
	if i.frame = uint32(at[0]); i.frame%8 != 0 {
		return nil, fmt.Errorf("frame at %d: not a multiple of 8", i.frame)
	}
	return i, nil
}

// Configure implements [sdktest.Instance].
func (i *Instance) Configure(size int) (uint64, []byte) {
	i.Stack[0] = uint64(size)
	i.Invoke(i.configure)
	_, _, length, offset := abi.Unpack(i.Stack[0])
	if int64(i.Stack[0]) >= 0 {
		return i.Stack[0], nil
	}
	return i.Stack[0], view(i.Module.Memory(), uint64(offset), uint64(length))
}

// Frame implements [sdktest.Instance].
func (i *Instance) Frame() []byte { return view(i.Module.Memory(), uint64(i.frame), abi.FrameTotal) }

// Call implements [sdktest.Instance].
func (i *Instance) Call(phase uint8) (uint64, []byte) {
	i.Invoke(i.Phases[phase])
	_, _, length, offset := abi.Unpack(i.Stack[0])
	return i.Stack[0], view(i.Module.Memory(), uint64(offset), uint64(length))
}

// Invoke calls a function, which must not trap.
func (i *Instance) Invoke(f api.Function) {
	if err := f.CallWithStack(i.ctx, i.Stack[:]); err != nil {
		panic(err)
	}
}

// Host returns the host that the instance calls.
func (i *Instance) Host() sdk.Host { return i.ctx.Value(hostKey{}).(sdk.Host) }
