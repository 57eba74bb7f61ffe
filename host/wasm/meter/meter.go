package meter

import (
	"fmt"
	"math"
)

// The globals that Rewrite adds and exports. Both are mutable and of type i64.
const (
	// FuelExport is what is left of the fuel. The host sets it before each call; a call that wants more traps.
	FuelExport = "weir_fuel"

	// StackExport is what is left of the stack budget, in octets. The host sets it to Info.Stack before each call,
	// since a call that trapped has not given back what it took.
	StackExport = "weir_stack"
)

// EnterExport is what the name of a function that Options.Enter names begins with in the export that Rewrite adds for it.
const EnterExport = "weir_enter_"

// Defaults of Options.
const (
	DefaultFuel             = 50_000_000 // for initialization: stock Go takes some 3 million
	DefaultStack            = 2 << 20    // native stack stays below 8 MB with the copies that wazero makes to grow it
	DefaultMaxMemoryPages   = 1024       // 64 MiB
	DefaultMaxTableElements = 1 << 16
)

// Options are the limits that Rewrite writes into a module. Zero fields mean the defaults.
type Options struct {
	// Fuel is the initial value of the fuel global, which the start function runs on. See FuelExport.
	Fuel int64

	// Stack is how many octets of native stack a call may take, by Rewrite's estimate of frames.
	Stack int64

	// MaxMemoryPages is the most pages of 64 KiB that the module's memory may have.
	MaxMemoryPages uint32

	// MaxTableElements is the most elements that each of the module's tables may have.
	MaxTableElements uint32

	// Enter are names of exported functions without parameters, and with one i64 for a result, that the host calls often. Each gets a second
	// export, see EnterExport, of type (fuel, stack i64) -> (result, fuel i64): it sets both globals, calls the function, and gives what
	// is left of the fuel with its result, which for a small function takes half the time of going through the globals. Functions that
	// don't exist, or are of another type, get none.
	Enter []string

	off defence // what tests switch off to see that it is needed
}

// defence is a set of what metering does.
type defence uint16

const (
	offEntry defence = 1 << iota
	offLoop
	offBulk
	offGrow
	offTry
	offCatch
	offGiveBack
	offStack
	offLimits
)

func (o *Options) defaults() {
	if o.Fuel == 0 {
		o.Fuel = DefaultFuel
	}
	if o.Stack == 0 {
		o.Stack = DefaultStack
	}
	if o.MaxMemoryPages == 0 {
		o.MaxMemoryPages = DefaultMaxMemoryPages
	}
	if o.MaxTableElements == 0 {
		o.MaxTableElements = DefaultMaxTableElements
	}
}

// Info describes a metered module.
type Info struct {
	// Stack is what the host sets StackExport to before each call: Options.Stack less the frames that are bounded
	// without counting.
	Stack int64

	// Functions is how many functions the module has, and Counted how many of them count their frames because they
	// may be on the stack more than once.
	Functions, Counted int

	// Growth is the size of the metered module in proportion to the original.
	Growth float64
}

// Rewrite returns a module that does what the given one does, and traps when it takes more fuel or stack than it was
// given, or is refused more memory or table elements than o allows. The given module is neither kept nor modified.
//
// It refuses modules that it does not understand to the last octet, with an error that names section or function,
// instruction and offset (within the function's body); that declare more memory or table elements than allowed; that
// use the reserved export names; or whose frames don't fit the stack without any recursion. It does not validate
// types: whoever compiles the result does, and an invalid module stays invalid.
//
// It may be called concurrently.
func Rewrite(in []byte, o Options) ([]byte, Info, error) {
	o.defaults()
	m, err := parse(in)
	if err != nil {
		return nil, Info{}, fmt.Errorf("meter: %w", err)
	}
	funcs, err := m.analyze(&o)
	if err != nil {
		return nil, Info{}, fmt.Errorf("meter: %w", err)
	}
	use := m.graph(funcs).stack()
	if use.static > o.Stack/2 && o.off&offStack == 0 {
		return nil, Info{}, fmt.Errorf("meter: calls without any recursion take %d octets of stack, and %d is the limit",
			use.static, o.Stack/2)
	}
	if o.off&offStack != 0 {
		clear(use.cyclic)
		use.count = 0
	}
	info := Info{Stack: o.Stack - use.static, Functions: len(m.bodies), Counted: use.count}
	m.findEntries(&o)
	out, err := m.write(&o, funcs, use, info.Stack, make([]byte, 0, len(in)+len(in)/2))
	if err != nil {
		return nil, Info{}, fmt.Errorf("meter: %w", err)
	}
	info.Growth = float64(len(out)) / float64(len(in))
	return out, info, nil
}

// analyze reads all function bodies.
func (m *module) analyze(o *Options) ([]*function, error) {
	a := analyzer{module: m, o: o}
	funcs := make([]*function, len(m.funcs))
	for i, body := range m.bodies {
		n := m.imported + i
		f, err := a.function(m.funcs[n], body)
		if err != nil {
			return nil, fmt.Errorf("function %d: %w", n, err)
		}
		funcs[n] = f
	}
	return funcs, nil
}

