package wat

import (
	"bytes"
	"fmt"
	"slices"
)

// space is an index space: the names and the number of, say, functions.
type space struct {
	what    string
	names   map[string]uint32
	count   uint32
	defined bool // a definition that is not an import was seen
}

func (s *space) add(name *node) uint32 {
	if name != nil {
		if _, ok := s.names[name.text]; ok {
			fail(name.line, "%s %s is defined twice", s.what, name.text)
		}
		if s.names == nil {
			s.names = make(map[string]uint32)
		}
		s.names[name.text] = s.count
	}
	s.count++
	return s.count - 1
}

// index resolves a name or number. Numbers are not checked: tests write modules that must be refused.
func (s *space) index(n *node) uint32 {
	if !n.isName() {
		return index(n)
	}
	i, ok := s.names[n.text]
	if !ok {
		fail(n.line, "unknown %s %s", s.what, n.text)
	}
	return i
}

// signature is a function type; its strings hold value type octets.
type signature struct{ params, results string }

// section collects the entries of a section.
type section struct {
	count int
	body  []byte
}

// assembler has what is shared by the fields of a module.
type assembler struct {
	types                                                  []signature
	typeNames, funcs, tables, memories, globals, tags      space
	elements, segments                                     space
	imports, functions, tableDefs, memoryDefs, tagDefs     section
	globalDefs, exports, elementDefs, codes, data, nameMap section
	start                                                  []byte
	custom                                                 []byte
	needsDataCount                                         bool
}

// assemble makes a module in two passes: the first gives everything an index, the second writes it.
func assemble(fields []*node) []byte {
	a := &assembler{}
	for s, what := range map[*space]string{
		&a.typeNames: "type", &a.funcs: "function", &a.tables: "table", &a.memories: "memory", &a.globals: "global",
		&a.tags: "tag", &a.elements: "element segment", &a.segments: "data segment",
	} {
		s.what = what
	}
	parsed := make([]field, len(fields))
	for i, n := range fields {
		parsed[i] = a.declare(n)
	}
	for _, f := range parsed {
		a.define(f)
	}
	return a.module()
}

// field is a module field without its head, name, inline exports and inline import.
type field struct {
	*node
	what    string
	space   *space
	index   uint32
	exports []*node // (export "name")
	imp     *node   // (import "module" "name")
	rest    []*node
}

// declare reads the head of a field and gives it its index.
func (a *assembler) declare(n *node) field {
	f := field{node: n, what: n.head()}
	if f.what == "" {
		fail(n.line, "want a module field such as (func ...)")
	}
	f.rest = n.list[1:]
	if f.what == "import" {
		// (import "m" "n" (func $f ...)) is (func $f (import "m" "n") ...).
		if len(f.rest) != 3 || f.rest[2].head() == "" {
			fail(n.line, `want (import "module" "name" (kind ...))`)
		}
		f.imp = &node{line: n.line, kind: list, list: n.list[:3]}
		f.what = f.rest[2].head()
		f.rest = f.rest[2].list[1:]
	}
	f.space = map[string]*space{
		"type": &a.typeNames, "func": &a.funcs, "table": &a.tables, "memory": &a.memories, "global": &a.globals,
		"tag": &a.tags, "elem": &a.elements, "data": &a.segments,
	}[f.what]
	if f.space == nil {
		return f
	}
	var name *node
	if len(f.rest) > 0 && f.rest[0].isName() {
		name, f.rest = f.rest[0], f.rest[1:]
	}
	for len(f.rest) > 0 && f.rest[0].head() == "export" {
		f.exports, f.rest = append(f.exports, f.rest[0]), f.rest[1:]
	}
	if len(f.rest) > 0 && f.rest[0].head() == "import" && f.imp == nil {
		f.imp, f.rest = f.rest[0], f.rest[1:]
	}
	if f.imp == nil {
		f.space.defined = true
	} else if f.space.defined {
		fail(n.line, "imports come before the first %s of the module", f.space.what)
	}
	f.index = f.space.add(name)
	switch f.what {
	case "func":
		if name != nil {
			a.nameMap.count++
			a.nameMap.body = appendBytes(appendUint(a.nameMap.body, f.index), name.text[1:])
		}
	case "type":
		a.declareType(f)
	}
	return f
}

func (a *assembler) declareType(f field) {
	if len(f.rest) != 1 || f.rest[0].head() != "func" {
		fail(f.line, "want (type $name (func ...))")
	}
	var s signature
	rest := f.rest[0].list[1:]
	s.params, _, rest = a.valueTypes("param", rest)
	s.results, _, rest = a.valueTypes("result", rest)
	noMore(rest)
	a.types = append(a.types, s)
}

