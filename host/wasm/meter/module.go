package meter

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/weirdns/weir/host/wasm/opcode"
)

// Section numbers of the binary format.
const (
	sectionCustom    = 0
	sectionType      = 1
	sectionImport    = 2
	sectionFunction  = 3
	sectionTable     = 4
	sectionMemory    = 5
	sectionGlobal    = 6
	sectionExport    = 7
	sectionStart     = 8
	sectionElement   = 9
	sectionCode      = 10
	sectionData      = 11
	sectionDataCount = 12
	sectionTag       = 13
)

// sections has the names of the sections and the order in which they must come, by number.
var sections = [...]struct {
	name string
	rank int
}{
	{"custom", 0}, {"type", 1}, {"import", 2}, {"function", 3}, {"table", 4}, {"memory", 5}, {"global", 7}, {"export", 8},
	{"start", 9}, {"element", 10}, {"code", 12}, {"data", 13}, {"data count", 11}, {"tag", 6},
}

// maxLocals bounds the parameters and locals of a function: the limit that engines agreed on for the Web.
const maxLocals = 50_000

// signature is a function type; its strings alias nothing and hold value type octets.
type signature struct{ params, results string }

// section is a section as it stands in the module.
type section struct {
	id   byte
	name string // custom sections
	body []byte // after the name for custom sections
}

// module is what metering needs to know of a module.
type module struct {
	sections []section
	types    []signature
	tags     []uint32 // their types
	funcs    []uint32 // their types; imported functions come first
	imported int      // how many of funcs are imported
	tables   int
	memories int
	globals  int
	elements int
	data     int
	escaped  []bool // by function: someone may have a reference to it
	bodies   [][]byte
	exports  map[string]uint32 // functions

	newTypes []signature // types that rewriting adds
	entries  []entry     // functions that rewriting adds
}

// parse reads everything but function bodies.
func parse(b []byte) (*module, error) {
	if len(b) < 8 || string(b[:8]) != "\x00asm\x01\x00\x00\x00" {
		return nil, errors.New("not a WebAssembly module of version 1")
	}
	m := &module{exports: make(map[string]uint32)}
	r := reader{b: b, pos: 8}
	rank := 0
	for !r.done() {
		at := r.pos
		s := section{id: r.octet()}
		s.body = r.vector()
		if r.err != nil {
			return nil, fmt.Errorf("section at offset %d: %w", at, r.err)
		}
		if int(s.id) >= len(sections) {
			return nil, fmt.Errorf("unknown section %d at offset %d", s.id, at)
		}
		if s.id != sectionCustom {
			if sections[s.id].rank <= rank {
				return nil, fmt.Errorf("%s section at offset %d is out of order", sections[s.id].name, at)
			}
			rank = sections[s.id].rank
		}
		in := reader{b: s.body}
		err := m.section(&s, &in)
		if in.err != nil {
			err = in.err
		}
		if err == nil && !in.done() {
			err = fmt.Errorf("%d octets too many", len(in.b)-in.pos)
		}
		if err != nil {
			return nil, fmt.Errorf("%s section at offset %d: %w", sections[s.id].name, at, err)
		}
		m.sections = append(m.sections, s)
	}
	if len(m.bodies) != len(m.funcs)-m.imported {
		return nil, fmt.Errorf("%d functions are declared and %d have code", len(m.funcs)-m.imported, len(m.bodies))
	}
	return m, nil
}

func (m *module) section(s *section, r *reader) error {
	switch s.id {
	case sectionCustom:
		s.name = r.name()
		s.body = r.b[min(r.pos, len(r.b)):]
		r.pos = len(r.b)
	case sectionType:
		return m.each(r, m.typeEntry)
	case sectionImport:
		return m.each(r, m.importEntry)
	case sectionFunction:
		return m.each(r, func(r *reader) error { return m.function(r.u32()) })
	case sectionTable:
		return m.each(r, m.tableEntry)
	case sectionMemory:
		return m.each(r, m.memoryEntry)
	case sectionTag:
		return m.each(r, m.tagEntry)
	case sectionGlobal:
		return m.each(r, m.globalEntry)
	case sectionExport:
		return m.each(r, m.exportEntry)
	case sectionStart:
		return m.checkFunction(r.u32())
	case sectionElement:
		return m.each(r, m.elementEntry)
	case sectionCode:
		return m.each(r, func(r *reader) error {
			m.bodies = append(m.bodies, r.vector())
			return nil
		})
	case sectionData:
		n := 0
		err := m.each(r, func(r *reader) error {
			n++
			return m.dataEntry(r)
		})
		if m.data != 0 && m.data != n {
			return fmt.Errorf("%d segments, but the data count says %d", n, m.data)
		}
		m.data = n
		return err
	case sectionDataCount:
		m.data = int(r.u32())
	}
	return nil
}

