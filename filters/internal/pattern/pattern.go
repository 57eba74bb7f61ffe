// Package pattern matches names with regular expressions, within bounds: a call of a filter has a budget, and no name that a client makes up may use
// it up.
//
// The syntax is that of package regexp, whose parser does the work. The matching is done here, since that of regexp allocates with each match, and
// the garbage collection that comes of it takes four times the budget of a call:
//
//	Compile  expression ─► syntax.Prog ─► deterministic automaton      once, bounded
//	Match    a table look-up for each octet of the text                for each expression
//	Groups   a backtracker over syntax.Prog, as regexp has it          for the one that matched, if groups of it are used
//
// Loops have no calls in them, and index arrays whose sizes are powers of two: the compiler makes code for WebAssembly of that which is a
// fraction as long.
package pattern

import "regexp/syntax"

const (
	// maxText is how long the text of a name may be: that of a name without escapes has at most 254 octets.
	maxText = 255
	places  = maxText + 1
	// maxExpression and maxProgram bound an expression, in octets and instructions, and maxStates its automaton.
	maxExpression = 1000
	maxProgram    = 256
	maxStates     = 512
	// maxSteps bounds what the backtracker does for one name. A step takes some 250 units of fuel, of which a call has 1,000,000 by
	// default.
	maxSteps = 2048
	maxJobs  = 4096
	// MaxPatterns is how many expressions a filter may have: each takes up to 20,000 units for the longest names.
	MaxPatterns = 10
)

// Matcher matches names with all expressions of a filter. The zero value is ready for use.
type Matcher struct {
	text [places]byte
	size int  // of the text
	ok   bool // there is a text

	// Of the backtracker. What was visited in this run has the number of the run.
	visited [maxProgram * places]byte
	run     byte
	kinds   [places]byte
	jobs    [maxJobs]job
	groups  [maxProgram]int16
}

// Pattern is a regular expression.
type Pattern struct {
	program [maxProgram]instruction
	size    int // of the program
	start   uint16
	fixed   bool // matches at the beginning of the text only
	names   []string
	steps   int // that the backtracker takes at most

	// The automaton. Octets that no instruction tells apart are of one kind; one more kind stands for the end of the text.
	kinds [256]byte
	end   byte
	next  []uint16 // state << shift | kind to state; the length is a power of two
	shift uint
	first uint16
}

// instruction is one of [syntax.Inst]. A rune has become a set of kinds of octets.
type instruction struct {
	op       syntax.InstOp
	out, arg uint16
	kinds    uint64
}

// job is what the backtracker has to come back to: an instruction at a place of the text or, if slot is not 0, what a group was.
type job struct {
	pc    uint16
	pos   int16
	slot  uint16
	value int16
}

// Compile makes a pattern of an expression, which matches whatever the case of letters. groups says whether [Matcher.Group] will be called. If
// expression is none, wrong says what is wrong with it.
func Compile(expression string, groups bool) (p *Pattern, wrong string) {
	if len(expression) > maxExpression {
		return nil, "is longer than 1,000 octets"
	}
	re, err := syntax.Parse(expression, syntax.Perl|syntax.FoldCase)
	if err != nil {
		return nil, "is no regular expression: " + err.Error()
	}
	names := re.CapNames()
	program, err := syntax.Compile(re.Simplify())
	if err != nil {
		return nil, "is no regular expression: " + err.Error()
	}
	if len(program.Inst) > maxProgram {
		return nil, tooLarge
	}
	if n := len(expression); n > 1 && expression[n-1] == '$' && isAlphanumeric(expression[n-2]) && (n < 3 || expression[n-3] != '\\') {
		return nil, "never matches: the text of a name ends with a dot, so write \"\\.$\" at the end"
	}
	p = &Pattern{size: len(program.Inst), start: uint16(program.Start), names: names, fixed: program.StartCond()&syntax.EmptyBeginText != 0}
	if !p.build(program) {
		return nil, tooLarge
	}
	if groups && p.steps > maxSteps {
		return nil, "takes too long to find the groups for some names: begin it with \"^\", write [^.]* where .* is not meant, or name fewer groups"
	}
	return p, ""
}