// write appends the metered module.
func (m *module) write(o *Options, funcs []*function, use stackUse, budget int64, out []byte) ([]byte, error) {
	code := m.writeCode(o, funcs, use, budget) // first, since it may add types
	enter := m.enterType()
	out = append(out, "\x00asm\x01\x00\x00\x00"...)
	global, export := false, false
	add := func(id byte, body []byte) { out = appendVector(append(out, id), body) }
	// before writes the sections that the module may not have, when their turn has come.
	before := func(rank int) {
		if rank > sections[sectionGlobal].rank && !global {
			global = true
			add(sectionGlobal, m.writeGlobals(o, budget, nil))
		}
		if rank > sections[sectionExport].rank && !export {
			export = true
			add(sectionExport, m.writeExports(nil))
		}
	}
	for _, s := range m.sections {
		if s.id != sectionCustom {
			before(sections[s.id].rank)
		}
		switch s.id {
		case sectionCustom:
			if body, keep := keepCustom(s); keep {
				add(s.id, append(appendName(nil, s.name), body...))
			}
		case sectionType:
			add(s.id, m.writeTypes(s.body))
		case sectionFunction:
			body := extended(s.body, len(m.entries))
			for range m.entries {
				body = appendUint(body, uint64(enter))
			}
			add(s.id, body)
		case sectionTable, sectionMemory:
			body, err := writeLimits(o, s)
			if err != nil {
				return nil, fmt.Errorf("%s section: %w", sections[s.id].name, err)
			}
			add(s.id, body)
		case sectionGlobal:
			global = true
			add(s.id, m.writeGlobals(o, budget, s.body))
		case sectionExport:
			export = true
			add(s.id, m.writeExports(s.body))
		case sectionCode:
			add(s.id, code)
		default:
			add(s.id, s.body)
		}
	}
	before(math.MaxInt)
	return out, nil
}

// extended returns a section's count, increased, and its entries.
func extended(body []byte, more int) (section []byte) {
	r := reader{b: body}
	n := uint32(0)
	if body != nil {
		n = r.u32()
	}
	return append(appendUint(nil, uint64(n)+uint64(more)), body[r.pos:]...)
}

func (m *module) writeTypes(body []byte) []byte {
	out := extended(body, len(m.newTypes))
	for _, t := range m.newTypes {
		out = appendName(appendName(append(out, 0x60), t.params), t.results)
	}
	return out
}

func (m *module) writeGlobals(o *Options, budget int64, body []byte) []byte {
	out := extended(body, 2)
	for _, v := range []int64{o.Fuel, budget} {
		out = append(appendInt(append(out, 0x7e, 1, 0x42), v), 0x0b) // (mut i64) (i64.const v) end
	}
	return out
}

func (m *module) writeExports(body []byte) []byte {
	out := extended(body, 2+len(m.entries))
	for i, name := range []string{FuelExport, StackExport} {
		out = appendUint(append(appendName(out, name), 3), uint64(m.globals+i))
	}
	for i, e := range m.entries {
		out = appendUint(append(appendName(out, e.name), 0), uint64(len(m.funcs)+i))
	}
	return out
}

// writeLimits lowers the maximum of each table or memory.
func writeLimits(o *Options, s section) ([]byte, error) {
	if o.off&offLimits != 0 {
		return s.body, nil
	}
	what, most := "pages", o.MaxMemoryPages
	if s.id == sectionTable {
		what, most = "elements", o.MaxTableElements
	}
	r := reader{b: s.body}
	n := r.count()
	out := appendUint(nil, uint64(n))
	for range n {
		if s.id == sectionTable {
			out = append(out, r.octet())
		}
		minimum, maximum, err := limits(&r)
		if err != nil {
			return nil, err
		}
		if minimum > most {
			return nil, fmt.Errorf("starts with %d %s, and %d is the limit", minimum, what, most)
		}
		if maximum < minimum {
			return nil, fmt.Errorf("at least %d %s and at most %d", minimum, what, maximum)
		}
		out = appendUint(appendUint(append(out, 1), uint64(minimum)), uint64(min(maximum, most)))
	}
	return out, r.err
}

// writeCode returns the metered code section.
func (m *module) writeCode(o *Options, funcs []*function, use stackUse, budget int64) []byte {
	size := 0
	for _, body := range m.bodies {
		size += len(body)
	}
	out := appendUint(make([]byte, 0, size+size/2), uint64(len(m.bodies)+len(m.entries)))
	e := emitter{o: o, fuel: uint32(m.globals), stack: uint32(m.globals + 1)}
	if use.count > 0 {
		e.budget = budget
	}
	wrappers := make(map[string]int64)
	for i, f := range funcs {
		if f == nil {
			continue
		}
		e.function(f, use.cyclic[i], use.count > 0)
		if e.wrapped {
			e.wrapper = m.blockType(f.results, wrappers)
		}
		out = e.body(out)
	}
	for _, f := range m.entries {
		out = appendVector(out, e.enter(f.function))
	}
	return out
}

// blockType returns the type of a block without parameters and with the given results.
func (m *module) blockType(results string, known map[string]int64) int64 {
	switch len(results) {
	case 0:
		return -64
	case 1:
		return int64(results[0]) - 128
	}
	t, ok := known[results]
	if !ok {
		t = int64(len(m.types) + len(m.newTypes))
		m.newTypes = append(m.newTypes, signature{results: results})
		known[results] = t
	}
	return t
}
