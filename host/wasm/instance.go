package wasm

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/weirdns/weir/abi"
	"github.com/weirdns/weir/host/chain"
	"github.com/weirdns/weir/host/wasm/meter"
)

// startFactor is how many times the fuel, host calls and octets of a call an instance may take to load and configure itself: the runtime of
// a Go program initializes its standard library then.
const startFactor = 1000

// documentFuel is the fuel that configure gets on top for each octet of its document. A filter in stock Go takes some 3,000 to read an octet of a list
// of rules; and the document is the operator's, so that no module can make it longer.
const documentFuel = 10_000

// instance is one instantiation of a module. It is used by one goroutine at a time: whoever took it out of its slot, or is making it.
//
// It is a context, since a context is what wazero hands through from a call to the host functions it makes; so these find their instance
// without a lookup, and nothing is allocated per call. It is good for as long as the instance lives, and is never cancelled: time is
// bounded by fuel.
type instance struct {
	context.Context

	filter *Filter
	home   *slot // where it belongs
	module api.Module
	memory *memory
	frame  *frame

	query, response api.Function      // nil when the module does not export it
	fuel, depth     api.MutableGlobal // nil when it is not metered, which only tests do
	stack           [2]uint64         // parameters and results

	// Of the present call.
	call      *chain.Call // nil outside query and response
	document  []byte      // what config_read reads; only during configure
	calls     int         // of host functions, that are left
	octets    int         // that host functions may copy, that are left
	explained int         // lines
	added     int         // own names, during configure
	tables    []Snapshot  // as pinned in this call; nil: not yet
	pinned    []uint16    // of those: to clear a thousand for each call takes longer than the call
	cause     cause       // why a host function ended the call
	ended     bool        // it did

	output []byte // of stdout and stderr, up to the end of a line

	did   callCounts // calls that its slot does not know of yet
	since int        // calls since the slot was told
}

// Value implements context.Context. In a call there are no values; wazero asks for some in each. This is shorter than to ask Context.
func (i *instance) Value(key any) any {
	if i.frame != nil {
		return nil
	}
	return i.Context.Value(key)
}

// tellEvery is after how many calls an instance tells its slot of them. To tell is to write what others read, which costs as much as a
// small filter.
const tellEvery = 64

// tell adds the calls to those of the slot.
func (i *instance) tell() {
	s := i.home
	s.query.Add(i.did.query)
	s.response.Add(i.did.response)
	s.fuel.Add(i.did.fuel)
	i.did, i.since = callCounts{}, 0
}

// newInstance instantiates and configures the module of f under a budget. It also gives what configure returned.
func (f *Filter) newInstance() (*instance, uint64, error) {
	i := &instance{filter: f, memory: newMemory(int(f.limits.pages)*pageSize, &f.memory), tables: make([]Snapshot, len(f.document.tables)+1)} // the own names come last
	i.Context = experimental.WithMemoryAllocator(context.Background(), allocator{i.memory})
	i.refill(startFactor)
	interest, err := i.start()
	i.flush()
	if err != nil {
		i.close()
		return nil, 0, err
	}
	return i, interest, nil
}

func (i *instance) start() (uint64, error) {
	if err := i.memory.reserve(); err != nil {
		return 0, err
	}
	var err error
	config := wazero.NewModuleConfig().WithName("").WithStartFunctions()
	i.module, err = i.instantiate(config)
	if err != nil { // the globals are out of reach, so that it can't be told whether it was the fuel or the stack
		return 0, fmt.Errorf("%w (when the start function uses up its fuel or stack, that is a trap, too)", i.fault("instantiation", err))
	}
	i.Context = context.Background() // the memory is made; from now on nobody has to look for its allocator
	i.fuel, _ = i.module.ExportedGlobal(meter.FuelExport).(api.MutableGlobal)
	i.depth, _ = i.module.ExportedGlobal(meter.StackExport).(api.MutableGlobal)
	i.query, i.response = i.entry(abi.ExportQuery), i.entry(abi.ExportResponse)
	if _, _, err := i.run("_initialize", 0); err != nil {
		return 0, err
	}
	address, _, err := i.run(abi.Export, 0)
	if err != nil {
		return 0, err
	}
	i.frame, err = frameAt(i.memory.octets(), uint32(address))
	if err != nil {
		return 0, err
	}
	i.document = i.filter.document.json
	interest, ok, err := i.run(abi.ExportConfigure, uint64(len(i.document)))
	i.document = nil
	if err != nil {
		return 0, err
	}
	if n := &i.filter.names; !n.open && i.added != n.count {
		return 0, errNames
	}
	if !ok {
		return everything(i.query != nil, i.response != nil), nil
	}
	if int64(interest) < 0 {
		return 0, i.mistakes(interest)
	}
	return interest, nil
}

