package pattern

import "regexp/syntax"

// accepted is the state in which a match was found. All others have higher numbers.
const accepted = 0

// maxKinds is how many kinds of octets there may be, with the end: their sets have 64 bits.
const maxKinds = 64

// automaton is a deterministic automaton in the making.
//
// A state is what the octets so far have led to: the instructions that come next and, since conditions such as \b look back, the last octet.
// Conditions look ahead as well, so they are looked at with the next octet, of which each kind is tried.
type automaton struct {
	pattern *Pattern
	octets  []rune            // one of each kind; the last is the end, -1
	states  map[string]uint16 // numbers of the states
	pending []state
	largest int // number of instructions that were at one place
}

type state struct {
	set    []byte // 1 for each instruction that comes next
	before rune   // -1 at the beginning
	number uint16
}

// build makes the program and the automaton of a pattern. It is false if that is too large.
func (p *Pattern) build(program *syntax.Prog) bool {
	a := &automaton{pattern: p, states: make(map[string]uint16)}
	kinds := make(map[string]byte)
	for c := range rune(128) {
		kind := make([]byte, 0, maxProgram+1)
		for i := range program.Inst {
			kind = append(kind, '0')
			if in := &program.Inst[i]; isRune(in.Op) && in.MatchRune(c) {
				kind[i] = '1'
			}
		}
		kind = append(kind, byte(context(c)))
		number, ok := kinds[string(kind)]
		if !ok {
			number = byte(len(kinds))
			kinds[string(kind)] = number
			a.octets = append(a.octets, c)
		}
		p.kinds[c] = number
	}
	p.end = byte(len(a.octets))
	for c := 128; c < len(p.kinds); c++ {
		p.kinds[c] = p.end
	}
	a.octets = append(a.octets, -1)
	if len(a.octets) > maxKinds {
		return false
	}
	for i := range program.Inst {
		in, to := &program.Inst[i], &p.program[i]
		*to = instruction{op: in.Op, out: uint16(in.Out), arg: uint16(in.Arg)}
		if isRune(in.Op) {
			to.op = syntax.InstRune
			for kind, c := range a.octets[:p.end] {
				if in.MatchRune(c) {
					to.kinds |= 1 << kind
				}
			}
		}
	}
	for 1<<p.shift < len(a.octets) {
		p.shift++
	}
	return a.build()
}

func isRune(op syntax.InstOp) bool {
	switch op {
	case syntax.InstRune, syntax.InstRune1, syntax.InstRuneAny, syntax.InstRuneAnyNotNL:
		return true
	}
	return false
}

// context returns what matters of an octet for conditions around it.
func context(c rune) rune {
	switch {
	case c < 0:
		return -1
	case syntax.IsWordChar(c):
		return 'a'
	}
	return '.'
}

// build makes the table of the automaton.
func (a *automaton) build() bool {
	p := a.pattern
	first := make([]byte, p.size)
	first[p.start] = 1
	p.first = a.enter(first, -1)
	p.next = make([]uint16, 1<<p.shift) // of accepted: it stays
	for len(a.pending) > 0 {
		s := a.pending[0]
		a.pending = a.pending[1:]
		if s.number >= maxStates {
			return false
		}
		row := make([]uint16, 1<<p.shift)
		for kind, c := range a.octets {
			set := append([]byte(nil), s.set...)
			next := make([]byte, p.size)
			if !p.fixed {
				next[p.start] = 1
			}
			if a.follow(set, syntax.EmptyOpContext(s.before, context(c))) {
				continue
			}
			if c < 0 {
				row[kind] = s.number // not accepted
				continue
			}
			for pc := range set {
				if in := &p.program[pc]; set[pc] != 0 && in.op == syntax.InstRune && in.kinds>>kind&1 != 0 {
					next[in.out] = 1
				}
			}
			row[kind] = a.enter(next, context(c))
		}
		p.next = append(p.next, row...)
	}
	for size := 1 << p.shift; ; size *= 2 {
		if size >= len(p.next) {
			p.next = append(p.next, make([]uint16, size-len(p.next))...)
			break
		}
	}
	p.steps = a.largest * places
	return true
}

// enter returns the number of a state. States are taken in the order of their numbers, so that their rows are, too.
func (a *automaton) enter(set []byte, before rune) uint16 {
	key := string(append(set, byte(before)))
	if number, ok := a.states[key]; ok {
		return number
	}
	number := uint16(len(a.states) + 1)
	a.states[key] = number
	a.pending = append(a.pending, state{set, before, number})
	return number
}

// follow adds to a set of instructions those that they lead to without an octet, and reports whether a match is among them.
func (a *automaton) follow(set []byte, context syntax.EmptyOp) (match bool) {
	p := a.pattern
	var pending []uint16
	for pc, in := range set {
		if in != 0 {
			pending = append(pending, uint16(pc))
		}
	}
	size := 0
	for len(pending) > 0 {
		in := &p.program[pending[len(pending)-1]]
		pending = pending[:len(pending)-1]
		size++
		var to []uint16
		switch in.op {
		case syntax.InstAlt, syntax.InstAltMatch:
			to = []uint16{in.out, in.arg}
		case syntax.InstCapture, syntax.InstNop:
			to = []uint16{in.out}
		case syntax.InstEmptyWidth:
			if syntax.EmptyOp(in.arg)&^context == 0 {
				to = []uint16{in.out}
			}
		case syntax.InstMatch:
			match = true
		}
		for _, pc := range to {
			if set[pc] == 0 {
				set[pc] = 1
				pending = append(pending, pc)
			}
		}
	}
	a.largest = max(a.largest, size)
	return match
}
