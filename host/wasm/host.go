package wasm

import (
	"context"
	"fmt"
	"math"
	"runtime/debug"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/weirdns/weir/abi"
	"github.com/weirdns/weir/host/message"
)

// hostFunction is a function that guests import. Parameters and results are on the stack.
type hostFunction struct {
	name      string
	signature string // parameters, colon, results: i for i32, I for i64, F for f64
	grant     grants // what the manifest has to name; 0 nothing
	call      func(i *instance, stack []uint64)
}

// hostFunctions are those of abi/README.md section 5. Pointers are checked in 64 bits, since pointer and size together may exceed 32.
var hostFunctions = []hostFunction{
	{abi.ConfigRead, "iii:i", 0, (*instance).configRead},
	{abi.NameAdd, "ii:i", 0, (*instance).nameAdd},
	{abi.Explain, "ii:", 0, (*instance).explain},
	{abi.Log, "iii:", grantLog, (*instance).log},
	{abi.Metric, "iii:i", grantMetrics, (*instance).metric},
	{abi.MetricAdd, "iF:", grantMetrics, (*instance).metricAdd},
	{abi.TableGet, "iiiii:I", grantTables, (*instance).tableGet},
	{abi.TableLongest, "iiiii:I", grantTables, (*instance).tableLongest},
	{abi.TableNext, "iiiii:I", grantTables, (*instance).tableNext},
	{abi.TablePrefix, "iiiii:I", grantTables, (*instance).tablePrefix},
}

var hostSignatures = signatures(hostFunctions)

func signatures(functions []hostFunction) map[string]string {
	m := make(map[string]string, len(functions))
	for _, f := range functions {
		m[f.name] = f.signature
	}
	return m
}

// instantiateHost makes functions importable from a module of that name.
func instantiateHost(ctx context.Context, engine wazero.Runtime, module string, functions []hostFunction) error {
	b := engine.NewHostModuleBuilder(module)
	for _, f := range functions {
		params, results := parseSignature(f.signature)
		b.NewFunctionBuilder().WithGoModuleFunction(guard(f.call), params, results).Export(f.name)
	}
	_, err := b.Instantiate(ctx)
	return err
}

func parseSignature(s string) (params, results []api.ValueType) {
	to := &params
	for _, c := range s {
		switch c {
		case 'i':
			*to = append(*to, api.ValueTypeI32)
		case 'I':
			*to = append(*to, api.ValueTypeI64)
		case 'F':
			*to = append(*to, api.ValueTypeF64)
		case ':':
			to = &results
		}
	}
	return params, results
}

// guard counts the call, finds the instance, and turns a panic that is a mistake of weir into a fault of the filter's: one query is
// worse off than the others then, instead of all.
func guard(call func(*instance, []uint64)) api.GoModuleFunc {
	return func(ctx context.Context, _ api.Module, stack []uint64) {
		i := ctx.(*instance)
		if i.calls--; i.calls < 0 && i.filter.limits.off&offHostCalls == 0 {
			i.end(causeHostCalls, errHostCalls)
		}
		defer i.recovered()
		call(i, stack)
	}
}

