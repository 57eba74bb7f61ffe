package wat

import (
	"encoding/binary"
	"maps"
	"math/bits"
	"slices"
	"strings"

	"github.com/weirdns/weir/host/wasm/opcode"
)

// function is an instruction sequence on its way to the binary format.
type function struct {
	*assembler
	locals map[string]uint32
	labels []string // innermost last; "" where a construct has no label
	out    []byte
}

// code returns the entry of the code section for a function of type t.
func (a *assembler) code(t uint32, params map[string]uint32, nodes []*node, line int) []byte {
	f := &function{assembler: a, locals: maps.Clone(params)}
	if f.locals == nil {
		f.locals = make(map[string]uint32)
	}
	first := 0
	if int(t) < len(a.types) {
		first = len(a.types[t].params)
	}
	types, names, nodes := a.valueTypes("local", nodes)
	for name, i := range names {
		if _, ok := f.locals[name]; ok {
			fail(line, "local %s is also a parameter", name)
		}
		f.locals[name] = uint32(first) + i
	}
	runs, count := []byte(nil), 0
	for rest := types; rest != ""; count++ {
		n := len(rest) - len(strings.TrimLeft(rest, rest[:1]))
		runs = append(appendUint(runs, n), rest[0])
		rest = rest[n:]
	}
	f.out = append(appendUint(f.out, count), runs...)
	f.sequence(nodes)
	return appendBytes(nil, append(f.out, byte(opcode.End)))
}

// expression returns a constant expression with its end.
func (a *assembler) expression(nodes []*node) []byte {
	f := &function{assembler: a}
	f.sequence(nodes)
	return append(f.out, byte(opcode.End))
}

// sequence writes flat and folded instructions up to the end of nodes, with all their blocks closed.
func (f *function) sequence(nodes []*node) {
	depth, last := len(f.labels), 0
	for len(nodes) > 0 {
		last = nodes[0].line
		if nodes[0].kind == list {
			f.folded(nodes[0])
			nodes = nodes[1:]
			continue
		}
		name, line := nodes[0].text, nodes[0].line
		op := instruction(nodes[0])
		nodes = nodes[1:]
		switch op.Code {
		case opcode.Else, opcode.End:
			if len(f.labels) == depth {
				fail(line, "%s without a block", name)
			}
			if len(nodes) > 0 && nodes[0].isName() { // repeats the label
				if label := f.labels[len(f.labels)-1]; nodes[0].text != label {
					fail(line, "%s %s ends the block with label %q", name, nodes[0].text, label)
				}
				nodes = nodes[1:]
			}
			if op.Code == opcode.End {
				f.labels = f.labels[:len(f.labels)-1]
			}
			f.out = append(f.out, byte(op.Code))
		case opcode.Block, opcode.Loop, opcode.If, opcode.TryTable:
			nodes = f.open(op, nodes, line)
		default:
			var encoded []byte
			encoded, nodes = f.encode(op, nodes, line)
			f.out = append(f.out, encoded...)
		}
	}
	if len(f.labels) != depth {
		fail(last, "%d blocks have no end", len(f.labels)-depth)
	}
}

func instruction(n *node) *opcode.Instruction {
	op := opcode.ByName(n.text)
	if n.kind != atom || op == nil {
		fail(n.line, "unknown instruction %s", n)
	}
	return op
}

// open writes the head of a block and enters it.
func (f *function) open(op *opcode.Instruction, nodes []*node, line int) (rest []*node) {
	label := ""
	if len(nodes) > 0 && nodes[0].isName() {
		label, nodes = nodes[0].text, nodes[1:]
	}
	f.out = append(f.out, byte(op.Code))
	rest = f.blockType(nodes, line)
	if op.Code == opcode.TryTable {
		rest = f.catches(rest) // their labels are those around the try_table
	}
	f.labels = append(f.labels, label)
	return rest
}

// blockType writes (type x)? (param ...)* (result ...)*, in a short form where there is one.
func (f *function) blockType(nodes []*node, line int) (rest []*node) {
	if result, _, rest := f.valueTypes("result", nodes); len(result) <= 1 && (len(nodes) == 0 ||
		nodes[0].head() != "type" && nodes[0].head() != "param") {
		f.out = append(f.out, (result + "\x40")[0])
		return rest
	}
	t, _, rest := f.typeUse(nodes, line)
	f.out = appendInt(f.out, int64(t))
	return rest
}

// catches writes the catch clauses of a try_table.
func (f *function) catches(nodes []*node) (rest []*node) {
	kinds := []string{"catch", "catch_ref", "catch_all", "catch_all_ref"}
	var clauses section
	for len(nodes) > 0 && slices.Contains(kinds, nodes[0].head()) {
		kind, args := slices.Index(kinds, nodes[0].head()), nodes[0].list[1:]
		clause := []byte{byte(kind)}
		if want := 2 - kind/2; len(args) != want {
			fail(nodes[0].line, "%s takes %d arguments", kinds[kind], want)
		}
		if kind < 2 {
			clause, args = appendUint(clause, f.tags.index(args[0])), args[1:]
		}
		clauses.add(appendUint(clause, f.label(args[0])))
		nodes = nodes[1:]
	}
	f.out = append(appendUint(f.out, clauses.count), clauses.body...)
	return nodes
}

