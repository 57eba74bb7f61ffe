package config

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// Bounds of a file. Data sets belong into tables, which are read from files of their own.
const (
	maxFileSize = 16 << 20
	maxValues   = 1_000_000
	maxDepth    = 32 // tables and arrays in one another
)

// place is where a table, a key or an element of an array is in the file.
//
// Positions are of no interest to TOML libraries: they give values, or the position of the one error that they stop at. So the file is read
// a second time, for its places only.
type place struct {
	line, column int    // from 1, the column in octets
	env          string // the environment variable that set it; line and column are 0 then
	defined      bool   // by a header or a value, not only as a part of a longer key
	keys         map[string]*place
	elems        []*place
}

// find returns the place of the longest part of the path that exists.
func (p *place) find(path string) *place {
	for _, s := range parsePath(path) {
		var next *place
		switch {
		case s.index < 0:
			next = p.keys[s.key]
		case s.index < len(p.elems):
			next = p.elems[s.index]
		}
		if next == nil {
			return p
		}
		p = next
	}
	return p
}

// names returns the keys of a table in the order of the file.
func (p *place) names() []string {
	names := make([]string, 0, len(p.keys))
	for name := range p.keys {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		x, y := p.keys[a], p.keys[b]
		if x.line != y.line {
			return x.line - y.line
		}
		if x.column != y.column {
			return x.column - y.column
		}
		return strings.Compare(a, b)
	})
	return names
}

// override makes the place at path, and all below it, the environment variable.
func (p *place) override(path, variable string) {
	for _, s := range parsePath(path) {
		p = p.child(s, variable)
	}
	*p = place{env: variable, defined: true}
}

func (p *place) child(s step, variable string) *place {
	if s.index >= 0 {
		for len(p.elems) <= s.index {
			p.elems = append(p.elems, &place{env: variable})
		}
		return p.elems[s.index]
	}
	if p.keys == nil {
		p.keys = make(map[string]*place)
	}
	if p.keys[s.key] == nil {
		p.keys[s.key] = &place{env: variable}
	}
	return p.keys[s.key]
}

// survey finds the places of a TOML document.
type survey struct {
	name   string
	data   []byte
	lines  []int // the offset at which each line begins
	parser unstable.Parser
	cursor int // the end of the last key or value that was seen
	values int
	errs   Errors
}

var errTooMuch = errors.New("too much")

// newSurvey reads the document. It stops at the first error of syntax, and goes on after keys that are there twice.
func newSurvey(name string, data []byte) (*place, Errors) {
	s := &survey{name: name, data: data, lines: lineStarts(data)}
	root := &place{line: 1, column: 1, defined: true}
	s.parser.Reset(data)
	current, path := root, ""
	for s.parser.NextExpression() {
		var err error
		switch e := s.parser.Expression(); e.Kind {
		case unstable.Table, unstable.ArrayTable:
			current, path, err = s.header(root, e)
		case unstable.KeyValue:
			err = s.keyValue(current, path, e, strings.Count(path, ".")+1)
		}
		if err != nil {
			return root, s.errs
		}
	}
	if err := s.parser.Error(); err != nil {
		s.syntax(err)
	}
	return root, s.errs
}

func lineStarts(data []byte) []int {
	starts := []int{0}
	for i, c := range data {
		if c == '\n' {
			starts = append(starts, i+1)
		}
	}
	return starts
}

// header enters the table or array of tables of a header.
func (s *survey) header(root *place, e *unstable.Node) (*place, string, error) {
	p, path, depth := root, "", 0
	for it := e.Key(); it.Next(); {
		n := it.Node()
		s.cursor = end(n)
		if depth++; depth > maxDepth {
			return nil, "", s.tooDeep(n.Raw)
		}
		if len(p.elems) > 0 { // the header of a table in the last element of an array of tables
			path = joinIndex(path, len(p.elems)-1)
			p = p.elems[len(p.elems)-1]
		}
		path = joinKey(path, string(n.Data))
		p = s.key(p, n)
		if n.Next() != nil {
			continue
		}
		if err := s.count(n.Raw); err != nil {
			return nil, "", err
		}
		if e.Kind == unstable.ArrayTable {
			elem := s.place(n.Raw)
			elem.defined = true
			p.elems = append(p.elems, elem)
			return elem, joinIndex(path, len(p.elems)-1), nil
		}
		if len(p.elems) > 0 {
			s.add(n.Raw, path, fmt.Sprintf("is a list of tables since line %d: write [[%s]], with two brackets", p.line, path))
		} else if p.defined {
			s.add(n.Raw, path, fmt.Sprintf("is there twice, first in line %d: put all of its keys under one [%s]", p.line, path))
		}
		if !p.defined { // until now it was only a part of longer headers, and this one is its real place
			at := s.place(n.Raw)
			p.line, p.column, p.defined = at.line, at.column, true
		}
	}
	return p, path, nil
}

// keyValue enters a key and its value below the table p.
func (s *survey) keyValue(p *place, path string, e *unstable.Node, depth int) error {
	for it := e.Key(); it.Next(); {
		n := it.Node()
		s.cursor = end(n)
		if depth++; depth > maxDepth {
			return s.tooDeep(n.Raw)
		}
		path = joinKey(path, string(n.Data))
		p = s.key(p, n)
		if n.Next() == nil && p.defined {
			s.add(n.Raw, path, fmt.Sprintf("is there twice, first in line %d: delete one of them", p.line))
		}
	}
	p.defined = true
	return s.value(p, path, e.Value(), depth)
}

