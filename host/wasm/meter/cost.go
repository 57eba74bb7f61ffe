package meter

import "github.com/weirdns/weir/host/wasm/opcode"

// Fuel is charged in units that take at most about 4 ns each, so that 5,000,000 units bound a call to about 20 ms. The
// figures are the worst that each instruction was seen to take with wazero 1.12 on a 2.5 GHz Xeon, divided by 4:
// divisions of large numbers, floating point with subnormal operands (a microcode assist of some 150 cycles), loads
// that miss all caches. BenchmarkExhaust measures what a full tank lasts for with the worst of them.
const (
	entryCost    = 2     // a call's prologue and epilogue, beside the call instruction
	loopCost     = 1     // the jump back
	hostCallCost = 100   // leaving and entering compiled code; what the host does there is for the host to bound
	tryCost      = 10240 // try_table copies the native stack, of 10 KB at least
	growCost     = 32    // memory.grow and table.grow leave compiled code
	pageCost     = 16384 // memory.grow, by page of 64 KB: zeroed, faulted in, and sometimes all memory is moved
	elementCost  = 8     // table.grow, by element
	fillShift    = 4     // memory.fill: a unit for 16 octets
	copyShift    = 3     // memory.copy and memory.init: a unit for 8 octets
	tableShift   = 3     // a unit for 8 elements
)

// costOf returns the units of an instruction: 1, unless it is known to be slower.
func costOf(c opcode.Code) int64 {
	switch c >> 8 {
	case opcode.PrefixVector:
		return int64(vectorCosts[c&0xff])
	case opcode.PrefixMisc:
		return 3
	}
	return int64(plainCosts[c])
}

var plainCosts = func() (t [256]uint16) {
	set(t[:], 1, 0x00, 0xff)
	set(t[:], 0, 0x00, 0x05) // unreachable, nop, block, loop, if, else
	t[opcode.End] = 0
	t[opcode.If], t[opcode.BrIf], t[opcode.BrTable] = 2, 2, 3 // mispredicted
	t[opcode.CallIndirect], t[opcode.ReturnCallIndirect] = 3, 3
	t[opcode.Throw], t[opcode.ThrowRef] = 16384, 16384 // 60 µs in Go
	t[0x25], t[0x26] = 2, 2                            // table.get, table.set
	set(t[:], 8, 0x28, 0x35)                           // loads
	set(t[:], 3, 0x36, 0x3e)                           // stores
	set(t[:], 3, 0x6d, 0x70)                           // i32.div, i32.rem
	set(t[:], 5, 0x7f, 0x82)                           // i64.div, i64.rem
	set(t[:], 2, 0x8b, 0xa6)                           // f32 and f64 arithmetic, but:
	set(t[:], 17, 0x91, 0x91)                          // f32.sqrt
	set(t[:], 17, 0x94, 0x95)                          // f32.mul, f32.div
	set(t[:], 17, 0x9f, 0x9f)                          // f64.sqrt
	set(t[:], 17, 0xa2, 0xa3)                          // f64.mul, f64.div
	set(t[:], 2, 0xa8, 0xb1)                           // conversions
	t[0xb6], t[0xbb] = 17, 17                          // f32.demote, f64.promote
	t[opcode.RefFunc] = 50                             // 200 ns in Go
	return t
}()

var vectorCosts = func() (t [256]uint16) {
	set(t[:], 2, 0x00, 0xff)
	set(t[:], 8, 0x00, 0x0a)                                                      // loads
	set(t[:], 8, 0x54, 0x5d)                                                      // load and store lanes
	t[0x0b] = 4                                                                   // store
	set(t[:], 19, 0x5e, 0x5f)                                                     // demote, promote
	t[0xe3], t[0xe6], t[0xe7], t[0xef], t[0xf2], t[0xf3] = 19, 19, 19, 19, 19, 19 // sqrt, mul, div
	return t
}()

func set(t []uint16, units uint16, from, to int) {
	for i := from; i <= to; i++ {
		t[i] = units
	}
}