// instantiate turns a panic into an error: that is how wazero says that it got no memory.
func (i *instance) instantiate(config wazero.ModuleConfig) (m api.Module, err error) {
	defer func() {
		if r := recover(); r != nil {
			m, err = nil, errors.Join(fmt.Errorf("no memory: %v", r), i.memory.err)
		}
	}()
	return i.filter.runtime.engine.InstantiateModule(i, i.filter.code.compiled, config)
}

// everything is the interest of a module without configure.
func everything(query, response bool) (interest uint64) {
	if query {
		interest |= abi.InterestQuery
	}
	if response {
		interest |= abi.InterestClasses
	}
	return interest
}

// run calls a function that is called once, if the module exports it.
func (i *instance) run(name string, argument uint64) (result uint64, ok bool, err error) {
	function := i.module.ExportedFunction(name)
	if function == nil {
		return 0, false, nil
	}
	i.refill(startFactor)
	i.stack[0] = argument
	if err := function.CallWithStack(i, i.stack[:]); err != nil {
		return 0, true, i.fault(name, err)
	}
	return i.stack[0], true, nil
}

// entry returns a function that is called for queries or responses: the way in that metering made for it, if it is metered.
func (i *instance) entry(name string) api.Function {
	if i.fuel != nil {
		name = meter.EnterExport + name
	}
	return i.module.ExportedFunction(name)
}

// enter calls query or response with a full tank, and notes what fuel it took.
func (i *instance) enter(function api.Function) error {
	if i.fuel == nil {
		return function.CallWithStack(i, i.stack[:1])
	}
	fuel := i.filter.limits.fuel
	i.stack = [2]uint64{fuel, uint64(i.filter.code.stack)}
	err := function.CallWithStack(i, i.stack[:])
	left := i.stack[1]
	if err != nil {
		left = i.fuel.Get()
	}
	i.did.fuel += fuel - uint64(max(int64(left), 0)) // negative when it was used up
	return err
}

// refill gives a call by run its budget.
func (i *instance) refill(factor int) {
	if i.fuel != nil {
		i.fuel.Set(i.filter.limits.fuel*uint64(factor) + uint64(len(i.document))*documentFuel)
		i.depth.Set(uint64(i.filter.code.stack))
	}
	i.allow(factor)
}

// allow gives a call what it may have of the host.
func (i *instance) allow(factor int) {
	i.calls, i.octets = abi.MaxHostCalls*factor, abi.MaxHostOctets*factor
	i.explained, i.cause, i.ended = 0, causeTrap, false
	for _, n := range i.pinned {
		i.tables[n] = nil
	}
	i.pinned = i.pinned[:0]
}

// pin has table n stay the same for the rest of the call.
func (i *instance) pin(n uint16, s Snapshot) {
	i.tables[n] = s
	i.pinned = append(i.pinned, n)
}

func frameAt(memory []byte, address uint32) (*frame, error) {
	if address%8 != 0 {
		return nil, fmt.Errorf("%s gives the address %d for the frame: it has to be a multiple of 8", abi.Export, address)
	}
	if uint64(address)+abi.FrameTotal > uint64(len(memory)) {
		return nil, fmt.Errorf("%s gives the address %d for the frame, whose %d octets are not in the memory of %d octets", abi.Export, address, abi.FrameTotal, len(memory))
	}
	return (*frame)(memory[address:]), nil
}

// mistakes reads the error that configure returned: lines of KEY: TEXT. abi/README.md section 4.
func (i *instance) mistakes(v uint64) error {
	_, _, length, offset := abi.Unpack(v)
	var text []byte
	if !appendFrom(&text, i.memory.octets(), offset, length) || !utf8.Valid(text) || len(text) == 0 {
		return errors.New("configure gives an error whose text is not in the memory, or not UTF-8")
	}
	var all Mistakes
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\r\n")
		key, text, ok := strings.Cut(line, ":")
		if !ok || strings.ContainsAny(key, " \t") { // a text without a key, against the contract; but the operator shall see it
			key, text = "", line
		}
		all = append(all, Mistake{Path: join(i.filter.base, printable([]byte(key))), Text: printable([]byte(strings.TrimSpace(text))), Base: i.filter.base})
	}
	return all
}

// close gives back everything. The instance must not be in a slot, nor be used any more.
func (i *instance) close() {
	if i.module != nil {
		_ = i.module.Close(context.Background()) // it has no files, so there is nothing that could fail
	}
	i.frame = nil
	i.memory.free()
}