// folded writes a parenthesised instruction: its operands, then itself.
func (f *function) folded(n *node) {
	if n.head() == "" {
		fail(n.line, "want an instruction")
	}
	op, rest := instruction(n.list[0]), n.list[1:]
	switch op.Code {
	case opcode.Block, opcode.Loop, opcode.TryTable:
		rest = f.open(op, rest, n.line)
		f.sequence(rest)
	case opcode.If:
		f.foldedIf(op, n, rest)
		return
	case opcode.Else, opcode.End:
		fail(n.line, "%s has no folded form", op.Name)
	default:
		encoded, operands := f.encode(op, rest, n.line)
		for _, operand := range operands {
			if operand.kind != list {
				fail(operand.line, "%s: unexpected %s", op.Name, operand)
			}
			f.folded(operand)
		}
		f.out = append(f.out, encoded...)
		return
	}
	f.out = append(f.out, byte(opcode.End))
	f.labels = f.labels[:len(f.labels)-1]
}

// foldedIf writes (if label? type condition* (then ...) (else ...)?).
func (f *function) foldedIf(op *opcode.Instruction, n *node, rest []*node) {
	then := slices.IndexFunc(rest, func(n *node) bool { return n.head() == "then" })
	if then < 0 {
		fail(n.line, "if has no (then ...)")
	}
	// The condition is evaluated outside of the block, but written behind its label and type.
	head, arms := rest[:then], rest[then:]
	i := len(head)
	for i > 0 && !slices.Contains([]string{"type", "param", "result"}, head[i-1].head()) && !head[i-1].isName() {
		i--
	}
	for _, condition := range head[i:] {
		if condition.kind != list {
			fail(condition.line, "if: unexpected %s", condition)
		}
		f.folded(condition)
	}
	noMore(f.open(op, head[:i], n.line))
	f.sequence(arms[0].list[1:])
	if len(arms) > 1 && arms[1].head() == "else" {
		f.out = append(f.out, byte(opcode.Else))
		f.sequence(arms[1].list[1:])
		arms = arms[1:]
	}
	noMore(arms[1:])
	f.out = append(f.out, byte(opcode.End))
	f.labels = f.labels[:len(f.labels)-1]
}

// encode returns an instruction with its immediates, and the nodes after them.
func (f *function) encode(op *opcode.Instruction, nodes []*node, line int) (b []byte, rest []*node) {
	if op.Code == opcode.Select && len(nodes) > 0 && nodes[0].head() == "result" {
		op = opcode.ByCode(opcode.SelectTyped)
	}
	if prefix := byte(op.Code >> 8); prefix != 0 {
		b = appendUint([]byte{prefix}, byte(op.Code))
	} else {
		b = []byte{byte(op.Code)}
	}
	next := func(what string) *node {
		if len(nodes) == 0 {
			fail(line, "%s: want %s", op.Name, what)
		}
		n := nodes[0]
		nodes = nodes[1:]
		return n
	}
	put := func(s *space) { b = appendUint(b, s.index(next("a "+s.what))) }
	// optional appends an index that is 0 where the text has none.
	optional := func(s *space) {
		if len(nodes) > 0 && isIndex(nodes[0]) {
			put(s)
		} else {
			b = appendUint(b, 0)
		}
	}
	switch op.Immediate {
	case opcode.ImmLabel:
		b = appendUint(b, f.label(next("a label")))
	case opcode.ImmLabels:
		var labels []byte
		count := -1 // the last one is the default
		for len(nodes) > 0 && isIndex(nodes[0]) {
			labels = appendUint(labels, f.label(next("a label")))
			count++
		}
		if count < 0 {
			fail(line, "br_table: want a label")
		}
		b = append(appendUint(b, count), labels...)
	case opcode.ImmFunc:
		put(&f.funcs)
	case opcode.ImmTag:
		put(&f.tags)
	case opcode.ImmGlobal:
		put(&f.globals)
	case opcode.ImmData:
		f.needsDataCount = true
		put(&f.segments)
	case opcode.ImmElem:
		put(&f.elements)
	case opcode.ImmLocal:
		s := space{what: "local", names: f.locals}
		put(&s)
	case opcode.ImmTable:
		optional(&f.tables)
	case opcode.ImmMemoryIndex:
		optional(&f.memories)
	case opcode.ImmMemoryCopy:
		optional(&f.memories)
		optional(&f.memories)
	case opcode.ImmTableCopy:
		optional(&f.tables)
		optional(&f.tables)
	case opcode.ImmMemoryInit:
		f.needsDataCount = true
		put(&f.segments)
		b = append(b, 0)
	case opcode.ImmTableInit: // table.init table? segment, which is segment table in the binary format
		var table uint32
		if len(nodes) > 1 && isIndex(nodes[1]) {
			table = f.tables.index(next("a table"))
		}
		put(&f.elements)
		b = appendUint(b, table)
	case opcode.ImmIndirect:
		var table uint32
		if len(nodes) > 0 && isIndex(nodes[0]) {
			table = f.tables.index(next("a table"))
		}
		var t uint32
		t, _, nodes = f.typeUse(nodes, line)
		b = appendUint(appendUint(b, t), table)
	case opcode.ImmSelect:
		var types string
		types, _, nodes = f.valueTypes("result", nodes)
		b = appendBytes(b, types)
	case opcode.ImmRefType:
		n := next("func, extern or exn")
		t, ok := heapTypeOctets[n.text]
		if !ok {
			fail(n.line, "ref.null: want func, extern or exn, not %s", n)
		}
		b = append(b, t)
	case opcode.ImmMemory, opcode.ImmMemoryLane:
		b, nodes = memoryArgument(b, op.Name, nodes)
		if op.Immediate == opcode.ImmMemoryLane {
			b = append(b, byte(integer(next("a lane"), 8)))
		}
	case opcode.ImmI32:
		b = appendInt(b, integer(next("an integer"), 32))
	case opcode.ImmI64:
		b = appendInt(b, integer(next("an integer"), 64))
	case opcode.ImmF32:
		b = binary.LittleEndian.AppendUint32(b, uint32(float(next("a number"), 32)))
	case opcode.ImmF64:
		b = binary.LittleEndian.AppendUint64(b, float(next("a number"), 64))
	case opcode.ImmLane:
		b = append(b, byte(integer(next("a lane"), 8)))
	case opcode.ImmShuffle:
		for range 16 {
			b = append(b, byte(integer(next("16 lanes"), 8)))
		}
	case opcode.ImmV128:
		b = vector(b, next)
	}
	return b, nodes
}

