// Package opcode is the table of WebAssembly instructions that weir knows: everything of the core specification 2.0
// (with SIMD), tail calls and exceptions with exnref.
//
// It says what an instruction looks like (code, name, immediates, operand types), and nothing about what it does or
// costs. The metering pass reads modules by it and the test assembler writes them, so that neither can know an
// instruction that the other does not. Threads, typed function references, relaxed SIMD, multiple memories, memory64
// and the withdrawn exception handling with try/catch are not in it: weir refuses modules that use them.
//
// To add an instruction, add its line to table.go or vector.go; only new kinds of immediates need code.
package opcode

import (
	"iter"
	"sync"
)

// Code is the code of an instruction: its octet, or prefix<<8 | number for the instructions after the prefix octets
// 0xfc and 0xfd, whose number is an unsigned LEB128 integer in the binary format.
type Code uint16

// The prefix octets.
const (
	PrefixMisc   = 0xfc
	PrefixVector = 0xfd
)

// The instructions with rules of their own: those that steer control, whose types depend on an immediate, or that work
// on as many octets or elements as an operand says. Everything else is described by its line in the table.
const (
	Unreachable        Code = 0x00
	Block              Code = 0x02
	Loop               Code = 0x03
	If                 Code = 0x04
	Else               Code = 0x05
	Throw              Code = 0x08
	ThrowRef           Code = 0x0a
	End                Code = 0x0b
	Br                 Code = 0x0c
	BrIf               Code = 0x0d
	BrTable            Code = 0x0e
	Return             Code = 0x0f
	Call               Code = 0x10
	CallIndirect       Code = 0x11
	ReturnCall         Code = 0x12
	ReturnCallIndirect Code = 0x13
	Drop               Code = 0x1a
	Select             Code = 0x1b
	SelectTyped        Code = 0x1c
	TryTable           Code = 0x1f
	LocalGet           Code = 0x20
	LocalSet           Code = 0x21
	LocalTee           Code = 0x22
	GlobalGet          Code = 0x23
	GlobalSet          Code = 0x24
	MemoryGrow         Code = 0x40
	I32Const           Code = 0x41
	I64Const           Code = 0x42
	F32Const           Code = 0x43
	F64Const           Code = 0x44
	I32Eqz             Code = 0x45
	I64LtS             Code = 0x53
	I32Add             Code = 0x6a
	I32Sub             Code = 0x6b
	I32Mul             Code = 0x6c
	I32ShrU            Code = 0x76
	I64Add             Code = 0x7c
	I64Sub             Code = 0x7d
	I64Mul             Code = 0x7e
	I64ExtendI32U      Code = 0xad
	RefNull            Code = 0xd0
	RefFunc            Code = 0xd2
	MemoryInit         Code = 0xfc08
	MemoryCopy         Code = 0xfc0a
	MemoryFill         Code = 0xfc0b
	TableInit          Code = 0xfc0c
	TableCopy          Code = 0xfc0e
	TableGrow          Code = 0xfc0f
	TableFill          Code = 0xfc11
	V128Const          Code = 0xfd0c
)

// Immediate is what follows an instruction's code in the binary format. All integers are LEB128.
type Immediate uint8

// The kinds of immediates.
const (
	ImmNone        Immediate = iota
	ImmBlock                 // block type
	ImmLabel                 // label
	ImmLabels                // vector of labels, label
	ImmFunc                  // function
	ImmIndirect              // type, table
	ImmTag                   // tag
	ImmSelect                // vector of value types
	ImmTryTable              // block type, vector of catch clauses
	ImmLocal                 // local
	ImmGlobal                // global
	ImmTable                 // table
	ImmElem                  // element segment
	ImmData                  // data segment
	ImmMemory                // alignment, offset
	ImmMemoryLane            // alignment, offset, lane octet
	ImmMemoryIndex           // zero octet
	ImmMemoryInit            // data segment, zero octet
	ImmMemoryCopy            // two zero octets
	ImmTableInit             // element segment, table
	ImmTableCopy             // table (destination), table (source)
	ImmRefType               // reference type octet
	ImmI32                   // signed 32 bits
	ImmI64                   // signed 64 bits
	ImmF32                   // 4 octets
	ImmF64                   // 8 octets
	ImmV128                  // 16 octets
	ImmShuffle               // 16 lane octets
	ImmLane                  // lane octet
)

// Instruction is a line of the table.
type Instruction struct {
	Code      Code
	Name      string // in the text format
	Immediate Immediate

	// Signature has the operand types, a colon, and the result types, a letter each: i and I for i32 and i64, f and F
	// for f32 and f64, v for v128, r for a reference. It is empty where the types depend on an immediate or on the
	// operands.
	Signature string
}

// Operands returns how many values the instruction takes and leaves; ok is false where its Signature is empty.
func (i *Instruction) Operands() (in, out int, ok bool) {
	for n := range len(i.Signature) {
		if i.Signature[n] == ':' {
			return n, len(i.Signature) - n - 1, true
		}
	}
	return 0, 0, false
}

// ByCode returns the instruction with a code, or nil.
func ByCode(c Code) *Instruction {
	var i *Instruction
	switch n := int(c & 0xff); {
	case c>>8 == 0:
		i = &plain[n]
	case c>>8 == PrefixMisc && n < len(misc):
		i = &misc[n]
	case c>>8 == PrefixVector:
		i = &vector[n]
	}
	if i == nil || i.Name == "" {
		return nil
	}
	return i
}

// ByName returns the instruction with a name in the text format, or nil. Of the two called select it is the one
// without immediates.
func ByName(name string) *Instruction { return byName()[name] }

var byName = sync.OnceValue(func() map[string]*Instruction {
	m := make(map[string]*Instruction)
	for i := range All() {
		if m[i.Name] == nil {
			m[i.Name] = i
		}
	}
	return m
})

// All returns the instructions in the order of their codes.
func All() iter.Seq[*Instruction] {
	return func(yield func(*Instruction) bool) {
		for _, t := range [][]Instruction{plain[:], misc[:], vector[:]} {
			for n := range t {
				if t[n].Name != "" && !yield(&t[n]) {
					return
				}
			}
		}
	}
}
