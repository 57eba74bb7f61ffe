package wat

import "slices"

var valueTypeOctets = map[string]byte{
	"i32": 0x7f, "i64": 0x7e, "f32": 0x7d, "f64": 0x7c, "v128": 0x7b, "funcref": 0x70, "externref": 0x6f, "exnref": 0x69,
}

var heapTypeOctets = map[string]byte{"func": 0x70, "extern": 0x6f, "exn": 0x69}

func valueType(n *node) byte {
	t, ok := valueTypeOctets[n.text]
	if n.kind != atom || !ok {
		fail(n.line, "want a value type, not %s", n)
	}
	return t
}

// valueTypes reads any number of (what type*) or (what $name type), and the names by position.
func (a *assembler) valueTypes(what string, nodes []*node) (types string, names map[string]uint32, rest []*node) {
	for len(nodes) > 0 && nodes[0].head() == what {
		args := nodes[0].list[1:]
		if len(args) == 2 && args[0].isName() {
			if _, ok := names[args[0].text]; ok {
				fail(args[0].line, "%s %s is defined twice", what, args[0].text)
			}
			if names == nil {
				names = make(map[string]uint32)
			}
			names[args[0].text] = uint32(len(types))
			args = args[1:]
		}
		for _, t := range args {
			types += string([]byte{valueType(t)})
		}
		nodes = nodes[1:]
	}
	return types, names, nodes
}

// typeUse reads (type x)? (param ...)* (result ...)* and returns the type's index, adding the type if it is new.
func (a *assembler) typeUse(nodes []*node, line int) (t uint32, params map[string]uint32, rest []*node) {
	var explicit *node
	if len(nodes) > 0 && nodes[0].head() == "type" {
		if len(nodes[0].list) != 2 {
			fail(nodes[0].line, "want (type index)")
		}
		explicit, nodes = nodes[0].list[1], nodes[1:]
	}
	var s signature
	s.params, params, nodes = a.valueTypes("param", nodes)
	s.results, _, nodes = a.valueTypes("result", nodes)
	if explicit == nil {
		if i := slices.Index(a.types, s); i >= 0 {
			return uint32(i), params, nodes
		}
		a.types = append(a.types, s)
		return uint32(len(a.types) - 1), params, nodes
	}
	t = a.typeNames.index(explicit)
	if s != (signature{}) && int(t) < len(a.types) && a.types[t] != s {
		fail(line, "the parameters and results are not those of type %s", explicit.text)
	}
	return t, params, nodes
}

// limits reads min max?.
func limits(f field, nodes []*node) (b []byte, rest []*node) {
	if len(nodes) == 0 {
		fail(f.line, "want the minimum size")
	}
	minimum := index(nodes[0])
	if len(nodes) > 1 && isIndex(nodes[1]) {
		return appendUint(appendUint([]byte{1}, minimum), index(nodes[1])), nodes[2:]
	}
	return appendUint([]byte{0}, minimum), nodes[1:]
}

// table reads min max? reftype, or reftype (elem ...) for a table that is just as large as its elements.
func (a *assembler) table(f field) []byte {
	if len(f.rest) == 2 && f.rest[1].head() == "elem" {
		t := valueType(f.rest[0])
		items, count := a.items(f.rest[1].list[1:], t)
		offset := []byte{0x41, 0, 0x0b}
		segment := append(appendUint([]byte{6}, f.index), offset...)
		a.elements.count++
		a.elementDefs.add(append(appendUint(append(segment, t), count), items...))
		return appendUint(appendUint([]byte{t, 1}, count), count)
	}
	size, rest := limits(f, f.rest)
	if len(rest) != 1 {
		fail(f.line, "want (table min max? type)")
	}
	return append([]byte{valueType(rest[0])}, size...)
}

// memory reads min max?, or (data "octets"*) for a memory that is just as large as its data.
func (a *assembler) memory(f field) []byte {
	if len(f.rest) == 1 && f.rest[0].head() == "data" {
		octets := texts(f.rest[0].list[1:])
		pages := (len(octets) + 65535) / 65536
		a.segments.count++
		a.data.add(appendBytes([]byte{0, 0x41, 0, 0x0b}, octets))
		return appendUint(appendUint([]byte{1}, pages), pages)
	}
	size, rest := limits(f, f.rest)
	noMore(rest)
	return size
}

// global reads type or (mut type), and the initial value.
func (a *assembler) global(f field) []byte {
	if len(f.rest) == 0 {
		fail(f.line, "want (global type value)")
	}
	var b []byte
	if t := f.rest[0]; t.head() == "mut" && len(t.list) == 2 {
		b = []byte{valueType(t.list[1]), 1}
	} else {
		b = []byte{valueType(t), 0}
	}
	if f.imp != nil {
		noMore(f.rest[1:])
		return b
	}
	return append(b, a.expression(f.rest[1:])...)
}

// offset reads (table x) or (memory x), and (offset instruction*) or (instruction), when they are there.
func (a *assembler) offset(what string, s *space, nodes []*node) (i uint32, offset []byte, rest []*node) {
	if len(nodes) > 0 && nodes[0].head() == what {
		if len(nodes[0].list) != 2 {
			fail(nodes[0].line, "want (%s index)", what)
		}
		i, nodes = s.index(nodes[0].list[1]), nodes[1:]
	}
	if len(nodes) > 0 && nodes[0].kind == list && nodes[0].head() != "item" {
		if nodes[0].head() == "offset" {
			return i, a.expression(nodes[0].list[1:]), nodes[1:]
		}
		return i, a.expression(nodes[:1]), nodes[1:]
	}
	return i, nil, nodes
}

// dataSegment reads (data (memory x)? offset? "octets"*).
func (a *assembler) dataSegment(f field) {
	m, offset, rest := a.offset("memory", &a.memories, f.rest)
	b := []byte{1}
	switch {
	case offset != nil && m == 0:
		b = append([]byte{0}, offset...)
	case offset != nil:
		b = append(appendUint([]byte{2}, m), offset...)
	}
	a.data.add(appendBytes(b, texts(rest)))
}

// elem reads (elem declare? (table x)? offset? type? item*). It always writes the general form with expressions.
func (a *assembler) elem(f field) {
	rest := f.rest
	declare := len(rest) > 0 && rest[0].text == "declare"
	if declare {
		rest = rest[1:]
	}
	table, offset, rest := a.offset("table", &a.tables, rest)
	t := valueTypeOctets["funcref"]
	if len(rest) > 0 && rest[0].kind == atom && !isIndex(rest[0]) {
		if rest[0].text != "func" {
			t = valueType(rest[0])
		}
		rest = rest[1:]
	}
	b := []byte{5}
	switch {
	case declare:
		b = []byte{7}
	case offset != nil:
		b = append(appendUint([]byte{6}, table), offset...)
	}
	items, count := a.items(rest, t)
	a.elementDefs.add(append(appendUint(append(b, t), count), items...))
}

// items reads function indexes, (item instruction*) or (instruction).
func (a *assembler) items(nodes []*node, t byte) (b []byte, count int) {
	for _, n := range nodes {
		switch {
		case n.kind == atom:
			b = append(appendUint(append(b, 0xd2), a.funcs.index(n)), 0x0b)
		case n.head() == "item":
			b = append(b, a.expression(n.list[1:])...)
		default:
			b = append(b, a.expression([]*node{n})...)
		}
	}
	return b, len(nodes)
}
