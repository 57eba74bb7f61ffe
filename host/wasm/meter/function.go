package meter

import (
	"errors"
	"fmt"

	"github.com/weirdns/weir/host/wasm/opcode"
)

// maxNesting bounds the blocks within each other.
const maxNesting = 10_000

// maxCatches bounds the clauses of a try_table, all of which wazero may look at for each exception.
const maxCatches = 16

// chunk is how much of a fuel charge may be for instructions that are not reached. A larger one has fewer charges to
// run and takes fuel for more that was not done; see doc.go.
const chunk = 120

// kind says what goes into a function's code at a place.
type kind uint8

const (
	charge     kind = iota // take value units
	loopHeader             // take value units and check
	beforeCall             // the callee takes fuel, too
	afterCall
	tailCall  // give the frame back
	asCall    // return_call that wazero can't do in constant space: call and return
	throwing  // control may leave by an exception
	bulk      // take the operand >> value units and check
	grow      // take the operand * value units and check
	tryEntry  // take for the copy of the stack, and check
	catching  // control may come here by an exception
	returning // return
	ending    // the end of the function
)

// patch is a change to a function's code.
type patch struct {
	at     int   // offset in the body
	length int   // how many octets it replaces
	kind   kind  //
	value  int64 // units, or a shift
	depth  int   // of a return: how many constructs are around it
}

// function is what is known of a function's body.
type function struct {
	body     []byte
	code     int      // where the instructions start
	groups   int      // how many local groups stand before them
	params   int      //
	locals   int      // with the parameters
	results  string   //
	patches  []patch  // in the order of at
	entry    int64    // what the entry costs
	calls    []uint32 // functions
	indirect []uint32 // types of functions called through tables

	merged   bool // its first loop pays for the entry
	leafLoop bool // it has a loop without calls
	tries    bool // it has a try_table
	bulk     bool // it has patches that need a 32-bit local
	slots    int  // estimate of its frame, in values
	wide     bool // some of them are vectors
}

// frame is a control construct that is not ended.
type frame struct {
	op          opcode.Code
	start       int       // offset
	height      int       // operands below it
	sig         signature // block type
	point       int       // loop: the charge point around it
	calls       int       // loop: how many calls came before it
	unreachable bool
	targeted    bool // a branch goes to its label
	caught      bool // a catch clause goes to its label
}

// analyzer reads function bodies one after another; its buffers serve them all.
type analyzer struct {
	*module
	o      *Options
	f      *function
	r      reader
	op     *opcode.Instruction
	frames []frame

	height, deepest, counted int
	labels, sets, spilled    int
	widestCall, calls        int

	// The charge point that takes the costs, the candidate to follow it, and the cost since the candidate.
	point, candidate int
	segment          int64

	block    uint32 // number of the basic block, over all functions
	number   uint32 // of the function
	values   []value
	crossing int // how many locals are set, and read in other blocks than where that is
}

// value is what is known of a local of the function with a number.
type value struct {
	function     uint32
	block        uint32 // of the last assignment
	set, crosses bool
}

// function reads the body of a function of type t.
func (a *analyzer) function(t uint32, body []byte) (*function, error) {
	sig := a.types[t]
	f := &function{body: body, params: len(sig.params), results: sig.results}
	*a = analyzer{
		module: a.module, o: a.o, f: f, r: reader{b: body}, frames: a.frames[:0],
		values: a.values, block: a.block + 1, number: a.number + 1,
	}
	if err := a.declarations(sig); err != nil {
		return nil, err
	}
	a.point = a.mark(charge)
	a.candidate = a.point
	a.frames = append(a.frames, frame{op: opcode.Block, start: -1, sig: signature{results: sig.results}})
	for len(a.frames) > 0 {
		if err := a.instruction(); err != nil {
			return nil, err
		}
	}
	if !a.r.done() {
		return nil, fmt.Errorf("code goes on after the function's end")
	}
	// The entry's own charge is the first patch; it is written with the rest of the entry.
	f.entry = f.patches[0].value
	if !f.merged {
		f.entry += entryCost
	}
	f.patches = f.patches[1:]
	f.slots = f.locals + len(f.results) + a.deepest + 2*a.sets + a.spilled + a.widestCall + a.labels*a.crossing
	return f, nil
}

// declarations reads the local groups.
func (a *analyzer) declarations(sig signature) error {
	total := uint64(len(sig.params))
	a.f.groups = int(a.r.u32())
	a.f.wide = hasVector(sig.params) || hasVector(sig.results)
	for range a.f.groups {
		n, t := a.r.u32(), a.r.octet()
		if a.r.err != nil {
			return a.r.err
		}
		if !isValueType(t) {
			return fmt.Errorf("local of unknown type %#x", t)
		}
		a.f.wide = a.f.wide || t == 0x7b
		if total += uint64(n); total > maxLocals {
			return fmt.Errorf("more than %d locals", maxLocals)
		}
	}
	a.f.locals = int(total)
	a.f.code = a.r.pos
	if len(a.values) < a.f.locals {
		a.values = append(a.values, make([]value, a.f.locals-len(a.values))...)
	}
	return a.r.err
}

