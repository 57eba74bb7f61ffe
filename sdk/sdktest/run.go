//go:build !wasip1

package sdktest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/abi"
	"github.com/weirdns/weir/sdk"
)

// Run runs the cases of all files that match a pattern, each file against a filter of its own. It is an error if none does.
func Run(t *testing.T, pattern string, open Open) {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) == 0 {
		t.Fatalf("files of cases %s: %d found, %v", pattern, len(names), err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			f, err := ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			f.Run(t, open)
		})
	}
}

// Run runs the cases of one file.
func (f *File) Run(t *testing.T, open Open) {
	t.Helper()
	r, failures := f.start(open)
	for _, failure := range failures {
		t.Error(failure)
	}
	if r == nil {
		return
	}
	for _, c := range f.Cases {
		t.Run(fmt.Sprintf("%d %s", c.Line, c.Steps[0].Call), func(t *testing.T) {
			for _, failure := range r.run(c) {
				t.Error(failure)
			}
		})
	}
}

// Failure is something that is not as a file of cases says.
type Failure struct {
	File string // its name
	Line int    // the step of the case, or 0 if it is about the configuration
	Call string // the line of the file that says what was called; empty for the configuration
	Text string // what is wrong: lines with what was got and what is wanted
}

// String is what a test prints: the place as editors understand it, the call, and what is wrong.
func (f Failure) String() string {
	if f.Line == 0 {
		return f.File + ": " + f.Text
	}
	return fmt.Sprintf("%s:%d: %s\n%s", f.File, f.Line, f.Call, f.Text)
}

// Check runs the cases as Run does, without package testing: visit is called after each case with what is wrong in it. What is wrong with the
// configuration comes first, with nil for the case; if the filter can't be called then, that is all.
func (f *File) Check(open Open, visit func(c *Case, failures []Failure)) {
	r, failures := f.start(open)
	visit(nil, failures)
	if r == nil {
		return
	}
	for i := range f.Cases {
		visit(&f.Cases[i], r.run(f.Cases[i]))
	}
}

// Allocations runs the cases of all files that match a pattern against a native filter, and reports calls that allocate. Cases that
// explain are left out: nobody minds there.
func Allocations(t *testing.T, pattern string, newFilter func() sdk.Filter) {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) == 0 {
		t.Fatalf("files of cases %s: %d found, %v", pattern, len(names), err)
	}
	for _, name := range names {
		f, err := ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		r, _ := f.start(Native(newFilter))
		if r == nil {
			continue
		}
		r.again = func(step Step, phase uint8) string {
			if step.Query.flags&abi.FlagExplain != 0 {
				return ""
			}
			frame := bytes.Clone(r.saved)
			r.host.mute = true
			defer func() { r.host.mute = false }()
			if n := testing.AllocsPerRun(5, func() {
				copy(r.instance.Frame(), frame)
				r.instance.Call(phase)
			}); n > 0 {
				return fmt.Sprintf("%v allocations in a call", n)
			}
			return ""
		}
		for _, c := range f.Cases {
			for _, failure := range r.run(c) {
				t.Error(failure)
			}
		}
	}
}

// start opens an instance and compares the outcome of configure. The runner is nil if there is nothing to call.
func (f *File) start(open Open) (r *runner, failures []Failure) {
	wrong := func(format string, a ...any) {
		failures = append(failures, Failure{File: f.Name, Text: fmt.Sprintf(format, a...)})
	}
	r, err := f.open(open)
	switch {
	case err != nil && f.Error != "" && refused(err, f.Error):
		return nil, nil
	case err != nil && f.Error == "":
		wrong("configure: got error\n%v", err)
	case err != nil:
		wrong("configure: got error\n%v\nwant\n%s", err, f.Error)
	case f.Error != "":
		wrong("configure: got no error, want\n%s", f.Error)
		r = nil
	case f.Interest != nil && r.interest != *f.Interest:
		wrong("configure: got interest %#x, want %#x", r.interest, *f.Interest)
	}
	return r, failures
}

// Refusal is the error of an [Open] that checks the configuration before the filter sees it, as the host does by the schema of the
// manifest. It has words of its own, so only the keys are compared: each must be one that the section error names, too.
type Refusal interface {
	error
	Keys() []string
}