func (i *instance) recovered() {
	r := recover()
	if r == nil {
		return
	}
	if !i.ended && i.filter.limits.off&offRecover == 0 {
		i.cause = causePanic
		i.filter.logger.Error("panic in a host function: this is a mistake in weir", "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
		panic(errPanic)
	}
	panic(r)
}

// end ends the call of the guest. wazero unwinds the guest's stack and returns err from the call.
func (i *instance) end(c cause, err error) {
	i.cause, i.ended = c, true
	panic(err)
}

// at gives octets of the guest's memory. They must not be kept.
func (i *instance) at(ptr, size uint64) []byte {
	// Both are unsigned i32 in 64-bit slots of the stack, of which wazero leaves the upper halves undefined.
	p, n := uint64(uint32(ptr)), uint64(uint32(size))
	m := i.memory.octets()
	if p+n > uint64(len(m)) {
		i.end(causeMemory, errMemory)
	}
	if i.octets -= int(n); i.octets < 0 && i.filter.limits.off&offHostOctets == 0 {
		i.end(causeHostCalls, errHostOctets)
	}
	return m[p : p+n : p+n]
}

func (i *instance) configRead(stack []uint64) {
	if i.document == nil {
		i.end(causeHost, errHostUse)
	}
	rest := i.document[min(uint64(uint32(stack[0])), uint64(len(i.document))):]
	size := min(uint64(uint32(stack[2])), uint64(len(rest)))
	stack[0] = uint64(copy(i.at(stack[1], size), rest))
}

func (i *instance) explain(stack []uint64) {
	if i.call == nil || i.call.Query.Trace == nil {
		return
	}
	if i.explained++; i.explained > abi.MaxExplainLines {
		return
	}
	size := min(uint64(uint32(stack[1])), abi.MaxExplainSize)
	phase := "query"
	if i.call.Response != nil {
		phase = "response"
	}
	i.call.Query.Trace.Add(message.Step{Part: "filter " + i.filter.name, Event: "explain", Phase: phase}, "%s", printable(i.at(stack[0], size)))
}

func (i *instance) log(stack []uint64) {
	level := uint32(stack[0])
	if level > 3 {
		i.end(causeHost, errHostUse)
	}
	i.filter.lines.log(int(level), i.at(stack[1], min(uint64(uint32(stack[2])), abi.MaxLogSize)))
}

func (i *instance) metric(stack []uint64) {
	kind, size := uint32(stack[0]), uint64(uint32(stack[2]))
	if i.document == nil || kind > abi.MetricHistogram || size > 64 {
		i.end(causeHost, errHostUse)
	}
	n, ok := i.filter.metrics.number(kind, string(i.at(stack[1], size)))
	if !ok {
		i.end(causeHost, errHostUse)
	}
	stack[0] = uint64(n)
}

func (i *instance) metricAdd(stack []uint64) {
	if !i.filter.metrics.add(uint32(stack[0]), math.Float64frombits(stack[1])) {
		i.end(causeHost, errHostUse)
	}
}

// snapshot pins a table for the rest of the call.
func (i *instance) snapshot(number uint64) Snapshot {
	n := uint64(uint32(number))
	if n >= uint64(len(i.tables)) {
		i.end(causeHost, errHostUse)
	}
	if i.tables[n] != nil {
		return i.tables[n]
	}
	s := i.filter.names.table // the last one
	if n < uint64(len(i.tables)-1) {
		s = i.filter.document.tables[n].Snapshot()
	} else if s == nil {
		i.end(causeHost, errHostUse) // it has none
	}
	i.pin(uint16(n), s)
	return s
}

// none is -1: there is no such key.
const none = math.MaxUint64

func (i *instance) tableGet(stack []uint64) {
	s := i.snapshot(stack[0])
	key := i.at(stack[1], stack[2])
	value, ok := s.Get(key)
	i.found(stack, len(key), nil, value, ok)
}

func (i *instance) tableLongest(stack []uint64) {
	s := i.snapshot(stack[0])
	matched, value, ok := s.Longest(i.at(stack[1], stack[2]))
	i.found(stack, matched, nil, value, ok)
}

func (i *instance) tableNext(stack []uint64) {
	s := i.snapshot(stack[0])
	key, value, ok := s.Next(i.at(stack[1], stack[2]))
	i.found(stack, len(key), key, value, ok)
}

func (i *instance) tablePrefix(stack []uint64) {
	s := i.snapshot(stack[0])
	address := i.at(stack[1], stack[2])
	if len(address) != 4 && len(address) != 16 {
		i.end(causeHost, errHostUse)
	}
	bits, value, ok := s.Prefix(address)
	i.found(stack, bits, nil, value, ok)
}

// found writes key and value where the guest wants them, if they fit, and returns matched << 32 | size of the value.
func (i *instance) found(stack []uint64, matched int, key, value []byte, ok bool) {
	if !ok {
		stack[0] = none
		return
	}
	size := len(key) + len(value)
	if uint64(size) <= uint64(uint32(stack[4])) {
		out := i.at(stack[3], uint64(size))
		copy(out[copy(out, key):], value)
	}
	stack[0] = uint64(matched)<<32 | uint64(len(value))
}
