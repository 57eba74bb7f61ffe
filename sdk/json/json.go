// Package json reads a JSON document (RFC 8259) value by value, in the order of the document. It is strict, keeps track of
// where it is, collects what is wrong instead of stopping at it, and is small: encoding/json, with reflect and fmt, would
// make a stock Go guest half a megabyte bigger, and each instance start later.
//
// It is made for configuration, so it is not made for speed, and it is not a general decoder: there are no struct tags.
//
//	for key := range r.Object() {
//		switch key {
//		case "zone":
//			zone = r.String()
//		case "servers":
//			for range r.Array() {
//				servers = append(servers, r.String())
//			}
//		default:
//			r.Unknown()
//		}
//	}
//
// What the body of a loop does not read is skipped. A value of another kind than the one that is asked for is noted as a
// mistake, skipped, and read as the zero value, so a caller goes on and looks at [Reader.Mistakes] once, at the end.
package json

import (
	"iter"
	"strconv"
	"unicode/utf8"
)

// Kind is the kind of a JSON value.
type Kind uint8

// The kinds of values. Invalid is the kind behind the end, and after a syntax error.
const (
	Invalid Kind = iota
	Null
	Bool
	Number
	String
	Array
	Object
)

// maxDepth bounds the nesting of arrays and objects, and so the stack.
const maxDepth = 64

// Mistake is something wrong with the document.
type Mistake struct {
	Path string // where: rule[3].zone; empty for the document itself
	Text string // what is wrong, and what would be right
}

// Reader reads one document. It is not safe for concurrent use.
type Reader struct {
	data     []byte
	pos      int
	path     []segment
	mistakes []Mistake
	failed   bool   // after a syntax error nothing can be read
	buffer   []byte // of strings with escapes
}

// A segment of the path: a key, or an index if key is nil.
type segment struct {
	key   []byte
	index int
}

// NewReader returns a reader of document, which is not copied and must not change as long as the reader is used.
func NewReader(document []byte) *Reader {
	r := &Reader{data: document}
	r.space()
	return r
}

// End notes a mistake if anything but white space follows. It is called when the outermost value has been read.
func (r *Reader) End() {
	if !r.failed && r.pos != len(r.data) {
		r.syntax("something follows the end of the document")
	}
}

// Mistakes returns what was wrong so far, nil when nothing was.
func (r *Reader) Mistakes() []Mistake { return r.mistakes }

// Mistake notes that the value that is or was just read is wrong, for a reason that the caller knows.
func (r *Reader) Mistake(text string) { r.MistakeAt(r.Path(), text) }

// MistakeAt is Mistake for another place of the document.
func (r *Reader) MistakeAt(path, text string) {
	r.mistakes = append(r.mistakes, Mistake{path, text})
}

// Unknown notes that the key that the loop over [Reader.Object] is at is not one that the caller knows.
func (r *Reader) Unknown() { r.Mistake("there is no such key") }

// Path returns where the reader is: rule[3].zone.
func (r *Reader) Path() string {
	var b []byte
	for i, s := range r.path {
		switch {
		case s.key == nil:
			b = append(b, '[')
			b = strconv.AppendInt(b, int64(s.index), 10)
			b = append(b, ']')
		case i > 0:
			b = append(b, '.')
			fallthrough
		default:
			b = append(b, s.key...)
		}
	}
	return string(b)
}

// Offset returns how many octets of the document are behind the reader.
func (r *Reader) Offset() int { return r.pos }

// Kind returns the kind of the next value without reading it.
func (r *Reader) Kind() Kind {
	if r.failed || r.pos >= len(r.data) {
		return Invalid
	}
	switch c := r.data[r.pos]; {
	case c == '{':
		return Object
	case c == '[':
		return Array
	case c == '"':
		return String
	case c == 't', c == 'f':
		return Bool
	case c == 'n':
		return Null
	case c == '-', c >= '0' && c <= '9':
		return Number
	}
	return Invalid
}

// Object reads an object and yields its keys; the body reads the value.
func (r *Reader) Object() iter.Seq[string] {
	return func(yield func(string) bool) {
		if !r.open(Object, '{', "a table") {
			return
		}
		live := true
		for first := true; ; first = false {
			if r.peek() == '}' && first {
				break
			}
			if r.peek() != '"' {
				r.syntax("want a key in double quotes")
				return
			}
			key := append([]byte{}, r.text()...)
			if !r.expect(':') {
				return
			}
			r.path = append(r.path, segment{key: key})
			live = r.element(live, func() bool { return yield(string(key)) })
			if r.failed || !r.more('}') {
				break
			}
		}
		r.expect('}')
	}
}