func isIndex(n *node) bool {
	return n.isName() || n.kind == atom && n.text[0] >= '0' && n.text[0] <= '9'
}

// label returns how many blocks out a label is.
func (f *function) label(n *node) uint32 {
	if !n.isName() {
		return index(n)
	}
	for depth := range f.labels {
		if f.labels[len(f.labels)-1-depth] == n.text {
			return uint32(depth)
		}
	}
	fail(n.line, "unknown label %s", n.text)
	return 0
}

// memoryArgument appends alignment and offset, from offset=n? align=n?.
func memoryArgument(b []byte, name string, nodes []*node) (out []byte, rest []*node) {
	var offset uint32
	align := naturalAlignment(name)
	if len(nodes) > 0 && strings.HasPrefix(nodes[0].text, "offset=") {
		offset, nodes = index(&node{line: nodes[0].line, text: nodes[0].text[len("offset="):]}), nodes[1:]
	}
	if len(nodes) > 0 && strings.HasPrefix(nodes[0].text, "align=") {
		align, nodes = index(&node{line: nodes[0].line, text: nodes[0].text[len("align="):]}), nodes[1:]
	}
	return appendUint(appendUint(b, bits.Len32(align)-1), offset), nodes
}

// naturalAlignment returns how many octets a load or store touches: the number after load or store in its name, or
// the size of its type.
func naturalAlignment(name string) uint32 {
	typ, access, _ := strings.Cut(name, ".")
	access = strings.TrimPrefix(strings.TrimPrefix(access, "load"), "store")
	if strings.Contains(access, "x") { // load8x8_s and the like read 64 bits
		return 8
	}
	width := uint32(0)
	for _, c := range access {
		if c < '0' || c > '9' {
			break
		}
		width = width*10 + uint32(c-'0')
	}
	if width > 0 {
		return width / 8
	}
	return map[string]uint32{"i32": 4, "f32": 4, "i64": 8, "f64": 8, "v128": 16}[typ]
}

// vector appends a v128 constant: a shape and its lanes.
func vector(b []byte, next func(string) *node) []byte {
	shape := next("a shape such as i32x4")
	width := map[string]int{"i8x16": 8, "i16x8": 16, "i32x4": 32, "i64x2": 64, "f32x4": 32, "f64x2": 64}[shape.text]
	if width == 0 {
		fail(shape.line, "v128.const: want a shape such as i32x4, not %s", shape)
	}
	for range 128 / width {
		n := next("more lanes")
		v := uint64(0)
		if shape.text[0] == 'f' {
			v = float(n, width)
		} else {
			v = uint64(integer(n, width))
		}
		b = append(b, binary.LittleEndian.AppendUint64(nil, v)[:width/8]...)
	}
	return b
}
