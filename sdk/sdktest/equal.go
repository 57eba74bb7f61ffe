//go:build !wasip1

package sdktest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"github.com/weirdns/weir/abi"
)

// Equal makes the same calls of two instances of a filter, such as one in this process and one of its module, and reports where they differ: in
// verdict, octets, EDE, cookie, what they explain, log and count. It also reports responses that the host would not accept.
//
// The calls are generated, about n in all, with the configurations and tables of the files of cases that match a pattern: names are those in the files
// and others near them, with all kinds of types, clients and flags, and on the way up responses of all classes with records. Files that expect an
// error, and in which the filter is never called, are left out. The same seed gives the same calls.
func Equal(t *testing.T, pattern string, n int, seed uint64, one, other Open) {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	var files []*File
	var pairs []*pair
	for _, name := range names {
		f, err := ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if f.Error != "" {
			continue
		}
		p, err := newPair(f, one, other)
		if err != nil {
			t.Fatalf("%s: %v", f.Name, err)
		}
		if p.runners[0].interest != 0 {
			files, pairs = append(files, f), append(pairs, p)
		}
	}
	if len(files) == 0 {
		t.Fatalf("files of cases %s: %d found, none in which the filter is called", pattern, len(names))
	}
	for i, p := range pairs {
		if err := p.compare(files[i], (n+len(files)-1)/len(files), rand.New(rand.NewPCG(seed, uint64(i)))); err != nil {
			t.Errorf("%s, after %d calls: %v", files[i].Name, p.calls, err)
		}
		t.Logf("%s: %d calls, verdicts %v", filepath.Base(files[i].Name), p.calls, p.verdicts)
	}
}

// pair is two instances that get the same calls.
type pair struct {
	runners  [2]*runner
	calls    int
	verdicts map[string]int // how often each kind was given
	frame    []byte
}

func newPair(f *File, opens ...Open) (*pair, error) {
	p := &pair{verdicts: map[string]int{}, frame: make([]byte, abi.FrameTotal)}
	for i, open := range opens {
		var err error
		if p.runners[i], err = f.open(open); err != nil {
			return nil, err
		}
	}
	if a, b := p.runners[0].interest, p.runners[1].interest; a != b {
		return nil, fmt.Errorf("interest %#x and %#x", a, b)
	}
	return p, nil
}

// compare makes n calls.
func (p *pair) compare(f *File, n int, random *rand.Rand) error {
	g := newGenerator(f, random)
	for p.calls < n {
		if err := p.query(g); err != nil {
			return err
		}
	}
	return nil
}

var verdictNames = [...]string{"next", "respond", "forward", "rewrite", "drop", "ask", "kept"}

// query makes the calls of one query: on the way down, and on the way up for as long as the filter asks further.
func (p *pair) query(g *generator) error {
	r := p.runners[0]
	step := Step{Query: g.query()}
	cookie, asked := uint64(0), false
	if r.interest&abi.InterestQuery != 0 {
		message, _ := step.message()
		var at found
		ok := true
		if r.interest&abi.InterestLookup != 0 {
			at, ok = r.host.look(wire(step.Query.name))
		}
		if ok {
			v, octets, c, err := p.call(step, message, 0, at, 0, 0)
			if err != nil || v>>56 == abi.Respond || v>>56 == abi.Drop {
				return err
			}
			cookie, asked = c, v>>56 == abi.Ask
			step.Response = g.asked(v, octets)
		} else {
			p.calls++
			p.verdicts["not called"]++
		}
	}
	for attempt := byte(0); attempt <= abi.MaxRounds; attempt++ {
		if !asked || step.Response == nil {
			step.Response = g.response(step.Query, r.interest&abi.InterestClasses)
		}
		message, class := step.message()
		if !asked && attempt == 0 && r.interest>>class&1 == 0 {
			return nil
		}
		v, octets, c, err := p.call(step, message, class, found{}, cookie, attempt)
		if err != nil {
			return err
		}
		kind := uint8(v >> 56)
		if kind != abi.Forward && kind != abi.Ask {
			return nil
		}
		cookie, asked = c, kind == abi.Ask
		step.Response = g.asked(v, octets)
	}
	return nil
}

// call makes one call of both, and compares what comes of it.
func (p *pair) call(step Step, message []byte, class uint16, at found, cookie uint64, attempt byte) (verdict uint64, answer []byte, after uint64, err error) {
	p.calls++
	phase := byte(abi.PhaseQuery)
	if step.Response != nil {
		phase = abi.PhaseResponse
	}
	clear(p.frame[:abi.FrameHeader])
	p.runners[0].fill(p.frame, step, message, class)
	at.write(p.frame, len(message), FullLookup)
	p.frame[abi.FramePhase], p.frame[abi.FrameAttempt] = phase, attempt
	binary.LittleEndian.PutUint64(p.frame[abi.FrameCookie:], cookie)
	size := abi.FrameMessage + len(message)
	if len(at.value) > 0 {
		size = (size+7)&^7 + len(at.value)
	}
	var verdicts [2]uint64
	var octets, frames [2][]byte
	for i, r := range p.runners {
		copy(r.instance.Frame(), p.frame[:size]) // what is behind that is undefined: it is what calls before left, and differs
		r.host.begin()
		verdicts[i], octets[i] = r.instance.Call(phase)
		frames[i] = r.instance.Frame()
	}
	kind, argument, length, offset := abi.Unpack(verdicts[0])
	kind1, argument1, length1, offset1 := abi.Unpack(verdicts[1])
	name := "?"
	if int(kind) < len(verdictNames) {
		name = verdictNames[kind]
	}
	p.verdicts[name]++
	one, other := p.runners[0].host, p.runners[1].host
	le := binary.LittleEndian
	after = le.Uint64(frames[0][abi.FrameCookie:])
	switch {
	case kind != kind1 || argument != argument1 || length != length1:
		err = fmt.Errorf("verdicts %#x and %#x", verdicts[0], verdicts[1])
	case kind == abi.Forward && offset != offset1:
		err = fmt.Errorf("upstreams %d and %d", offset, offset1)
	case length > 0 && !bytes.Equal(octets[0], octets[1]):
		err = fmt.Errorf("octets\n%x and\n%x", octets[0], octets[1])
	case le.Uint16(frames[0][abi.FrameEDE:]) != le.Uint16(frames[1][abi.FrameEDE:]):
		err = fmt.Errorf("EDE %d and %d", le.Uint16(frames[0][abi.FrameEDE:]), le.Uint16(frames[1][abi.FrameEDE:]))
	case after != le.Uint64(frames[1][abi.FrameCookie:]):
		err = fmt.Errorf("cookies %#x and %#x", after, le.Uint64(frames[1][abi.FrameCookie:]))
	case !slices.Equal(one.Explained, other.Explained):
		err = fmt.Errorf("explained %q and %q", one.Explained, other.Explained)
	case !slices.Equal(one.Logged, other.Logged):
		err = fmt.Errorf("logged %q and %q", one.Logged, other.Logged)
	case !maps.Equal(one.Metrics, other.Metrics):
		err = fmt.Errorf("metrics %v and %v", one.Metrics, other.Metrics)
	default:
		_, _, err = p.runners[0].describe(verdicts[0], octets[0], frames[0], step)
	}
	if err != nil {
		err = fmt.Errorf("query %q type %d class %d from %v, flags %#x, response %+v: %w",
			step.Query.name, step.Query.qtype, step.Query.qclass, step.Query.address, step.Query.flags, step.Response, err)
	}
	return verdicts[0], octets[0], after, err
}