// value enters what is in an array or an inline table.
func (s *survey) value(p *place, path string, v *unstable.Node, depth int) error {
	if err := s.count(v.Raw); err != nil {
		return err
	}
	switch v.Kind {
	case unstable.InlineTable:
		if depth > maxDepth {
			return s.tooDeep(v.Raw)
		}
		s.cursor = end(v)
		for it := v.Children(); it.Next(); {
			if err := s.keyValue(p, path, it.Node(), depth); err != nil {
				return err
			}
		}
		s.skipTo('}')
	case unstable.Array:
		if depth++; depth > maxDepth {
			return s.tooDeep(v.Raw)
		}
		s.skipTo('[')
		for it := v.Children(); it.Next(); {
			n := it.Node()
			raw := n.Raw
			if n.Kind == unstable.Array { // the parser doesn't say where; it is the next bracket
				raw.Offset = uint32(s.next('['))
			}
			elem := s.place(raw)
			elem.defined = true
			p.elems = append(p.elems, elem)
			if err := s.value(elem, joinIndex(path, len(p.elems)-1), n, depth); err != nil {
				return err
			}
		}
		s.skipTo(']')
	default:
		s.cursor = end(v)
	}
	return nil
}

// key returns the place of a key of table p, which is made if there is none.
func (s *survey) key(p *place, n *unstable.Node) *place {
	next := p.keys[string(n.Data)]
	if next == nil {
		next = s.place(n.Raw)
		if p.keys == nil {
			p.keys = make(map[string]*place)
		}
		p.keys[string(n.Data)] = next
	}
	return next
}

func end(n *unstable.Node) int { return int(n.Raw.Offset + n.Raw.Length) }

// next returns the offset of the next bracket, which only punctuation, white space and comments are before.
func (s *survey) next(bracket byte) int {
	for i := s.cursor; i < len(s.data); i++ {
		switch s.data[i] {
		case bracket:
			return i
		case '#':
			if n := bytes.IndexByte(s.data[i:], '\n'); n >= 0 {
				i += n
			}
		}
	}
	return s.cursor
}

func (s *survey) skipTo(bracket byte) { s.cursor = s.next(bracket) + 1 }

func (s *survey) place(r unstable.Range) *place {
	line, column := s.position(int(r.Offset))
	return &place{line: line, column: column}
}

func (s *survey) position(offset int) (line, column int) {
	i, exact := slices.BinarySearch(s.lines, offset)
	if !exact {
		i--
	}
	return i + 1, offset - s.lines[i] + 1
}

func (s *survey) add(r unstable.Range, key, text string) {
	line, column := s.position(int(r.Offset))
	s.errs = append(s.errs, Error{fmt.Sprintf("%s:%d", s.name, line), line, column, key, text})
}

func (s *survey) count(r unstable.Range) error {
	if s.values++; s.values > maxValues {
		s.add(r, "", fmt.Sprintf("the file has more than %d values: put large lists into a [table.NAME]", maxValues))
		return errTooMuch
	}
	return nil
}

func (s *survey) tooDeep(r unstable.Range) error {
	s.add(r, "", fmt.Sprintf("tables and arrays are nested more than %d levels deep", maxDepth))
	return errTooMuch
}

// syntax adds an error of the parser.
func (s *survey) syntax(err error) {
	offset, text := len(s.data), err.Error()
	if perr, ok := errors.AsType[*unstable.ParserError](err); ok {
		offset, text = int(s.parser.Range(perr.Highlight).Offset), perr.Message
	}
	s.errs = append(s.errs, s.broken(offset, text))
}

// broken is an error of syntax at an offset.
func (s *survey) broken(offset int, text string) Error {
	line, column := s.position(offset)
	text = plainWords.Replace(codepoint.ReplaceAllString(text, "$1"))
	return Error{fmt.Sprintf("%s:%d:%d", s.name, line, column), line, column, "", text + s.hint(offset)}
}

// plainWords says what is expected where the parser says what is wrong.
var plainWords = strings.NewReplacer(
	"expected newline", "expected the end of the line",
	"expected value, not end of input", "expected a value",
	"unexpected character U+000A at start of value", "expected a value",
	"basic strings cannot have new lines", `expected a closing " before the end of the line`,
	"literal strings cannot have new lines", "expected a closing ' before the end of the line",
	"unterminated basic string", `expected a closing " before the end of the line`,
	"unterminated literal string", "expected a closing ' before the end of the line",
	"array is incomplete", "expected ] at the end of the list",
	"inline table is incomplete", "expected } at the end of the table",
	"invalid escape character", `write \\ for \, or put the string in single quotes: \ does not go with`,
)

// codepoint is how the parser writes characters: U+002E '.'.
var codepoint = regexp.MustCompile(`U\+[0-9A-F]{4,6} ('.')`)

// hint says what is most often behind an error of syntax in a value: a text without quotes.
func (s *survey) hint(offset int) string {
	line, _ := s.position(offset)
	start := s.lines[line-1]
	text := s.data[start:]
	if line < len(s.lines) {
		text = s.data[start:s.lines[line]]
	}
	key, value, _ := strings.Cut(string(text), "=")
	value, _, _ = strings.Cut(value, "#")
	value = strings.TrimSpace(value)
	if offset <= start+len(key) || value == "" || len(value) > 100 || strings.ContainsAny(value, "\"'[]{}=,\x00") || strings.Trim(value, "0123456789+-_") == "" {
		return ""
	}
	return fmt.Sprintf(": a text has to be in quotes, as in %q", value)
}