// refused reports whether err is the error that a file wants.
func refused(err error, want string) bool {
	if err.Error() == want {
		return true
	}
	r, ok := errors.AsType[Refusal](err)
	if !ok {
		return false
	}
	var keys []string
	for line := range strings.Lines(want) {
		key, _, _ := strings.Cut(line, ":")
		keys = append(keys, key)
	}
	for _, got := range r.Keys() {
		// A key that is missing or unknown may be reported at the table that it is in, or should be in.
		if !slices.ContainsFunc(keys, func(k string) bool { return strings.HasPrefix(k, got) || strings.HasPrefix(got, k) }) {
			return false
		}
	}
	return len(r.Keys()) > 0
}

// runner is a configured instance of a filter that calls are made to.
type runner struct {
	file     *File
	host     *Host
	instance Instance
	interest uint64
	lookup   Lookup

	again func(Step, uint8) string // is called after each call, if it is set, and says what is wrong
	saved []byte                   // the frame as it was before that call
}

// open makes and configures an instance. The error is what configure says.
func (f *File) open(open Open) (*runner, error) {
	host, err := NewHost(f)
	if err != nil {
		return nil, err
	}
	instance, err := open(host)
	if err != nil {
		return nil, err
	}
	result, text := instance.Configure(len(host.document))
	if int64(result) < 0 {
		return nil, fmt.Errorf("%s", text)
	}
	r := &runner{file: f, host: host, instance: instance, interest: result}
	if w, ok := instance.(with); ok {
		r.lookup = w.lookup
	}
	return r, nil
}

// settledText is what the host explains when it does not call a filter for an answer.
const settledText = "not called: an answer, for which it settles"

// Fault is what [Instance.Call] panics with when the filter did not return: the case fails, and the next one goes on.
type Fault struct{ Err error }

// run makes the calls of one case, and returns what is not as it should be.
func (r *runner) run(c Case) (failures []Failure) {
	at := c.Steps[0]
	wrong := func(step Step, format string, a ...any) {
		failures = append(failures, Failure{r.file.Name, step.Line, step.Call, fmt.Sprintf(format, a...)})
	}
	defer func() {
		switch p := recover().(type) {
		case nil:
		case Fault:
			wrong(at, " got a fault: %v", p.Err)
		default:
			panic(p)
		}
	}()
	var cookie uint64
	var attempts [3]byte // by phase
	called := false      // the last verdict was Ask or Forward in the response phase, so the answer always comes
	settled := false     // that was Forward with settle: not if it is NOERROR
	for _, step := range c.Steps {
		at = step
		verdict, records, explained, logged := "next", []string(nil), []string(nil), []string(nil)
		message, class := step.message()
		phase, interested := byte(abi.PhaseQuery), r.interest&abi.InterestQuery != 0
		if step.Response != nil {
			phase, interested = abi.PhaseResponse, r.interest>>class&1 != 0 || called
		}
		if settled && class == dns.RcodeSuccess {
			interested = false
			if step.Query.flags&abi.FlagExplain != 0 {
				explained = []string{settledText}
			}
		}
		var found found
		if interested && phase == abi.PhaseQuery && r.interest&abi.InterestLookup != 0 && r.lookup != Inside && (r.lookup != NoLookup || r.host.own != nil) {
			if found, interested = r.host.look(wire(step.Query.name)); !interested && step.Query.flags&abi.FlagExplain != 0 {
				explained = []string{"nothing here holds " + string(sdk.AppendText(nil, []byte(wire(step.Query.name))))}
			}
		}
		if interested {
			frame := r.instance.Frame()
			if len(frame) != abi.FrameTotal {
				wrong(step, "frame has %d octets, want %d", len(frame), abi.FrameTotal)
				return failures
			}
			for i := range frame { // what the contract leaves undefined shows
				frame[i] = 0xAA
			}
			clear(frame[:abi.FrameHeader])
			r.fill(frame, step, message, class)
			found.write(frame, len(message), r.lookup)
			frame[abi.FramePhase], frame[abi.FrameAttempt] = phase, attempts[phase]
			binary.LittleEndian.PutUint64(frame[abi.FrameCookie:], cookie)
			r.saved = append(r.saved[:0], frame...)
			r.host.begin()
			v, octets := r.instance.Call(phase)
			frame = r.instance.Frame() // the memory of a module may have grown
			attempts[phase]++
			cookie = binary.LittleEndian.Uint64(frame[abi.FrameCookie:])
			explained, logged = r.host.Explained, slices.Clone(r.host.Logged[r.host.lines:])
			var err error
			if verdict, records, err = r.describe(v, octets, frame, step); err != nil {
				wrong(step, "%v", err)
				return failures
			}
			if r.again != nil {
				if m := r.again(step, phase); m != "" {
					wrong(step, "%s", m)
				}
			}
		}
		called = strings.HasPrefix(verdict, "ask") || step.Response != nil && strings.HasPrefix(verdict, "forward")
		settled = called && strings.HasSuffix(verdict, " settle")
		if verdict != step.Verdict && (step.Verdict != "" || interested) {
			wrong(step, " got verdict %s\nwant verdict %s", verdict, step.Verdict)
		}
		if !slices.Equal(records, step.Records) {
			wrong(step, " got records\n%s\nwant records\n%s", strings.Join(records, "\n"), strings.Join(step.Records, "\n"))
		}
		if !slices.Equal(explained, step.Explained) {
			wrong(step, " got explained %q\nwant explained %q", explained, step.Explained)
		}
		if !slices.Equal(logged, step.Logged) {
			wrong(step, " got log %q\nwant log %q", logged, step.Logged)
		}
	}
	return failures
}