// each reads the entries of a section.
func (m *module) each(r *reader, entry func(*reader) error) error {
	for i := range r.count() {
		if err := entry(r); err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
		if r.err != nil {
			return fmt.Errorf("entry %d: %w", i, r.err)
		}
	}
	return nil
}

func (m *module) typeEntry(r *reader) error {
	if form := r.octet(); form != 0x60 && r.err == nil {
		return fmt.Errorf("form %#x is not a function type", form)
	}
	var s signature
	for _, types := range []*string{&s.params, &s.results} {
		b := r.vector()
		for _, t := range b {
			if !isValueType(t) {
				return fmt.Errorf("unknown value type %#x", t)
			}
		}
		*types = string(b)
	}
	m.types = append(m.types, s)
	return nil
}

func isValueType(t byte) bool { return t >= 0x7b && t <= 0x7f || isReference(t) }

// isReference tells funcref, externref and exnref.
func isReference(t byte) bool { return t == 0x70 || t == 0x6f || t == 0x69 }

func (m *module) importEntry(r *reader) error {
	r.name()
	r.name()
	switch kind := r.octet(); kind {
	case 0:
		m.imported++
		return m.function(r.u32())
	case 1:
		return m.tableEntry(r)
	case 2:
		return m.memoryEntry(r)
	case 3:
		m.globals++
		return m.globalType(r)
	case 4:
		return m.tagEntry(r)
	default:
		return fmt.Errorf("unknown import kind %d", kind)
	}
}

func (m *module) function(t uint32) error {
	if int64(t) >= int64(len(m.types)) {
		return fmt.Errorf("unknown type %d", t)
	}
	m.funcs = append(m.funcs, t)
	m.escaped = append(m.escaped, false)
	return nil
}

func (m *module) checkFunction(f uint32) error {
	if int64(f) >= int64(len(m.funcs)) {
		return fmt.Errorf("unknown function %d", f)
	}
	return nil
}

func (m *module) tableEntry(r *reader) error {
	m.tables++
	if t := r.octet(); !isReference(t) && r.err == nil {
		return fmt.Errorf("table of type %#x", t)
	}
	_, _, err := limits(r)
	return err
}

func (m *module) memoryEntry(r *reader) error {
	if m.memories++; m.memories > 1 {
		return errors.New("more than one memory")
	}
	_, _, err := limits(r)
	return err
}

// limits reads a minimum and a maximum, which is math.MaxUint32 where there is none.
func limits(r *reader) (minimum, maximum uint32, err error) {
	maximum = math.MaxUint32
	switch flags := r.octet(); flags {
	case 0:
		minimum = r.u32()
	case 1:
		minimum, maximum = r.u32(), r.u32()
	default:
		if r.err == nil {
			err = fmt.Errorf("limits with flags %#x: shared and 64-bit memories are not supported", flags)
		}
	}
	return minimum, maximum, err
}

func (m *module) tagEntry(r *reader) error {
	attribute, t := r.octet(), r.u32()
	if attribute != 0 || int64(t) >= int64(len(m.types)) {
		return fmt.Errorf("tag of attribute %d and type %d", attribute, t)
	}
	m.tags = append(m.tags, t)
	return nil
}

func (m *module) globalType(r *reader) error {
	if t, mutable := r.octet(), r.octet(); (!isValueType(t) || mutable > 1) && r.err == nil {
		return fmt.Errorf("global of type %#x and mutability %d", t, mutable)
	}
	return nil
}

func (m *module) globalEntry(r *reader) error {
	if err := m.globalType(r); err != nil {
		return err
	}
	// Only globals before this one may be read, which keeps the ones that metering adds out of reach.
	err := m.constant(r)
	m.globals++
	return err
}

func (m *module) exportEntry(r *reader) error {
	name := r.name()
	kind, index := r.octet(), r.u32()
	if kind > 4 {
		return fmt.Errorf("%q has unknown kind %d", name, kind)
	}
	if count := []int{len(m.funcs), m.tables, m.memories, m.globals, len(m.tags)}[kind]; int64(index) >= int64(count) {
		return fmt.Errorf("%q is number %d of %d", name, index, count)
	}
	if name == FuelExport || name == StackExport || strings.HasPrefix(name, EnterExport) {
		return fmt.Errorf("%q: this name is reserved for metering", name)
	}
	if kind == 0 {
		m.exports[name] = index
	}
	return nil
}

