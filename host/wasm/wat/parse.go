package wat

import (
	"strings"
	"unicode/utf8"
)

// maxDepth bounds the nesting of parentheses, since the assembler recurses over them.
const maxDepth = 1000

// node is an atom, a string or a parenthesised list.
type node struct {
	line int
	kind kind
	text string // atom: as written; string: the octets it stands for
	list []*node
}

type kind uint8

const (
	atom kind = iota
	str
	list
)

// head returns the first atom of a list, which says what the list is, or "".
func (n *node) head() string {
	if n.kind == list && len(n.list) > 0 && n.list[0].kind == atom {
		return n.list[0].text
	}
	return ""
}

func (n *node) isName() bool { return n.kind == atom && strings.HasPrefix(n.text, "$") }

// parse reads the whole source into trees.
func parse(src string) []*node {
	r := &reader{src: src, line: 1}
	var stack []*node
	root := &node{kind: list}
	top := root
	for {
		c, ok := r.skip()
		if !ok {
			break
		}
		switch c {
		case '(':
			n := &node{line: r.line, kind: list}
			top.list = append(top.list, n)
			if stack = append(stack, top); len(stack) > maxDepth {
				fail(r.line, "more than %d nested parentheses", maxDepth)
			}
			top = n
			r.pos++
		case ')':
			if len(stack) == 0 {
				fail(r.line, "unexpected )")
			}
			top, stack = stack[len(stack)-1], stack[:len(stack)-1]
			r.pos++
		case '"':
			top.list = append(top.list, &node{line: r.line, kind: str, text: r.string()})
		default:
			top.list = append(top.list, &node{line: r.line, kind: atom, text: r.atom()})
		}
	}
	if len(stack) > 0 {
		fail(top.line, "( is never closed")
	}
	return root.list
}

// reader is the lexer's place in the source.
type reader struct {
	src  string
	pos  int
	line int
}

// skip passes white space and comments, and returns the octet after them.
func (r *reader) skip() (c byte, ok bool) {
	for r.pos < len(r.src) {
		switch rest := r.src[r.pos:]; {
		case rest[0] == '\n':
			r.line++
			r.pos++
		case rest[0] == ' ' || rest[0] == '\t' || rest[0] == '\r':
			r.pos++
		case strings.HasPrefix(rest, ";;"):
			if end := strings.IndexByte(rest, '\n'); end >= 0 {
				r.pos += end
			} else {
				r.pos = len(r.src)
			}
		case strings.HasPrefix(rest, "(;"):
			r.blockComment()
		default:
			return rest[0], true
		}
	}
	return 0, false
}

// blockComment passes a (; comment ;), which may contain others.
func (r *reader) blockComment() {
	start, depth := r.line, 0
	for r.pos < len(r.src) {
		switch rest := r.src[r.pos:]; {
		case strings.HasPrefix(rest, "(;"):
			depth++
			r.pos += 2
		case strings.HasPrefix(rest, ";)"):
			r.pos += 2
			if depth--; depth == 0 {
				return
			}
		default:
			if rest[0] == '\n' {
				r.line++
			}
			r.pos++
		}
	}
	fail(start, "(; is never closed")
}

func (r *reader) atom() string {
	start := r.pos
	for r.pos < len(r.src) && !strings.ContainsRune(" \t\r\n()\";", rune(r.src[r.pos])) {
		r.pos++
	}
	if r.pos == start {
		fail(r.line, "unexpected %q", r.src[r.pos])
	}
	return r.src[start:r.pos]
}

func (r *reader) string() string {
	var b strings.Builder
	for r.pos++; r.pos < len(r.src); r.pos++ {
		switch c := r.src[r.pos]; c {
		case '"':
			r.pos++
			return b.String()
		case '\n':
			fail(r.line, "string is never closed")
		case '\\':
			r.pos++
			r.escape(&b)
		default:
			b.WriteByte(c)
		}
	}
	fail(r.line, "string is never closed")
	return ""
}

// escape reads what follows a backslash and leaves the position on its last octet.
func (r *reader) escape(b *strings.Builder) {
	rest := r.src[r.pos:]
	if len(rest) >= 2 && hexDigit(rest[0]) >= 0 && hexDigit(rest[1]) >= 0 {
		b.WriteByte(byte(hexDigit(rest[0])<<4 | hexDigit(rest[1])))
		r.pos++
		return
	}
	if rest == "" {
		fail(r.line, "string is never closed")
	}
	switch rest[0] {
	case 't':
		b.WriteByte('\t')
	case 'n':
		b.WriteByte('\n')
	case 'r':
		b.WriteByte('\r')
	case '"', '\'', '\\':
		b.WriteByte(rest[0])
	case 'u':
		end := strings.IndexByte(rest, '}')
		if len(rest) < 2 || rest[1] != '{' || end < 0 {
			fail(r.line, `want \u{...} with hexadecimal digits`)
		}
		var code rune
		for _, c := range []byte(rest[2:end]) {
			d := hexDigit(c)
			if code = code<<4 | rune(d); d < 0 || !utf8.ValidRune(code) {
				fail(r.line, "%s is not a Unicode scalar value", rest[:end+1])
			}
		}
		b.WriteRune(code)
		r.pos += end
	default:
		fail(r.line, `unknown escape \%c`, rest[0])
	}
}

func hexDigit(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c - 'a' + 10)
	case 'A' <= c && c <= 'F':
		return int(c - 'A' + 10)
	}
	return -1
}