// message makes the message of a step, and the class of a response.
func (s *Step) message() (message []byte, class uint16) {
	m := new(dns.Msg)
	m.Id = 0x1234
	m.RecursionDesired = !s.Query.norec
	m.Question = []dns.Question{{Name: s.Query.name, Qtype: s.Query.qtype, Qclass: s.Query.qclass}}
	r := s.Response
	if r == nil {
		if s.Query.flags&abi.FlagEDNS != 0 {
			m.SetEdns0(1232, s.Query.flags&abi.FlagDO != 0)
		}
	} else {
		m.Response, m.Rcode, m.Compress = true, r.rcode&0xF, true
		m.Answer, m.Ns, m.Extra = r.records[0], r.records[1], r.records[2]
		if r.asked != nil {
			m.Question = []dns.Question{*r.asked}
		}
		class = classify(r.rcode, m)
	}
	message, err := m.Pack()
	if err != nil {
		panic(fmt.Sprintf("sdktest: line %d: %v", s.Line, err))
	}
	return message, class
}

// classify returns the class of a response. abi/README.md section 2, RFC 2308 section 2.2.
func classify(rcode int, m *dns.Msg) uint16 {
	switch {
	case rcode >= abi.ClassNODATA:
		return abi.ClassOther
	case rcode != dns.RcodeSuccess:
		return uint16(rcode)
	}
	qtype := m.Question[0].Qtype
	for _, rr := range m.Answer {
		if rr.Header().Rrtype == qtype || qtype == dns.TypeANY {
			return 0
		}
	}
	ns, soa := false, false
	for _, rr := range m.Ns {
		ns = ns || rr.Header().Rrtype == dns.TypeNS
		soa = soa || rr.Header().Rrtype == dns.TypeSOA
	}
	if ns && !soa {
		return 0 // a referral
	}
	return abi.ClassNODATA
}

// fill writes a frame whose header is zero.
func (r *runner) fill(frame []byte, step Step, message []byte, class uint16) {
	le := binary.LittleEndian
	q := step.Query
	name := wire(q.name)
	frame[abi.FrameFlags] = q.flags
	frame[abi.FrameTransport] = q.transport
	le.PutUint16(frame[abi.FrameScope:], abi.None)
	le.PutUint16(frame[abi.FrameQtype:], q.qtype)
	le.PutUint16(frame[abi.FrameQclass:], q.qclass)
	address := q.address.Unmap() // as the host gives it
	switch {
	case address.Is4():
		frame[abi.FrameFamily] = 4
	case address.Is6():
		frame[abi.FrameFamily] = 6
	}
	if address.IsValid() {
		le.PutUint16(frame[abi.FramePort:], 40000)
	}
	frame[abi.FrameLabels] = byte(dns.CountLabel(q.name))
	le.PutUint16(frame[abi.FrameQnameSize:], uint16(len(name)))
	le.PutUint16(frame[abi.FrameEDE:], abi.None)
	copy(frame[abi.FrameAddress:], address.AsSlice())
	le.PutUint32(frame[abi.FrameSize:], uint32(len(message)))
	question := len(name)
	le.PutUint16(frame[abi.FrameUpstream:], abi.None)
	le.PutUint16(frame[abi.FrameLimit:], 1232)
	if p := step.Response; p != nil {
		le.PutUint16(frame[abi.FrameRcode:], uint16(p.rcode))
		le.PutUint16(frame[abi.FrameClass:], class)
		if p.silent {
			frame[abi.FrameFlags] |= abi.FlagSilent
		}
		if p.asked != nil {
			frame[abi.FrameFlags] |= abi.FlagAsked
			question = len(wire(p.asked.Name))
		}
		if i := slices.Index(r.file.Upstreams, p.upstream); i >= 0 {
			le.PutUint16(frame[abi.FrameUpstream:], uint16(i))
		}
	}
	le.PutUint16(frame[abi.FrameQuestion:], uint16(12+question+4))
	copy(frame[abi.FrameQname:], name)
	copy(frame[abi.FrameMessage:], message)
}

