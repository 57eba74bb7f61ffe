package meter

import "github.com/weirdns/weir/host/wasm/opcode"

// Fuel is charged in units that take at most 4 ns each, so that 5,000,000 units bound a call to 20 ms.
const (
	entryCost    = 4    // a call's prologue and epilogue, beside the call instruction
	loopCost     = 1    // the jump back
	hostCallCost = 40   // leaving and entering compiled code; what the host does there is for the host to bound
	tryCost      = 4096 // try_table leaves compiled code and copies the native stack, 10 KB at least
	growCost     = 256  // memory.grow and table.grow leave compiled code
	pageCost     = 4096 // memory.grow, by page of 64 KB: zeroed and faulted in
	elementCost  = 4    // table.grow, by element
	memoryShift  = 6    // a unit for 64 octets
	tableShift   = 2    // a unit for 4 elements
)

// costOf returns the units of an instruction: 1, unless it is measured to be slower.
func costOf(c opcode.Code) int64 {
	if c>>8 == opcode.PrefixVector {
		return 2
	}
	return int64(plainCosts[c&0xff])
}

var plainCosts = func() (t [256]uint8) {
	for i := range t {
		t[i] = 1
	}
	return t
}()