// Array reads an array and yields the indexes of its elements; the body reads the element.
func (r *Reader) Array() iter.Seq[int] {
	return func(yield func(int) bool) {
		if !r.open(Array, '[', "a list") {
			return
		}
		live := true
		for i := 0; ; i++ {
			if r.peek() == ']' && i == 0 {
				break
			}
			r.path = append(r.path, segment{index: i})
			live = r.element(live, func() bool { return yield(i) })
			if r.failed || !r.more(']') {
				break
			}
		}
		r.expect(']')
	}
}

// element has the body of a loop read one element, and reads what it left. It reports whether the loop goes on.
func (r *Reader) element(live bool, yield func() bool) bool {
	before := r.pos
	if live {
		live = yield()
	}
	if !r.failed && r.pos == before {
		r.Skip()
	}
	r.path = r.path[:len(r.path)-1]
	return live
}

// open reads the opening delimiter of an object or array.
func (r *Reader) open(want Kind, delimiter byte, what string) bool {
	if !r.want(want, what) {
		return false
	}
	if len(r.path) >= maxDepth {
		r.syntax("is nested too deep")
		return false
	}
	return r.expect(delimiter)
}

// more reads a comma, and reports false in front of the closing delimiter.
func (r *Reader) more(closing byte) bool {
	if r.peek() == closing {
		return false
	}
	return r.expect(',')
}

// String reads a string.
func (r *Reader) String() string { return string(r.Text()) }

// Text reads a string as octets. They are valid until the next string is read, and are not for writing.
func (r *Reader) Text() []byte {
	if !r.want(String, "a string") {
		return nil
	}
	return r.text()
}

// Bool reads true or false.
func (r *Reader) Bool() bool {
	if !r.want(Bool, "true or false") {
		return false
	}
	if r.data[r.pos] == 't' {
		return r.literal("true")
	}
	r.literal("false")
	return false
}

// Int reads a number without fraction from min to max.
func (r *Reader) Int(min, max int64) int64 {
	what := "a whole number from " + strconv.FormatInt(min, 10) + " to " + strconv.FormatInt(max, 10)
	if !r.want(Number, what) {
		return 0
	}
	n, err := strconv.ParseInt(r.number(), 10, 64)
	if !r.failed && (err != nil || n < min || n > max) {
		r.Mistake("want " + what)
		return 0
	}
	return n
}

// Float reads a number.
func (r *Reader) Float() float64 {
	if !r.want(Number, "a number") {
		return 0
	}
	f, err := strconv.ParseFloat(r.number(), 64)
	if !r.failed && err != nil {
		r.Mistake("want a number that fits into 64 bits")
		return 0
	}
	return f
}

// Skip reads one value of any kind.
func (r *Reader) Skip() {
	switch r.Kind() {
	case Object:
		for range r.Object() {
			r.Skip()
		}
	case Array:
		for range r.Array() {
			r.Skip()
		}
	case String:
		r.text()
	case Number:
		r.number()
	case Bool:
		r.Bool()
	case Null:
		r.literal("null")
	default:
		r.syntax("want a value")
	}
}

// want reports whether the next value is of a kind. If not, it is a mistake and is skipped.
func (r *Reader) want(k Kind, what string) bool {
	if r.failed {
		return false
	}
	got := r.Kind()
	if got == k {
		return true
	}
	if got != Invalid {
		r.Mistake("want " + what)
	}
	r.Skip()
	return false
}

// text reads a string; the reader is at its first quotation mark. RFC 8259 section 7.
func (r *Reader) text() []byte {
	r.pos++
	start := r.pos
	for ; r.pos < len(r.data); r.pos++ {
		switch c := r.data[r.pos]; {
		case c == '"':
			b := r.data[start:r.pos]
			r.pos++
			r.space()
			if !utf8.Valid(b) {
				r.syntax("string is not UTF-8")
				return nil
			}
			return b
		case c == '\\':
			return r.escaped(start)
		case c < ' ':
			r.syntax("control character in a string")
			return nil
		}
	}
	r.syntax("string has no end")
	return nil
}