// constant reads a constant expression and notes the functions it refers to.
func (m *module) constant(r *reader) error {
	for {
		switch c := opcode.Code(r.octet()); c {
		case opcode.End:
			return r.err
		case opcode.I32Const:
			r.signed(5)
		case opcode.I64Const:
			r.signed(10)
		case opcode.F32Const:
			r.octets(4)
		case opcode.F64Const:
			r.octets(8)
		case opcode.I32Add, opcode.I32Sub, opcode.I32Mul, opcode.I64Add, opcode.I64Sub, opcode.I64Mul:
		case opcode.RefNull:
			r.octet()
		case opcode.RefFunc:
			if err := m.escape(r.u32()); err != nil {
				return err
			}
		case opcode.GlobalGet:
			if g := r.u32(); int64(g) >= int64(m.globals) {
				return fmt.Errorf("constant expression reads unknown global %d", g)
			}
		case opcode.PrefixVector:
			if number := r.u32(); opcode.PrefixVector<<8|opcode.Code(number) != opcode.V128Const || number > 0xff {
				return fmt.Errorf("constant expression with vector instruction %#x", number)
			}
			r.octets(16)
		default:
			if r.err != nil {
				return r.err
			}
			return fmt.Errorf("constant expression with opcode %#x", c)
		}
	}
}

// escape notes that a reference to a function is made somewhere.
func (m *module) escape(f uint32) error {
	if err := m.checkFunction(f); err != nil {
		return err
	}
	m.escaped[f] = true
	return nil
}

func (m *module) elementEntry(r *reader) error {
	m.elements++
	flags := r.u32()
	if flags > 7 {
		return fmt.Errorf("unknown flags %#x", flags)
	}
	passive, explicit, expressions := flags&1 != 0, flags&2 != 0, flags&4 != 0
	if !passive {
		table := uint32(0)
		if explicit {
			table = r.u32()
		}
		if int64(table) >= int64(m.tables) {
			return fmt.Errorf("unknown table %d", table)
		}
		if err := m.constant(r); err != nil {
			return err
		}
	}
	if passive || explicit {
		if t := r.octet(); (expressions && !isReference(t) || !expressions && t != 0) && r.err == nil {
			return fmt.Errorf("elements of type %#x", t)
		}
	}
	for range r.count() {
		var err error
		if expressions {
			err = m.constant(r)
		} else {
			err = m.escape(r.u32())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (m *module) dataEntry(r *reader) error {
	flags := r.u32()
	if flags > 2 {
		return fmt.Errorf("unknown flags %#x", flags)
	}
	if flags == 2 {
		if memory := r.u32(); memory != 0 {
			return fmt.Errorf("unknown memory %d", memory)
		}
	}
	if flags != 1 {
		if err := m.constant(r); err != nil {
			return err
		}
	}
	r.vector()
	return nil
}

// keepCustom tells whether a custom section is still true of the rewritten module, and returns what to keep of it.
// Sections that speak of offsets in the code section are not: DWARF, source maps, relocations and branch hints. A
// trap's stack trace keeps its function names.
func keepCustom(s section) (body []byte, keep bool) {
	switch {
	case s.name == "name":
		return keepNames(s.body), true
	case strings.HasPrefix(s.name, ".debug_"), strings.HasPrefix(s.name, "reloc."),
		strings.HasPrefix(s.name, "metadata.code."),
		s.name == "sourceMappingURL", s.name == "external_debug_info", s.name == "linking":
		return nil, false
	}
	return s.body, true
}

// keepNames keeps the names of the module, the functions and the locals: metering numbers none of them anew. Labels
// are numbered anew, and the rest is of no use here. What can't be read ends the section.
func keepNames(b []byte) []byte {
	r := reader{b: b}
	for !r.done() {
		start := r.pos
		id := r.octet()
		body := r.vector()
		if r.err != nil || id > 2 || !wellFormedNames(id, body) {
			return b[:start]
		}
	}
	return b
}

// wellFormedNames reports whether a subsection with the names of the module (0), of functions (1) or of locals (2) is just that. A reader may look no
// further than it has to and take a broken one; once what follows is cut off, it would find that there is not enough.
func wellFormedNames(id byte, body []byte) bool {
	r := reader{b: body}
	names := func() {
		for range r.count() {
			r.u32()
			if n := r.vector(); r.err != nil || !utf8.Valid(n) {
				r.fail(errName)
				return
			}
		}
	}
	switch id {
	case 0:
		if n := r.vector(); !utf8.Valid(n) {
			return false
		}
	case 1:
		names()
	case 2:
		for range r.count() {
			r.u32()
			if names(); r.err != nil {
				return false
			}
		}
	}
	return r.err == nil && r.done()
}
