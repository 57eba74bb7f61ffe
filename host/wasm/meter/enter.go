package meter

import "github.com/weirdns/weir/host/wasm/opcode"

// entry is a function that Options.Enter asks for.
type entry struct {
	name     string // of the export
	function uint32 // that it calls
}

// Types of functions that are entered, and of the functions that enter them.
var (
	entered = signature{results: "\x7e"}
	enters  = signature{params: "\x7e\x7e", results: "\x7e\x7e"}
)

// findEntries finds the functions of Options.Enter.
func (m *module) findEntries(o *Options) {
	for _, name := range o.Enter {
		f, ok := m.exports[name]
		if ok && int(f) >= m.imported && m.types[m.funcs[f]] == entered {
			m.entries = append(m.entries, entry{EnterExport + name, f})
		}
	}
}

// enterType returns the type of the functions that enter others, which it adds.
func (m *module) enterType() int {
	if len(m.entries) == 0 {
		return 0
	}
	m.newTypes = append(m.newTypes, enters)
	return len(m.types) + len(m.newTypes) - 1
}

// enter returns the body of a function that enters f. It takes no fuel itself: it is the host's.
func (e *emitter) enter(f uint32) []byte {
	b := []byte{0} // locals
	b = appendUint(append(b, byte(opcode.LocalGet), 0, byte(opcode.GlobalSet)), uint64(e.fuel))
	b = appendUint(append(b, byte(opcode.LocalGet), 1, byte(opcode.GlobalSet)), uint64(e.stack))
	b = appendUint(append(b, byte(opcode.Call)), uint64(f))
	b = appendUint(append(b, byte(opcode.GlobalGet)), uint64(e.fuel))
	return append(b, byte(opcode.End))
}