// define writes a field to its section.
func (a *assembler) define(f field) {
	var kind byte
	var desc []byte // what an import of the field says, and the start of a definition
	switch f.what {
	case "type":
		return
	case "func":
		kind = 0
		t, locals, body := a.typeUse(f.rest, f.line)
		desc = appendUint(desc, t)
		if f.imp == nil {
			a.codes.add(a.code(t, locals, body, f.line))
		} else {
			noMore(body)
		}
	case "table":
		kind = 1
		desc = a.table(f)
	case "memory":
		kind = 2
		desc = a.memory(f)
	case "global":
		kind = 3
		desc = a.global(f)
	case "tag":
		kind = 4
		t, _, rest := a.typeUse(f.rest, f.line)
		noMore(rest)
		desc = appendUint([]byte{0}, t)
	case "elem":
		a.elem(f)
		return
	case "data":
		a.dataSegment(f)
		return
	case "export":
		a.export(f)
		return
	case "start":
		a.start = appendUint(nil, a.funcs.index(one(f)))
		return
	case "@custom":
		if len(f.rest) < 1 {
			fail(f.line, `want (@custom "name" "octets")`)
		}
		a.custom = appendSection(a.custom, 0, append(appendBytes(nil, text(f.rest[0])), texts(f.rest[1:])...))
		return
	default:
		fail(f.line, "unknown module field %q", f.what)
	}
	for _, e := range f.exports {
		if len(e.list) != 2 {
			fail(e.line, `want (export "name")`)
		}
		a.exports.add(appendUint(append(appendBytes(nil, text(e.list[1])), kind), f.index))
	}
	if f.imp != nil {
		if len(f.imp.list) != 3 {
			fail(f.imp.line, `want (import "module" "name")`)
		}
		names := appendBytes(appendBytes(nil, text(f.imp.list[1])), text(f.imp.list[2]))
		a.imports.add(append(append(names, kind), desc...))
		return
	}
	[]*section{&a.functions, &a.tableDefs, &a.memoryDefs, &a.globalDefs, &a.tagDefs}[kind].add(desc)
}

func (a *assembler) export(f field) {
	kinds := []string{"func", "table", "memory", "global", "tag"}
	if len(f.rest) != 2 || len(f.rest[1].list) != 2 || !slices.Contains(kinds, f.rest[1].head()) {
		fail(f.line, `want (export "name" (kind index))`)
	}
	kind := slices.Index(kinds, f.rest[1].head())
	i := []*space{&a.funcs, &a.tables, &a.memories, &a.globals, &a.tags}[kind].index(f.rest[1].list[1])
	a.exports.add(appendUint(append(appendBytes(nil, text(f.rest[0])), byte(kind)), i))
}

// module puts the sections in order.
func (a *assembler) module() []byte {
	var types section
	for _, t := range a.types {
		types.add(appendBytes(appendBytes([]byte{0x60}, t.params), t.results))
	}
	out := []byte("\x00asm\x01\x00\x00\x00")
	out = types.append(out, 1)
	out = a.imports.append(out, 2)
	out = a.functions.append(out, 3)
	out = a.tableDefs.append(out, 4)
	out = a.memoryDefs.append(out, 5)
	out = a.tagDefs.append(out, 13)
	out = a.globalDefs.append(out, 6)
	out = a.exports.append(out, 7)
	if a.start != nil {
		out = appendSection(out, 8, a.start)
	}
	out = a.elementDefs.append(out, 9)
	if a.needsDataCount {
		out = appendSection(out, 12, appendUint(nil, a.data.count))
	}
	out = a.codes.append(out, 10)
	out = a.data.append(out, 11)
	if a.nameMap.count > 0 {
		functions := append(appendUint(nil, a.nameMap.count), a.nameMap.body...)
		out = appendSection(out, 0, appendBytes(append(appendBytes(nil, "name"), 1), functions))
	}
	return append(out, a.custom...)
}

func (s *section) add(entry []byte) {
	s.count++
	s.body = append(s.body, entry...)
}

func (s *section) append(out []byte, id byte) []byte {
	if s.count == 0 {
		return out
	}
	return appendSection(out, id, append(appendUint(nil, s.count), s.body...))
}

func appendSection(out []byte, id byte, body []byte) []byte {
	return appendBytes(append(out, id), body)
}

func noMore(rest []*node) {
	if len(rest) > 0 {
		fail(rest[0].line, "unexpected %s", rest[0])
	}
}

// one returns the only argument of a field.
func one(f field) *node {
	if len(f.rest) != 1 {
		fail(f.line, "(%s ...) takes one argument", f.what)
	}
	return f.rest[0]
}

func text(n *node) string {
	if n.kind != str {
		fail(n.line, "want a string, not %s", n)
	}
	return n.text
}

func texts(nodes []*node) []byte {
	var b bytes.Buffer
	for _, n := range nodes {
		b.WriteString(text(n))
	}
	return b.Bytes()
}

// String is how errors show a node.
func (n *node) String() string {
	switch n.kind {
	case list:
		return fmt.Sprintf("(%s ...)", n.head())
	case str:
		return fmt.Sprintf("%q", n.text)
	}
	return n.text
}
