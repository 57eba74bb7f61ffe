package wasm

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/weirdns/weir/abi"
	"github.com/weirdns/weir/host/wasm/opcode"
)

// Bounds of a module, abi/README.md section 9. What costs memory for each instance, or time to compile, is counted before the engine
// sees it. The largest module that comes with weir has less than a tenth of each.
const (
	maxModule    = 16 << 20
	maxFunctions = 65_536
	maxTypes     = 10_000
	maxImports   = 1_000
	maxExports   = 10_000
	maxGlobals   = 10_000
	maxTables    = 16
	maxSegments  = 100_000
	maxElements  = 1_000_000 // of all tables together, and in all segments: 8 octets each
	maxBody      = 2 << 20   // octets of one function
	maxNames     = 200       // octets of the name of an import or export

	// maxWork bounds parameters and locals times blocks of one function, which is what wazero's compiler spends time and memory on: a
	// function of 151 KB with 3,333 locals and 10,000 blocks, 33 million, took 93 s and 3.5 GB.
	maxWork = 4_000_000
)

// module is what the host needs to know of a module before it runs.
type module struct {
	imports   map[string]bool // functions of the host module
	imported  []imported      // all of them, in their order
	exports   map[string]export
	tables    int
	functions []string // their signatures, imported ones first
	hasMemory bool
	pages     uint32 // of memory, at first
	elements  int    // in segments
}

type imported struct{ module, name, signature string }

type export struct {
	kind      byte
	signature string
}

var valueTypes = map[byte]byte{0x7F: 'i', 0x7E: 'I', 0x7D: 'f', 0x7C: 'F', 0x7B: 'v', 0x70: 'r', 0x6F: 'r', 0x69: 'r'}

// admission is what a module is checked for.
type admission struct {
	pages   uint32 // the filter's limit
	bodies  bool   // look into functions: not for modules that came with weir
	skipped defence
}

// admit checks a module's shape. It is linear in the size of the module, which it does not keep.
func (a admission) admit(b []byte) (*module, error) {
	if len(b) > maxModule {
		return nil, fmt.Errorf("has %d octets: at most %d (16 MiB) are allowed", len(b), maxModule)
	}
	if len(b) < 8 || string(b[:8]) != "\x00asm\x01\x00\x00\x00" {
		return nil, errors.New("is not a WebAssembly module of version 1")
	}
	m := &module{imports: make(map[string]bool), exports: make(map[string]export)}
	var types []string
	o := octets{b: b[8:]}
	for len(o.b) > 0 {
		id := o.octet()
		s := octets{b: o.vector()}
		if o.err != nil {
			return nil, fmt.Errorf("section %d %w", id, o.err)
		}
		err := m.section(a, id, &s, &types)
		if err == nil {
			err = s.err
		}
		if err != nil {
			return nil, fmt.Errorf("section %d %w", id, err)
		}
	}
	return m, m.check(a)
}

func (m *module) section(a admission, id byte, s *octets, types *[]string) error {
	each := func(what string, most int, entry func() error) error {
		n, err := s.count(what, most)
		for i := 0; i < n && err == nil; i++ {
			if err = entry(); err == nil && s.err != nil {
				err = s.err
			}
		}
		return err
	}
	signature := func(t uint32) string {
		if int64(t) >= int64(len(*types)) {
			return "?"
		}
		return (*types)[t]
	}
	switch id {
	case sectionType:
		return each("types", maxTypes, func() error {
			if form := s.octet(); form != 0x60 {
				return fmt.Errorf("has a type of the unknown form %#x", form)
			}
			*types = append(*types, letters(s.vector())+":"+letters(s.vector()))
			return nil
		})
	case sectionImport:
		return each("imports", maxImports, func() error {
			from, name, kind := string(s.vector()), string(s.vector()), s.octet()
			if kind != kindFunction {
				return fmt.Errorf("imports %s from %s, which is not a function: a filter has its own memory, tables and globals", quote(name), quote(from))
			}
			sig := signature(s.number())
			m.functions = append(m.functions, sig)
			m.imported = append(m.imported, imported{from, name, sig})
			if s.err != nil || a.skipped&offImports != 0 {
				return s.err
			}
			return m.allowed(from, name, sig)
		})
	case sectionFunction:
		return each("functions", maxFunctions, func() error {
			m.functions = append(m.functions, signature(s.number()))
			return nil
		})
	case sectionTable:
		return each("tables", maxTables, func() error {
			s.octet()
			s.limits()
			m.tables++
			return nil
		})
	case sectionMemory:
		return each("memories", 1, func() error {
			m.hasMemory, m.pages = true, s.limits()
			return nil
		})
	case sectionGlobal:
		return each("globals", maxGlobals, func() error {
			s.take(2)
			s.constant()
			return nil
		})
	case sectionExport:
		return each("exports", maxExports, func() error {
			name, kind, index := s.vector(), s.octet(), s.number()
			if len(name) > maxNames {
				return fmt.Errorf("has an export with a name of %d octets: at most %d are allowed", len(name), maxNames)
			}
			e := export{kind: kind}
			if kind == kindFunction && int64(index) < int64(len(m.functions)) {
				e.signature = m.functions[index]
			}
			m.exports[string(name)] = e
			return nil
		})
	case sectionElement:
		return each("segments", maxSegments, func() error { return m.element(s) })
	case sectionCode:
		if !a.bodies {
			return nil
		}
		f := 0
		return each("functions", maxFunctions, func() error {
			f++
			if err := a.body(s.vector()); err != nil {
				return fmt.Errorf("function %d %w", f-1, err)
			}
			return nil
		})
	case sectionData:
		_, err := s.count("segments", maxSegments)
		return err
	}
	return nil
}

