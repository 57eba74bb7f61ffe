package wasm

import (
	"errors"
	"fmt"

	"github.com/weirdns/weir/host/wasm/opcode"
)

// Sections of the binary format that admission looks into.
const (
	sectionType     = 1
	sectionImport   = 2
	sectionFunction = 3
	sectionTable    = 4
	sectionMemory   = 5
	sectionGlobal   = 6
	sectionExport   = 7
	sectionElement  = 9
	sectionCode     = 10
	sectionData     = 11
)

// Kinds of imports and exports.
const (
	kindFunction = 0
	kindMemory   = 2
)

var (
	errShort   = errors.New("ends too early")
	errInteger = errors.New("has an integer that is too long")
)

// octets reads the binary format. After the first error all reads give zero, so the error is looked at once, before what was read is used.
type octets struct {
	b   []byte
	err error
}

func (o *octets) octet() byte {
	if len(o.b) == 0 {
		o.err = errShort
		return 0
	}
	c := o.b[0]
	o.b = o.b[1:]
	return c
}

// number reads an unsigned LEB128 integer of 32 bits.
func (o *octets) number() uint32 {
	var v uint32
	for shift := 0; ; shift += 7 {
		c := o.octet()
		v |= uint32(c&0x7F) << shift
		if c < 0x80 {
			return v
		}
		if shift == 28 {
			o.err, o.b = errInteger, nil
			return 0
		}
	}
}

// signed skips a signed LEB128 integer.
func (o *octets) signed() {
	for range 10 {
		if o.octet() < 0x80 {
			return
		}
	}
	o.err, o.b = errInteger, nil
}

// take returns the next n octets.
func (o *octets) take(n uint32) []byte {
	if uint64(n) > uint64(len(o.b)) {
		o.err, o.b = errShort, nil
		return nil
	}
	b := o.b[:n]
	o.b = o.b[n:]
	return b
}

func (o *octets) vector() []byte { return o.take(o.number()) }

// count reads how many entries follow, each of at least one octet.
func (o *octets) count(what string, most int) (int, error) {
	n := o.number()
	if o.err == nil && uint64(n) > uint64(len(o.b)) {
		o.err = errShort
	}
	if o.err != nil {
		return 0, o.err
	}
	if int(n) > most {
		return 0, fmt.Errorf("has %d %s: at most %d are allowed", n, what, most)
	}
	return int(n), nil
}

// limits reads the minimum of a memory or table, and skips the maximum.
func (o *octets) limits() uint32 {
	flags := o.octet()
	minimum := o.number()
	if flags&1 != 0 {
		o.number()
	}
	return minimum
}

// constant skips a constant expression.
func (o *octets) constant() {
	for o.err == nil {
		if code, ok := o.instruction(); !ok || code == opcode.End {
			return
		}
	}
}

// instruction skips one instruction with its immediates. ok is false when there is none that weir knows.
func (o *octets) instruction() (code opcode.Code, ok bool) {
	code = opcode.Code(o.octet())
	if code == opcode.PrefixMisc || code == opcode.PrefixVector {
		code = code<<8 | opcode.Code(o.number()&0xFF)
	}
	i := opcode.ByCode(code)
	if i == nil || o.err != nil {
		if o.err == nil {
			o.err, o.b = fmt.Errorf("has the unknown instruction %#x", uint16(code)), nil
		}
		return code, false
	}
	switch i.Immediate {
	case opcode.ImmNone:
	case opcode.ImmBlock, opcode.ImmI32, opcode.ImmI64:
		o.signed()
	case opcode.ImmLabels:
		for range o.number() {
			if o.number(); o.err != nil {
				break
			}
		}
		o.number()
	case opcode.ImmSelect:
		o.vector()
	case opcode.ImmTryTable:
		o.signed()
		for range o.number() {
			if o.octet() < 2 {
				o.number()
			}
			if o.number(); o.err != nil {
				break
			}
		}
	case opcode.ImmIndirect, opcode.ImmMemory, opcode.ImmMemoryInit, opcode.ImmMemoryCopy, opcode.ImmTableInit, opcode.ImmTableCopy:
		o.number()
		o.number()
	case opcode.ImmMemoryLane:
		o.number()
		o.number()
		o.octet()
	case opcode.ImmRefType, opcode.ImmLane:
		o.octet()
	case opcode.ImmF32:
		o.take(4)
	case opcode.ImmF64:
		o.take(8)
	case opcode.ImmV128, opcode.ImmShuffle:
		o.take(16)
	default: // an index
		o.number()
	}
	return code, o.err == nil
}