const tooLarge = "is too large: write it shorter, without numbers such as in \"x{100}\""

func isAlphanumeric(c byte) bool {
	return c-'0' < 10 || c|0x20-'a' < 26
}

// SetName sets the name, in wire format, that [Matcher.Match] is about. It is matched as text, with the last dot and escapes as in
// sdk.AppendText.
func (m *Matcher) SetName(name []byte) {
	m.ok = true
	if len(name) < 3 || len(name) > maxText { // the root, or no name
		m.text[0], m.size = '.', 1
		m.pad(ends)
		return
	}
	// Nearly always the text is the name with dots in the place of lengths. To see whether it is, these are something plain at first.
	m.size = copy(m.text[:], name[1:])
	m.pad('-')
	m.separate(name, '-')
	special := byte(0)
	for i := 0; i < m.size; i += 8 {
		t := m.text[i&maxText&^7:]
		special |= isSpecial[t[0]] | isSpecial[t[1]] | isSpecial[t[2]] | isSpecial[t[3]] | isSpecial[t[4]] | isSpecial[t[5]] | isSpecial[t[6]] | isSpecial[t[7]]
	}
	if special != 0 {
		m.escape(name)
	} else {
		m.separate(name, '.')
	}
	m.pad(ends)
}

// ends stands for the end of the text, behind it.
const ends = 0xFF

// pad puts octets behind the text, one at least, up to a multiple of eight.
func (m *Matcher) pad(c byte) {
	for i := m.size; i <= m.size|7; i++ {
		m.text[i&maxText] = c
	}
}

// separate puts an octet behind each label.
func (m *Matcher) separate(name []byte, c byte) {
	for i := int(name[0]); i < m.size; i += 1 + int(name[i+1]) {
		m.text[i&maxText] = c
	}
}

// escape is SetName for a name in which some octets need a backslash.
func (m *Matcher) escape(name []byte) {
	at, left := 0, int(name[0])
	for _, c := range name[1:] {
		switch {
		case at+4 > maxText:
			m.ok = false
			return
		case left == 0:
			m.text[at] = '.'
			at, left = at+1, int(c)
			continue
		case isSpecial[c] == 0:
			m.text[at] = c
			at++
		case c > ' ' && c < 0x7f:
			m.text[at], m.text[at+1] = '\\', c
			at += 2
		default:
			m.text[at], m.text[at+1], m.text[at+2], m.text[at+3] = '\\', '0'+c/100, '0'+c/10%10, '0'+c%10
			at += 4
		}
		left--
	}
	m.size = at
}

// isSpecial is 1 for octets that are not written as they are.
var isSpecial = func() (special [256]byte) {
	for c := range special {
		switch c {
		case '.', '\\', '"', '(', ')', ';', '@', '$':
			special[c] = 1
		default:
			if c <= ' ' || c >= 0x7f {
				special[c] = 1
			}
		}
	}
	return special
}()

// Match reports whether the name matches. A text of more than 250 octets, as only a name with escapes has, never does.
func (m *Matcher) Match(p *Pattern) bool {
	if !m.ok {
		return false
	}
	next, shift, s := p.next, p.shift&15, uint(p.first)
	mask := uint(len(next) - 1)
	for i := 0; i <= m.size; i += 8 { // the end, read again and again, leads nowhere else
		t := m.text[i&maxText&^7:]
		s = uint(next[(s<<shift|uint(p.kinds[t[0]]))&mask])
		s = uint(next[(s<<shift|uint(p.kinds[t[1]]))&mask])
		s = uint(next[(s<<shift|uint(p.kinds[t[2]]))&mask])
		s = uint(next[(s<<shift|uint(p.kinds[t[3]]))&mask])
		s = uint(next[(s<<shift|uint(p.kinds[t[4]]))&mask])
		s = uint(next[(s<<shift|uint(p.kinds[t[5]]))&mask])
		s = uint(next[(s<<shift|uint(p.kinds[t[6]]))&mask])
		s = uint(next[(s<<shift|uint(p.kinds[t[7]]))&mask])
	}
	return s == accepted
}

