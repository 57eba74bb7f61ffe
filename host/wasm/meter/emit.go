package meter

import "github.com/weirdns/weir/host/wasm/opcode"

// frameBase is what a frame has besides values: return address, saved registers, alignment.
const frameBase = 48

// frame estimates how many octets of native stack a call of the function takes.
func (f *function) frame() int64 {
	size := int64(8)
	if f.wide {
		size = 16
	}
	return frameBase + size*int64(f.slots)
}

// emitter writes the metered body of a function.
type emitter struct {
	f           *function
	o           *Options
	out         []byte
	fuel, stack uint32 // globals
	budget      int64  // initial value of the stack global
	wrapper     int64  // block type for the results

	counted bool // takes its frame from the stack budget
	saves   bool // puts the stack budget right after exceptions
	cached  bool // keeps the fuel in a local
	wrapped bool // leaves through one place at its end

	fuelLocal, stackLocal, countLocal uint32
}

// function turns to f, which is counted or not in a module where any function is.
func (e *emitter) function(f *function, counted, any bool) {
	e.f = f
	e.counted = counted
	e.saves = f.tries && any
	e.cached = f.leafLoop && !f.tries
	e.wrapped = e.cached || e.counted
}

// body appends the metered function with its size.
func (e *emitter) body(out []byte) []byte {
	f := e.f
	e.out = e.out[:0]
	e.declarations()
	e.entry()
	if e.wrapped {
		e.op(opcode.Block)
		e.out = appendInt(e.out, e.wrapper)
	}
	at := f.code
	for i := range f.patches {
		p := &f.patches[i]
		e.out = append(e.out, f.body[at:p.at]...)
		e.patch(p)
		at = p.at + p.length
	}
	return appendVector(out, e.out)
}

// declarations copies the local groups and adds the emitter's own locals.
func (e *emitter) declarations() {
	groups := reader{b: e.f.body}
	groups.u32()
	var own []byte
	next, added := uint32(e.f.locals), 0
	var i64s uint32
	if e.cached {
		e.fuelLocal = next + i64s
		i64s++
	}
	if e.saves {
		e.stackLocal = next + i64s
		i64s++
	}
	if i64s > 0 {
		own = append(appendUint(own, uint64(i64s)), 0x7e)
		added++
	}
	if e.f.bulk {
		e.countLocal = next + i64s
		own = append(own, 1, 0x7f)
		added++
	}
	e.out = appendUint(e.out[:0], uint64(e.f.groups+added))
	e.out = append(e.out, e.f.body[groups.pos:e.f.code]...)
	e.out = append(e.out, own...)
}

// entry takes the first charge and the frame.
func (e *emitter) entry() {
	if e.cached {
		e.global(opcode.GlobalGet, e.fuel)
		e.local(opcode.LocalSet, e.fuelLocal)
	}
	charged := !e.f.merged && e.o.off&offEntry == 0
	if charged {
		e.take(func() { e.constant(e.f.entry) })
		e.getFuel()
	}
	if e.counted {
		e.global(opcode.GlobalGet, e.stack)
		e.constant(e.f.frame())
		e.op(opcode.I64Sub)
		e.global(opcode.GlobalSet, e.stack)
		e.global(opcode.GlobalGet, e.stack)
	}
	if charged && e.counted {
		e.op(i64Or) // negative if one of them is: one branch for the two
	}
	if charged || e.counted {
		e.trapIfNegative()
	}
	if e.saves {
		e.global(opcode.GlobalGet, e.stack)
		e.local(opcode.LocalSet, e.stackLocal)
	}
}