func hasVector(types string) bool {
	for i := range len(types) {
		if types[i] == 0x7b {
			return true
		}
	}
	return false
}

// mark adds a patch before the next instruction.
func (a *analyzer) mark(k kind) int {
	a.f.patches = append(a.f.patches, patch{at: a.r.pos, kind: k})
	return len(a.f.patches) - 1
}

// cost adds to the current charge.
func (a *analyzer) cost(units int64) {
	if !a.top().unreachable {
		a.segment += units
	}
}

// boundary ends a straight run of code: some of its executions end here, or others join here. force starts a new
// charge point since the current one may have been passed by.
func (a *analyzer) boundary(force bool) {
	a.block++
	a.settle()
	a.candidate = a.mark(charge)
	if force {
		a.point = a.candidate
	}
}

// settle has the code since the last boundary paid at the charge point, or where the run began if that would take too
// much too early.
func (a *analyzer) settle() {
	if a.segment == 0 {
		return
	}
	points := a.f.patches
	if points[a.point].value+a.segment > chunk {
		a.point = a.candidate
	}
	points[a.point].value += a.segment
	a.segment = 0
}

func (a *analyzer) top() *frame { return &a.frames[len(a.frames)-1] }

func (a *analyzer) push(n int) {
	if a.height += n; a.height > a.deepest {
		a.deepest = a.height
	}
	// Few values have a register each; what is pushed on top of many may need a place of its own.
	if a.height > 8 {
		a.spilled += n
	}
}

func (a *analyzer) pop(n int) {
	// Below an unconditional branch the stack has whatever is asked of it. Elsewhere there are too few operands only in
	// a module that validation refuses.
	a.height = max(a.height-n, a.top().height)
	a.counted = min(a.counted, a.height)
}

// never marks the rest of a block as out of reach.
func (a *analyzer) never() {
	a.height = a.top().height
	a.counted = min(a.counted, a.height)
	a.top().unreachable = true
}

// instruction reads one instruction.
func (a *analyzer) instruction() error {
	start := a.r.pos
	code := opcode.Code(a.r.octet())
	if code == opcode.PrefixMisc || code == opcode.PrefixVector {
		number := a.r.u32()
		if number > 0xff {
			return fmt.Errorf("unknown opcode %#x %#x at offset %d", code, number, start)
		}
		code = code<<8 | opcode.Code(number)
	}
	if a.r.err != nil {
		return a.r.err
	}
	a.op = opcode.ByCode(code)
	if a.op == nil {
		if code == 0xfe {
			return fmt.Errorf("atomic instruction at offset %d: threads are not supported", start)
		}
		return fmt.Errorf("unknown opcode %#x at offset %d", uint16(code), start)
	}
	if code>>8 == opcode.PrefixVector {
		a.f.wide = true
	}
	a.cost(costOf(code))
	var err error
	if in, out, ok := a.op.Operands(); ok {
		a.dynamic(code, start)
		if err = a.immediates(); err == nil {
			a.pop(in)
			a.push(out)
		}
	} else {
		err = a.special(code, start)
	}
	if err == nil {
		err = a.r.err
	}
	if err != nil {
		return fmt.Errorf("%s at offset %d: %w", a.op.Name, start, err)
	}
	return nil
}

// dynamic notes instructions whose work depends on an operand.
func (a *analyzer) dynamic(code opcode.Code, start int) {
	p := patch{at: start, kind: bulk}
	switch code {
	case opcode.MemoryFill:
		p.value = fillShift
	case opcode.MemoryCopy, opcode.MemoryInit:
		p.value = copyShift
	case opcode.TableFill, opcode.TableCopy, opcode.TableInit:
		p.value = tableShift
	case opcode.MemoryGrow:
		p.kind, p.value = grow, pageCost
	case opcode.TableGrow:
		p.kind, p.value = grow, elementCost
	default:
		return
	}
	a.f.bulk = true
	a.f.patches = append(a.f.patches, p)
	a.spilled += 4 // wazero makes a loop of it
}

// index reads an index and checks it. This is what keeps the globals, locals and types that metering adds out of the
// module's reach.
func (a *analyzer) index(what string, count int) (uint32, error) {
	i := a.r.u32()
	if int64(i) >= int64(count) {
		return 0, fmt.Errorf("unknown %s %d", what, i)
	}
	return i, nil
}