// Find finds the groups of the name, which matched. The pattern was compiled with groups.
func (m *Matcher) Find(p *Pattern) {
	if m.run++; m.run == 0 {
		clear(m.visited[:])
		m.run = 1
	}
	for i, c := range m.text[:m.size+1] {
		m.kinds[i&maxText] = p.kinds[c]
	}
	for i := range 2 * len(p.names) {
		m.groups[i&(maxProgram-1)] = -1
	}
	for start := 0; start <= m.size; start++ {
		if m.groups[0] = int16(start); m.from(p, int16(start)) {
			return
		}
	}
}

// from looks for a match that begins at a place, as regexp does: what was visited from places before leads to none.
func (m *Matcher) from(p *Pattern, start int16) bool {
	pc, pos, jobs, run := p.start, start, 0, m.run
	for {
		at := (uint(pc)<<8 | uint(pos)&maxText) & (maxProgram*places - 1)
		if m.visited[at] != run {
			m.visited[at] = run
			in := &p.program[pc&(maxProgram-1)]
			pc = in.out
			switch in.op {
			case syntax.InstRune:
				if in.kinds>>(m.kinds[pos&maxText]&63)&1 != 0 { // the end is in no set
					pos++
					continue
				}
			case syntax.InstAlt, syntax.InstAltMatch:
				m.jobs[jobs&(maxJobs-1)] = job{pc: in.arg, pos: pos}
				jobs++
				continue
			case syntax.InstNop:
				continue
			case syntax.InstCapture:
				if slot := in.arg & (maxProgram - 1); slot > 1 { // 0 and 1 are the match itself
					m.jobs[jobs&(maxJobs-1)] = job{slot: slot, value: m.groups[slot]}
					jobs++
					m.groups[slot] = pos
				}
				continue
			case syntax.InstEmptyWidth:
				if m.holds(syntax.EmptyOp(in.arg), int(pos)) {
					continue
				}
			case syntax.InstMatch:
				m.groups[1] = pos
				return true
			}
		}
		for {
			if jobs == 0 {
				return false
			}
			jobs--
			j := &m.jobs[jobs&(maxJobs-1)]
			pc, pos = j.pc, j.pos
			if j.slot == 0 {
				break
			}
			m.groups[j.slot&(maxProgram-1)] = j.value
		}
	}
}

// holds reports whether a condition without width is fulfilled at a place.
func (m *Matcher) holds(op syntax.EmptyOp, pos int) bool {
	before, behind := rune(-1), rune(-1)
	if pos > 0 {
		before = rune(m.text[(pos-1)&maxText])
	}
	if pos < m.size {
		behind = rune(m.text[pos&maxText])
	}
	return op&^syntax.EmptyOpContext(before, behind) == 0
}

// Text returns the text of the name, nil if it is too long. It is valid until the name is set anew.
func (m *Matcher) Text() []byte {
	if !m.ok {
		return nil
	}
	return m.text[:m.size]
}

// Group returns what group i is that Find found, nil if it takes no part in the match. Group 0 is the match itself. It is valid until the name is
// set anew.
func (m *Matcher) Group(i int) []byte {
	from, to := m.groups[2*i], m.groups[2*i+1]
	if from < 0 || to < 0 {
		return nil
	}
	return m.text[from:to]
}

// Groups returns the number of groups, with group 0.
func (p *Pattern) Groups() int { return len(p.names) }

// Named returns the number of the group with a name.
func (p *Pattern) Named(name string) (i int, ok bool) {
	for i, n := range p.names {
		if n == name && n != "" {
			return i, true
		}
	}
	return 0, false
}