// escaped is text for a string with escapes, from the first of them on.
func (r *Reader) escaped(start int) []byte {
	b := append(r.buffer[:0], r.data[start:r.pos]...)
	for r.pos < len(r.data) {
		c := r.data[r.pos]
		r.pos++
		switch {
		case c == '"':
			r.buffer = b
			r.space()
			if !utf8.Valid(b) {
				r.syntax("string is not UTF-8")
				return nil
			}
			return b
		case c < ' ':
			r.syntax("control character in a string")
			return nil
		case c != '\\':
			b = append(b, c)
			continue
		}
		switch r.peek() {
		case '"', '\\', '/':
			b = append(b, r.peek())
		case 'b':
			b = append(b, '\b')
		case 'f':
			b = append(b, '\f')
		case 'n':
			b = append(b, '\n')
		case 'r':
			b = append(b, '\r')
		case 't':
			b = append(b, '\t')
		case 'u':
			c, ok := r.unicode()
			if !ok {
				r.syntax("bad \\u in a string")
				return nil
			}
			b = utf8.AppendRune(b, c)
			continue
		default:
			r.syntax("bad escape in a string")
			return nil
		}
		r.pos++
	}
	r.syntax("string has no end")
	return nil
}

// unicode reads an escape; the reader is behind its backslash. Characters outside the basic plane are two escapes.
func (r *Reader) unicode() (rune, bool) {
	first, ok := r.hex()
	if !ok || first < 0xD800 || first > 0xDFFF {
		return first, ok
	}
	if first > 0xDBFF || r.peek() != '\\' {
		return 0, false
	}
	r.pos++
	second, ok := r.hex()
	if !ok || second < 0xDC00 || second > 0xDFFF {
		return 0, false
	}
	return (first-0xD800)<<10 + (second - 0xDC00) + 0x10000, true
}

// hex reads u and four hexadecimal digits.
func (r *Reader) hex() (rune, bool) {
	if r.peek() != 'u' || r.pos+5 > len(r.data) {
		return 0, false
	}
	n, err := strconv.ParseUint(string(r.data[r.pos+1:r.pos+5]), 16, 16)
	r.pos += 5
	return rune(n), err == nil
}

// number reads a number. RFC 8259 section 6.
func (r *Reader) number() string {
	start := r.pos
	if r.peek() == '-' {
		r.pos++
	}
	zero := r.peek() == '0'
	whole := r.digits()
	ok := whole == 1 || whole > 1 && !zero
	if r.peek() == '.' {
		r.pos++
		ok = r.digits() > 0 && ok
	}
	if c := r.peek(); c == 'e' || c == 'E' {
		r.pos++
		if c := r.peek(); c == '+' || c == '-' {
			r.pos++
		}
		ok = r.digits() > 0 && ok
	}
	s := string(r.data[start:r.pos])
	r.space()
	if !ok {
		r.syntax("bad number")
	}
	return s
}

// digits reads decimal digits and returns how many.
func (r *Reader) digits() int {
	start := r.pos
	for c := r.peek(); c >= '0' && c <= '9'; c = r.peek() {
		r.pos++
	}
	return r.pos - start
}

// literal reads true, false or null.
func (r *Reader) literal(s string) bool {
	if len(r.data)-r.pos < len(s) || string(r.data[r.pos:r.pos+len(s)]) != s {
		r.syntax("want " + s)
		return false
	}
	r.pos += len(s)
	r.space()
	return true
}

// expect reads one delimiter and the white space behind it.
func (r *Reader) expect(c byte) bool {
	if r.failed {
		return false
	}
	if r.peek() != c {
		r.syntax("want " + string(rune(c)))
		return false
	}
	r.pos++
	r.space()
	return true
}

// peek returns the next octet, 0 at the end.
func (r *Reader) peek() byte {
	if r.pos < len(r.data) {
		return r.data[r.pos]
	}
	return 0
}

// space skips white space.
func (r *Reader) space() {
	for ; r.pos < len(r.data); r.pos++ {
		switch r.data[r.pos] {
		case ' ', '\t', '\n', '\r':
		default:
			return
		}
	}
}

// syntax notes an error behind which nothing can be read.
func (r *Reader) syntax(text string) {
	if !r.failed {
		r.failed = true
		r.Mistake("not JSON at octet " + strconv.Itoa(r.pos) + ": " + text)
	}
}