// immediates reads the immediates of an instruction with fixed operand types.
func (a *analyzer) immediates() (err error) {
	r := &a.r
	switch a.op.Immediate {
	case opcode.ImmNone:
	case opcode.ImmFunc: // ref.func
		err = a.escape(r.u32())
	case opcode.ImmTable:
		_, err = a.index("table", a.tables)
	case opcode.ImmElem:
		_, err = a.index("element segment", a.elements)
	case opcode.ImmData:
		_, err = a.index("data segment", a.data)
	case opcode.ImmMemory, opcode.ImmMemoryLane:
		if align := r.u32(); align > 4 {
			return fmt.Errorf("alignment 2^%d: more than one memory is not supported", align)
		}
		r.u32()
		if a.op.Immediate == opcode.ImmMemoryLane {
			r.octet()
		}
	case opcode.ImmMemoryIndex:
		err = zeros(r, 1)
	case opcode.ImmMemoryInit:
		if _, err = a.index("data segment", a.data); err == nil {
			err = zeros(r, 1)
		}
	case opcode.ImmMemoryCopy:
		err = zeros(r, 2)
	case opcode.ImmTableInit:
		if _, err = a.index("element segment", a.elements); err == nil {
			_, err = a.index("table", a.tables)
		}
	case opcode.ImmTableCopy:
		if _, err = a.index("table", a.tables); err == nil {
			_, err = a.index("table", a.tables)
		}
	case opcode.ImmRefType:
		if t := r.octet(); !isReference(t) && r.err == nil {
			return fmt.Errorf("unknown reference type %#x", t)
		}
	case opcode.ImmI32:
		r.signed(5)
	case opcode.ImmI64:
		r.signed(10)
	case opcode.ImmF32:
		r.octets(4)
	case opcode.ImmF64:
		r.octets(8)
	case opcode.ImmV128, opcode.ImmShuffle:
		r.octets(16)
	case opcode.ImmLane:
		r.octet()
	default:
		err = errors.New("unexpected kind of immediate")
	}
	return err
}

func zeros(r *reader, n int) error {
	for range n {
		if i := r.octet(); i != 0 {
			return fmt.Errorf("unknown memory %d", i)
		}
	}
	return nil
}

// special reads an instruction whose types depend on more than its code.
func (a *analyzer) special(code opcode.Code, start int) error {
	r := &a.r
	switch code {
	case opcode.Block, opcode.Loop, opcode.If, opcode.TryTable:
		return a.enter(code, start)
	case opcode.Else:
		top := a.top()
		if top.op != opcode.If {
			return errors.New("no if to belong to")
		}
		top.op = opcode.Else
		a.height = top.height + len(top.sig.params)
		a.counted = min(a.counted, top.height)
		top.unreachable = false
		top.targeted = true
		a.settle()
		a.boundary(a.f.patches[a.point].at > top.start)
	case opcode.End:
		a.leave(start)
	case opcode.Br:
		if err := a.label(r.u32(), false); err != nil {
			return err
		}
		a.boundary(false)
		a.never()
	case opcode.BrIf:
		a.pop(1)
		if err := a.label(r.u32(), false); err != nil {
			return err
		}
		a.boundary(false)
	case opcode.BrTable:
		for range r.count() + 1 {
			if err := a.label(r.u32(), false); err != nil {
				return err
			}
		}
		a.boundary(false)
		a.never()
	case opcode.Return:
		a.f.patches = append(a.f.patches, patch{at: start, length: 1, kind: returning, depth: len(a.frames) - 1})
		a.boundary(false)
		a.never()
	case opcode.Unreachable:
		a.boundary(false)
		a.never()
	case opcode.Throw:
		if _, err := a.index("tag", len(a.tags)); err != nil {
			return err
		}
		a.f.patches = append(a.f.patches, patch{at: start, kind: throwing})
		a.never()
	case opcode.ThrowRef:
		a.f.patches = append(a.f.patches, patch{at: start, kind: throwing})
		a.never()
	case opcode.Call, opcode.ReturnCall, opcode.CallIndirect, opcode.ReturnCallIndirect:
		return a.call(code, start)
	case opcode.Drop:
		a.pop(1)
	case opcode.Select:
		a.pop(3)
		a.push(1)
	case opcode.SelectTyped:
		for range r.count() {
			if t := r.octet(); !isValueType(t) {
				return fmt.Errorf("unknown type %#x", t)
			}
		}
		a.pop(3)
		a.push(1)
	case opcode.LocalGet, opcode.LocalSet, opcode.LocalTee:
		i, err := a.index("local", a.f.locals)
		if err != nil {
			return err
		}
		a.local(code, i)
	case opcode.GlobalGet, opcode.GlobalSet:
		if _, err := a.index("global", a.globals); err != nil {
			return err
		}
		if code == opcode.GlobalGet {
			a.push(1)
		} else {
			a.pop(1)
		}
	case 0x01: // nop
	default:
		return errors.New("not supported")
	}
	return nil
}

func (a *analyzer) local(code opcode.Code, i uint32) {
	l := &a.values[i]
	if l.function != a.number {
		*l = value{function: a.number}
	}
	before := l.set && l.crosses
	switch code {
	case opcode.LocalGet:
		l.crosses = l.crosses || l.block != a.block
		a.push(1)
	case opcode.LocalSet:
		a.pop(1)
		fallthrough
	case opcode.LocalTee:
		l.set, l.block = true, a.block
		a.sets++
	}
	if l.set && l.crosses && !before {
		a.crossing++
	}
}
