package meter

import (
	"errors"
	"fmt"

	"github.com/weirdns/weir/host/wasm/opcode"
)

// blockType reads the type of a block.
func (a *analyzer) blockType() (signature, error) {
	t := a.r.signed(5)
	switch {
	case t >= 0 && t < int64(len(a.types)):
		return a.types[t], nil
	case t == -64: // 0x40
		return signature{}, nil
	case t < 0 && t >= -64 && isValueType(byte(t)&0x7f):
		return signature{results: string([]byte{byte(t) & 0x7f})}, nil
	}
	return signature{}, fmt.Errorf("unknown block type %d", t)
}

// enter reads the head of a block.
func (a *analyzer) enter(code opcode.Code, start int) error {
	sig, err := a.blockType()
	if err != nil {
		return err
	}
	if len(a.frames) >= maxNesting {
		return fmt.Errorf("more than %d blocks within each other", maxNesting)
	}
	if code == opcode.If {
		a.pop(1)
	}
	if code == opcode.TryTable {
		a.f.tries = true
		a.f.patches = append(a.f.patches, patch{at: start, kind: tryEntry})
		if err := a.catches(); err != nil {
			return err
		}
	}
	a.pop(len(sig.params))
	unreachable := a.top().unreachable
	a.frames = append(a.frames, frame{op: code, start: start, height: a.height, sig: sig, unreachable: unreachable, calls: a.calls})
	a.push(len(sig.params))
	switch code {
	case opcode.Loop:
		a.block++
		a.settle()
		a.top().point = a.point
		a.labels++
		a.top().targeted = true
		a.point = a.mark(loopHeader)
		a.candidate = a.point
		a.f.patches[a.point].value = loopCost
		if a.f.straight() && a.calls == 0 {
			// The function begins with a loop, as most functions of Go do. One charge will do for both.
			a.f.merged = true
			a.f.patches[a.point].value += entryCost + a.f.patches[0].value
			a.f.patches[0].value = 0
			a.top().point = a.point
		}
	case opcode.If, opcode.TryTable:
		a.boundary(false)
	}
	return nil
}

// straight tells whether nothing but straight code is between the function's entry and the loop header just added.
func (f *function) straight() bool {
	return len(f.patches) == 2
}

// catches reads the catch clauses of a try_table; their labels are those around it.
func (a *analyzer) catches() error {
	count := a.r.count()
	if count > maxCatches {
		return fmt.Errorf("more than %d catch clauses", maxCatches)
	}
	for range count {
		kind := a.r.octet()
		if kind > 3 {
			return fmt.Errorf("unknown catch clause %d", kind)
		}
		if kind < 2 {
			if _, err := a.index("tag", len(a.tags)); err != nil {
				return err
			}
		}
		if err := a.label(a.r.u32(), true); err != nil {
			return err
		}
	}
	return nil
}

// label notes a branch.
func (a *analyzer) label(depth uint32, caught bool) error {
	if a.r.err != nil {
		return a.r.err
	}
	if int64(depth) >= int64(len(a.frames)) {
		return fmt.Errorf("unknown label %d", depth)
	}
	target := &a.frames[len(a.frames)-1-int(depth)]
	target.targeted = true
	if caught {
		if target.op == opcode.Loop {
			return errors.New("catch clauses with the label of a loop are not supported")
		}
		target.caught = true
	}
	return nil
}

// leave ends the innermost construct, or the function.
func (a *analyzer) leave(start int) {
	top := *a.top()
	if len(a.frames) == 1 {
		a.settle()
		a.f.patches = append(a.f.patches, patch{at: start, length: 1, kind: ending})
		a.frames = a.frames[:0]
		return
	}
	a.settle()
	a.frames = a.frames[:len(a.frames)-1]
	a.height = top.height
	a.counted = min(a.counted, a.height)
	a.push(len(top.sig.results))
	if top.caught {
		a.mark(catching)
	}
	if top.op == opcode.Loop {
		if a.calls == top.calls {
			a.f.leafLoop = true
		}
		// Whatever ran the loop has paid at the charge point before it, which pays for what follows, too.
		a.point = top.point
		a.block++
		a.candidate = a.mark(charge)
		return
	}
	if top.targeted || top.op == opcode.If {
		a.labels++
	}
	a.boundary(a.f.patches[a.point].at > top.start)
}

// call reads a call of any kind.
func (a *analyzer) call(code opcode.Code, start int) error {
	var t uint32
	if code == opcode.Call || code == opcode.ReturnCall {
		f, err := a.index("function", len(a.funcs))
		if err != nil {
			return err
		}
		t = a.funcs[f]
		a.f.calls = append(a.f.calls, f)
		if int(f) < a.imported {
			a.cost(hostCallCost)
		}
	} else {
		var err error
		if t, err = a.index("type", len(a.types)); err != nil {
			return err
		}
		if _, err = a.index("table", a.tables); err != nil {
			return err
		}
		a.pop(1)
		a.f.indirect = append(a.f.indirect, t)
	}
	a.calls++
	sig := a.types[t]
	a.pop(len(sig.params))
	// What stays below the arguments lives across the call, in the frame.
	if a.height > a.counted {
		a.spilled += a.height - a.counted
		a.counted = a.height
	}
	a.widestCall = max(a.widestCall, len(sig.params)+len(sig.results))
	a.cost(int64(len(sig.params) + len(sig.results)))
	if code == opcode.Call || code == opcode.CallIndirect {
		a.f.patches = append(a.f.patches, patch{at: start, kind: beforeCall})
		a.push(len(sig.results))
		a.mark(afterCall)
		return nil
	}
	p := patch{at: start, kind: tailCall}
	if len(sig.params) > registers || len(sig.results) > registers {
		// wazero passes the rest on the stack, and then calls instead of jumping. So does this function, then.
		if a.f.tries {
			return fmt.Errorf("tail call with more than %d parameters or results in a function with try_table", registers)
		}
		p = patch{at: start, kind: asCall, length: a.r.pos - start, depth: len(a.frames) - 1}
	}
	a.f.patches = append(a.f.patches, p)
	a.boundary(false)
	a.never()
	return nil
}

// registers is how many parameters or results wazero passes in registers on all architectures.
const registers = 6