func (e *emitter) patch(p *patch) {
	o, f := e.o, e.f
	switch p.kind {
	case charge:
		if p.value > 0 {
			e.take(func() { e.constant(p.value) })
		}
	case loopHeader:
		if o.off&offLoop == 0 {
			e.take(func() { e.constant(p.value) })
			e.getFuel()
			e.trapIfNegative()
		}
	case bulk:
		if o.off&offBulk == 0 {
			e.local(opcode.LocalTee, e.countLocal)
			e.take(func() {
				e.local(opcode.LocalGet, e.countLocal)
				e.op(opcode.I64ExtendI32U)
				e.constant(p.value)
				e.op(i64ShrU)
			})
			e.getFuel()
			e.trapIfNegative()
		}
	case grow:
		if o.off&offGrow == 0 {
			e.grow(p.value)
		}
	case tryEntry:
		if o.off&offTry == 0 {
			// The copy is as large as the stack in use, budget minus what is left of it, or twice that.
			e.take(func() {
				e.constant(tryCost + 2*e.budget)
				if e.saves {
					e.global(opcode.GlobalGet, e.stack)
					e.constant(1)
					e.op(i64Shl)
					e.op(opcode.I64Sub)
				}
			})
			e.getFuel()
			e.trapIfNegative()
		}
	case beforeCall, throwing:
		e.flush()
	case afterCall:
		if e.cached {
			e.global(opcode.GlobalGet, e.fuel)
			e.local(opcode.LocalSet, e.fuelLocal)
		}
	case tailCall:
		e.flush()
		e.giveBack()
	case asCall:
		e.flush()
		call := f.body[p.at : p.at+p.length]
		e.out = append(e.out, call[0]-byte(opcode.ReturnCall-opcode.Call))
		e.out = append(e.out, call[1:]...)
		if e.cached {
			e.global(opcode.GlobalGet, e.fuel)
			e.local(opcode.LocalSet, e.fuelLocal)
		}
		e.leave(p.depth)
	case catching:
		if e.saves && o.off&offCatch == 0 {
			e.local(opcode.LocalGet, e.stackLocal)
			e.global(opcode.GlobalSet, e.stack)
		}
	case returning:
		e.leave(p.depth)
	case ending:
		if e.wrapped {
			e.op(opcode.End)
			e.flush()
			if e.saves {
				e.local(opcode.LocalGet, e.stackLocal)
				e.global(opcode.GlobalSet, e.stack)
			}
			e.giveBack()
		}
		e.op(opcode.End)
	}
}

// leave goes to the end of the function.
func (e *emitter) leave(depth int) {
	if e.wrapped {
		e.op(opcode.Br)
		e.out = appendUint(e.out, uint64(depth))
	} else {
		e.op(opcode.Return)
	}
}

// flush brings the fuel from the local to the global, where callees and the host look for it.
func (e *emitter) flush() {
	if e.cached {
		e.local(opcode.LocalGet, e.fuelLocal)
		e.global(opcode.GlobalSet, e.fuel)
	}
}

// giveBack returns the frame to the stack budget.
func (e *emitter) giveBack() {
	if e.counted && e.o.off&offGiveBack == 0 {
		e.global(opcode.GlobalGet, e.stack)
		e.constant(e.f.frame())
		e.op(opcode.I64Add)
		e.global(opcode.GlobalSet, e.stack)
	}
}

// grow charges memory.grow and table.grow: by the operand, unless it is beyond the maximum and the instruction is
// going to say so.
func (e *emitter) grow(cost int64) {
	limit := e.o.MaxMemoryPages
	if cost == elementCost {
		limit = e.o.MaxTableElements
	}
	e.local(opcode.LocalTee, e.countLocal)
	e.take(func() {
		e.local(opcode.LocalGet, e.countLocal)
		e.constant32(0)
		e.local(opcode.LocalGet, e.countLocal)
		e.constant32(limit)
		e.op(i32LeU)
		e.op(opcode.Select)
		e.op(opcode.I64ExtendI32U)
		e.constant(cost)
		e.op(opcode.I64Mul)
		e.constant(growCost)
		e.op(opcode.I64Add)
	})
	e.getFuel()
	e.trapIfNegative()
}

// take subtracts what amount leaves on the stack from the fuel.
func (e *emitter) take(amount func()) {
	e.getFuel()
	amount()
	e.op(opcode.I64Sub)
	if e.cached {
		e.local(opcode.LocalSet, e.fuelLocal)
	} else {
		e.global(opcode.GlobalSet, e.fuel)
	}
}

func (e *emitter) getFuel() {
	if e.cached {
		e.local(opcode.LocalGet, e.fuelLocal)
	} else {
		e.global(opcode.GlobalGet, e.fuel)
	}
}

// trapIfNegative traps if the value on the stack is negative. The host finds out by the globals whether it was the fuel or
// the stack, so the fuel is brought there first.
func (e *emitter) trapIfNegative() {
	e.constant(0)
	e.op(opcode.I64LtS)
	e.op(opcode.If)
	e.out = append(e.out, 0x40)
	e.flush()
	e.op(opcode.Unreachable)
	e.op(opcode.End)
}

// The instructions that only metering names.
const (
	i32LeU  opcode.Code = 0x4d
	i64Or   opcode.Code = 0x84
	i64Shl  opcode.Code = 0x86
	i64ShrU opcode.Code = 0x88
)

func (e *emitter) op(c opcode.Code) { e.out = append(e.out, byte(c)) }

func (e *emitter) constant(v int64) { e.out = appendInt(append(e.out, byte(opcode.I64Const)), v) }

func (e *emitter) constant32(v uint32) {
	e.out = appendInt(append(e.out, byte(opcode.I32Const)), int64(int32(v)))
}

func (e *emitter) local(c opcode.Code, i uint32) {
	e.out = appendUint(append(e.out, byte(c)), uint64(i))
}

func (e *emitter) global(c opcode.Code, i uint32) {
	e.out = appendUint(append(e.out, byte(c)), uint64(i))
}