// describe turns a verdict into the words of a file of cases, and checks what the host would check.
func (r *runner) describe(v uint64, octets, frame []byte, step Step) (verdict string, records []string, err error) {
	kind, argument, length, offset := abi.Unpack(v)
	switch kind {
	case abi.Next, abi.Drop, abi.Kept:
		if v != uint64(kind)<<56 {
			return "", nil, fmt.Errorf("verdict %#x: has fields that are not zero", v)
		}
		return map[uint8]string{abi.Next: "next", abi.Drop: "drop", abi.Kept: "kept"}[kind], nil, nil
	case abi.Forward:
		if int(offset) >= len(r.file.Upstreams) {
			return "", nil, fmt.Errorf("verdict forward to upstream %d of %d", offset, len(r.file.Upstreams))
		}
		verdict = "forward " + r.file.Upstreams[offset]
		if argument&abi.ForwardOriginal != 0 {
			verdict += " original"
		}
		if argument&abi.ForwardKeep != 0 {
			verdict += " keep"
		}
		if argument&abi.ForwardSettle != 0 {
			verdict += " settle"
		}
		return verdict, nil, nil
	case abi.Ask, abi.Rewrite:
		name, n, err := dns.UnpackDomainName(octets, 0)
		if err != nil || n+4 != len(octets) || len(octets) != int(length) {
			return "", nil, fmt.Errorf("question %x: %v", octets, err) //nolint:errorlint // there may be none
		}
		verdict = map[uint8]string{abi.Ask: "ask ", abi.Rewrite: "rewrite "}[kind]
		return verdict + name + " " + dns.Type(binary.BigEndian.Uint16(octets[n:])).String(), nil, nil
	case abi.Respond:
		ede := ""
		if e := binary.LittleEndian.Uint16(frame[abi.FrameEDE:]); e != abi.None {
			ede = fmt.Sprintf(" ede %d", e)
		}
		if length == 0 {
			return "respond " + dns.RcodeToString[int(argument)] + ede, nil, nil
		}
		m, err := checkMessage(octets[:length], step)
		if err != nil {
			return "", nil, err
		}
		verdict = "respond " + dns.RcodeToString[m.Rcode]
		if m.Authoritative {
			verdict += " aa"
		}
		for i, section := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
			for _, rr := range section {
				records = append(records, sections[i]+" "+text1(rr))
			}
		}
		return verdict + ede, records, nil
	}
	return "", nil, fmt.Errorf("verdict %#x: is none", v)
}

// checkMessage checks a response as the host does.
func checkMessage(octets []byte, step Step) (*dns.Msg, error) {
	m := new(dns.Msg)
	if err := m.Unpack(octets); err != nil {
		return nil, fmt.Errorf("response %x: %w", octets, err)
	}
	q := step.Query
	switch {
	case !m.Response:
		return nil, fmt.Errorf("response: QR is clear")
	case len(m.Question) != 1, wire(m.Question[0].Name) != wire(q.name), m.Question[0].Qtype != q.qtype, m.Question[0].Qclass != q.qclass:
		return nil, fmt.Errorf("response: question %v, want %s %d %d", m.Question, q.name, q.qtype, q.qclass)
	case step.Response == nil && exact(m.Question[0].Name) != exact(q.name):
		return nil, fmt.Errorf("response: question in another case, %s", m.Question[0].Name)
	case m.IsEdns0() != nil || m.IsTsig() != nil:
		return nil, fmt.Errorf("response: has OPT or TSIG")
	}
	counts := len(m.Answer) + len(m.Ns) + len(m.Extra)
	if got := int(binary.BigEndian.Uint16(octets[6:])) + int(binary.BigEndian.Uint16(octets[8:])) + int(binary.BigEndian.Uint16(octets[10:])); got != counts {
		return nil, fmt.Errorf("response: the header counts %d records, there are %d", got, counts)
	}
	at := 12
	for i := range 1 + counts {
		var err error
		if i == 0 {
			_, at, err = dns.UnpackDomainName(octets, at)
			at += 4
		} else {
			_, at, err = dns.UnpackRR(octets, at)
		}
		if err != nil {
			return nil, err
		}
	}
	if at != len(octets) {
		return nil, fmt.Errorf("response: %d octets follow the last record", len(octets)-at)
	}
	return m, nil
}