func letters(b []byte) string {
	out := make([]byte, len(b))
	for i, t := range b {
		if out[i] = valueTypes[t]; out[i] == 0 {
			out[i] = '?'
		}
	}
	return string(out)
}

// element counts the elements of a segment, which each instance keeps.
func (m *module) element(s *octets) error {
	flags := s.number()
	if flags&1 == 0 {
		if flags&2 != 0 {
			s.number()
		}
		s.constant()
	}
	if flags&3 != 0 {
		s.octet()
	}
	n, err := s.count("elements", maxElements)
	if err != nil {
		return err
	}
	if m.elements += n; m.elements > maxElements {
		return fmt.Errorf("has more than %d elements in its segments", maxElements)
	}
	for range n {
		if flags&4 != 0 {
			s.constant()
		} else {
			s.number()
		}
		if s.err != nil {
			return s.err
		}
	}
	return nil
}

// body bounds what compiling one function costs.
func (a admission) body(b []byte) error {
	if len(b) > maxBody {
		return fmt.Errorf("has %d octets of code: at most %d are allowed", len(b), maxBody)
	}
	o := octets{b: b}
	groups, err := o.count("groups of locals", maxFunctions)
	if err != nil {
		return err
	}
	locals := uint64(0)
	for range groups {
		locals += uint64(o.number())
		o.octet()
	}
	blocks := uint64(0)
	for len(o.b) > 0 {
		code, ok := o.instruction()
		if !ok {
			return o.err
		}
		switch code {
		case opcode.Block, opcode.Loop, opcode.If, opcode.Else, opcode.BrIf, opcode.BrTable, opcode.TryTable:
			blocks++
		}
	}
	if work := (locals + 1) * (blocks + 1); work > maxWork && a.skipped&offWork == 0 {
		return fmt.Errorf("has %d locals and %d blocks, which would take too long to compile: their product may be %d", locals, blocks, maxWork)
	}
	return o.err
}

// allowed checks an import against what the host offers.
func (m *module) allowed(from, name, signature string) error {
	var want string
	var ok bool
	switch from {
	case abi.HostModule:
		want, ok = hostSignatures[name]
		m.imports[name] = true
	case wasiModule:
		want, ok = wasiSignatures[name]
	default:
		return fmt.Errorf("imports %s from %s: filters may import from %q and %q only", quote(name), quote(from), abi.HostModule, wasiModule)
	}
	if !ok {
		return fmt.Errorf("imports %s from %q, which has no such function in ABI %d", quote(name), from, abi.Version)
	}
	if signature != want {
		return fmt.Errorf("imports %s from %q as %s: it is %s", quote(name), from, describe(signature), describe(want))
	}
	return nil
}

var versionExport = regexp.MustCompile(`^weir_abi_[0-9]+$`)

// check looks at what a module is as a filter: abi/README.md section 1.
func (m *module) check(a admission) error {
	var other []string
	for name := range m.exports {
		if versionExport.MatchString(name) && name != abi.Export {
			other = append(other, strings.TrimPrefix(name, abi.ExportPrefix))
		}
	}
	slices.Sort(other)
	_, has := m.exports[abi.Export]
	switch {
	case !has && len(other) > 0:
		return fmt.Errorf("is built for ABI %s, this weir serves ABI %d: build it again with an SDK for ABI %[2]d, or use a weir that serves ABI %[1]s",
			other[0], abi.Version)
	case !has:
		return fmt.Errorf("does not export %s: is it a filter for weir?", abi.Export)
	case len(other) > 0:
		return fmt.Errorf("exports both %s and %s%s: a filter is built for one ABI", abi.Export, abi.ExportPrefix, other[0])
	}
	for name, want := range map[string]string{
		abi.Export: ":i", "_initialize": ":", abi.ExportConfigure: "i:I", abi.ExportQuery: ":I", abi.ExportResponse: ":I",
	} {
		if e, ok := m.exports[name]; ok && (e.kind != kindFunction || e.signature != want) {
			got := "something else than a function"
			if e.kind == kindFunction {
				got = describe(e.signature)
			}
			return fmt.Errorf("exports %s as %s: it has to be %s", name, got, describe(want))
		}
	}
	_, query := m.exports[abi.ExportQuery]
	_, response := m.exports[abi.ExportResponse]
	if !query && !response {
		return fmt.Errorf("exports neither %s nor %s: it would never be called", abi.ExportQuery, abi.ExportResponse)
	}
	if e, ok := m.exports["memory"]; !ok || e.kind != kindMemory || !m.hasMemory {
		return errors.New("does not export its memory as \"memory\"")
	}
	if _, ok := m.exports["_start"]; ok {
		return errors.New("is a WASI command: build a reactor, with stock Go by -buildmode=c-shared")
	}
	if m.pages > a.pages && a.skipped&offMemory == 0 {
		return fmt.Errorf("needs %d KiB of memory at once: the limit of this filter is %d KiB, raise memory", uint64(m.pages)*64, uint64(a.pages)*64)
	}
	return nil
}

// describe writes a signature as WAT does.
func describe(signature string) string {
	names := map[rune]string{'i': "i32", 'I': "i64", 'f': "f32", 'F': "f64", 'v': "v128", 'r': "a reference", '?': "unknown"}
	part := func(s string) string {
		out := make([]string, 0, len(s))
		for _, c := range s {
			out = append(out, names[c])
		}
		return "(" + strings.Join(out, ", ") + ")"
	}
	params, results, _ := strings.Cut(signature, ":")
	return part(params) + " -> " + part(results)
}

// quote makes a name from a module fit for a message.
func quote(name string) string {
	if len(name) > 64 {
		name = name[:64] + "..."
	}
	return strconv.QuoteToASCII(name)
}
