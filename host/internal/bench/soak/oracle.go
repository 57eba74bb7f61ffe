//go:build linux

package soak

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirdns/weir/host/upstream/upstreamtest"
)

// class is a kind of question.
type class uint8

const (
	hot     class = iota // names of pair.test that are asked for again and again, and expire
	miss                 // names of pair.test that nobody has asked for
	secure               // half of them of each kind, in secure.test
	listed               // likewise, in resolv.test
	held                 // the zone
	blocked              // the rule
	sick                 // names of sick.test, half of each kind
	strict               // names of pair.test, in a chain where a trap fails the query
	classes
)

var classNames = [classes]string{"hot", "miss", "secure", "listed", "held", "blocked", "sick", "strict"}

// shares are the parts of the load, in percent.
var shares = [classes]int{hot: 50, miss: 15, secure: 10, listed: 8, held: 7, blocked: 5, sick: 4, strict: 1}

// pickClass returns the class for a number below 100.
func pickClass(n int) class {
	for c, share := range shares {
		if n < share {
			return class(c)
		}
		n -= share
	}
	return hot
}

const (
	hotNames   = 2000
	fewNames   = 200 // of the other zones, likewise
	headerSize = 12
	// afterSick is how long the server of sick.test may go unused after its fault: until it is probed, and until what failed may be asked again.
	afterSick = 4 * time.Second
	// afterStall is how long answers that are missing are put down to a machine that stood still.
	afterStall = patience + 2*time.Second
)

// asked is a query on its way.
type asked struct {
	class  class
	over   transport
	wire   []byte // the query
	edns   bool
	at     time.Time
	oldest int64 // generation that may answer
}

// failure is an answer that was not what it should have been.
type failure struct {
	asked
	kind string
	said string
	end  time.Time
}

// The kinds of failures.
const (
	wrong    = "wrong answer" // something else than the truth; never excused
	servfail = "SERVFAIL"
	lost     = "lost" // nothing came
)

// oracle knows the answers.
type oracle struct {
	setting *setting
	history history
	unique  atomic.Int64 // of names that nobody asked for
	sent    [classes]atomic.Int64
	right   [classes]atomic.Int64
	over    [transports]atomic.Int64 // right answers

	mu       sync.Mutex // guards following
	failures []failure
	more     int // failures that did not fit
	stalls   []span
	sick     []span // when the server of sick.test had a fault; the last one may have no end
}

// span is a time.
type span struct{ begin, end time.Time }

// overlaps reports whether something between begin and end fell into the span, or the time after it.
func (s span) overlaps(begin, end time.Time, after time.Duration) bool {
	return end.After(s.begin) && (s.end.IsZero() || begin.Before(s.end.Add(after)))
}

func newOracle(s *setting) *oracle { return &oracle{setting: s} }

// forget begins to count anew.
func (o *oracle) forget() {
	for c := range classes {
		o.sent[c].Store(0)
		o.right[c].Store(0)
	}
	for t := range transports {
		o.over[t].Store(0)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.failures, o.more = nil, 0
}

// question makes a query. Names are in random case: a response has to have the same.
func (o *oracle) question(over transport, class class, r *rand.Rand) *asked {
	q := &asked{class: class, over: over, edns: r.IntN(2) == 0, at: time.Now(), oldest: o.setting.oldest.Load()}
	var zone string
	many := fewNames
	switch class {
	case hot, miss, strict:
		zone, many = "pair", hotNames
	case secure:
		zone = "secure"
	case listed:
		zone = "resolv"
	case sick:
		zone = "sick"
	case held:
		zone = "held"
	case blocked:
		zone = "blocked"
	}
	label := fmt.Sprintf("h%d", r.IntN(many))
	if class == miss || class != hot && class != strict && r.IntN(2) == 0 {
		label = fmt.Sprintf("m%d", o.unique.Add(1))
	}
	if class == held {
		label = "www"
	}
	q.wire = append(q.wire, byte(r.Uint32()), byte(r.Uint32()), 1, 0, 0, 1, 0, 0, 0, 0, 0, 0)
	for _, l := range []string{label, zone, "test"} {
		q.wire = append(append(q.wire, byte(len(l))), l...)
	}
	for i, c := range q.wire[headerSize:] {
		if c >= 'a' && c <= 'z' && r.IntN(2) == 0 {
			q.wire[headerSize+i] -= 'a' - 'A'
		}
	}
	q.wire = append(q.wire, 0, 0, 1, 0, 1)
	if q.edns {
		q.wire[11] = 1
		q.wire = append(q.wire, 0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0, 0, 0) // 1,232 octets
	}
	o.sent[class].Add(1)
	return q
}

// questionEnd is where the question of a query ends.
func (q *asked) questionEnd() int {
	return headerSize + bytes.IndexByte(q.wire[headerSize:], 0) + 5
}

// qname returns the QNAME as text; labels have nothing in them that would have to be escaped.
func (q *asked) qname() string {
	var text strings.Builder
	for rest := q.wire[headerSize:]; rest[0] != 0; rest = rest[1+rest[0]:] {
		text.Write(rest[1 : 1+rest[0]])
		text.WriteByte('.')
	}
	return text.String()
}

// judge looks at what came of a query: a response, or an error.
func (o *oracle) judge(q *asked, response []byte, err error) {
	kind, said := wrong, ""
	if err != nil {
		kind, said = lost, err.Error()
	} else {
		switch rcode, problem := o.check(q, response); {
		case problem == nil:
			o.right[q.class].Add(1)
			o.over[q.over].Add(1)
			return
		case errors.Is(problem, errServfail):
			kind, said = servfail, q.reason(response)
		default:
			said = fmt.Sprintf("%v (RCODE %d): %x", problem, rcode, response)
		}
	}
	const most = 100_000
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.failures) == most {
		o.more++
		return
	}
	o.failures = append(o.failures, failure{asked: *q, kind: kind, said: said, end: time.Now()})
}

var errServfail = errors.New("SERVFAIL")

// reason returns what the Extended DNS Errors of a response say (RFC 8914 section 2).
func (q *asked) reason(m []byte) string {
	if !q.edns {
		return "no EDNS in the query, and so no reason in the response"
	}
	_, opts, _ := records(m, q.questionEnd()) // whoever asks has seen that they can be read
	for _, options := range opts {
		for len(options) >= 4 {
			code, size := binary.BigEndian.Uint16(options), int(binary.BigEndian.Uint16(options[2:]))
			options = options[4:]
			if size > len(options) {
				break
			}
			if code == 15 && size >= 2 {
				return fmt.Sprintf("EDE %d %q", binary.BigEndian.Uint16(options), options[2:size])
			}
			options = options[size:]
		}
	}
	return "no reason in the response"
}

// check tells what is wrong with a response. It shares no code with weir, and with the upstreams only what the address of a name is.
func (o *oracle) check(q *asked, m []byte) (rcode int, err error) {
	end := q.questionEnd()
	switch {
	case len(m) < end:
		return 0, errors.New("too short")
	case m[0] != q.wire[0] || m[1] != q.wire[1]:
		return 0, errors.New("another ID")
	case m[2]&0xfb != 0x81 || m[3]&0xf0 != 0x80: // QR, RD and RA; AA may be
		return 0, fmt.Errorf("flags %02x%02x", m[2], m[3])
	case m[4] != 0 || m[5] != 1 || !bytes.Equal(m[headerSize:end], q.wire[headerSize:end]):
		return 0, errors.New("another question")
	}
	rcode = int(m[3] & 15)
	records, opts, err := records(m, end)
	if err != nil {
		return rcode, err
	}
	if want := q.edns; len(opts) == 1 != want || len(opts) > 1 {
		return rcode, fmt.Errorf("%d OPT records, EDNS in the query: %v", len(opts), want)
	}
	want := 0
	if q.class == blocked {
		want = 5 // REFUSED
	}
	switch {
	case rcode == 2:
		return rcode, errServfail
	case rcode != want:
		return rcode, errors.New("another RCODE")
	case q.class == blocked:
		if len(records) > 0 {
			return rcode, errors.New("records")
		}
		return rcode, nil
	case len(records) != 1:
		return rcode, fmt.Errorf("%d records", len(records))
	}
	r := records[0]
	name := m[headerSize : end-4]
	switch {
	case !bytes.EqualFold(r.owner, name):
		return rcode, errors.New("another owner")
	case r.kind != 1 || r.class != 1 || len(r.data) != 4:
		return rcode, errors.New("another type")
	case r.ttl > upstreamtest.MaxTTL: // which is that of stale answers as well
		return rcode, fmt.Errorf("TTL %d", r.ttl)
	}
	if q.class == held {
		n := int64(r.data[2])<<8 | int64(r.data[3])
		if newest := o.setting.newest.Load(); r.data[0] != 10 || r.data[1] != 0 || n < q.oldest || n > newest {
			return rcode, fmt.Errorf("generation %d, want %d to %d", n, q.oldest, newest)
		}
		return rcode, nil
	}
	if address := upstreamtest.Address(name); !bytes.Equal(r.data, address[:]) {
		return rcode, fmt.Errorf("address %v, want %v", r.data, address)
	}
	return rcode, nil
}

// record is one of the answer section.
type record struct {
	owner       []byte // without compression
	kind, class uint16
	ttl         uint32
	data        []byte
}

// records returns those of the answer section, and the RDATA of OPT records in the additional one. Nothing may be behind them.
func records(m []byte, at int) (answer []record, opts [][]byte, err error) {
	counts := [3]int{}
	for i := range counts {
		counts[i] = int(binary.BigEndian.Uint16(m[6+2*i:]))
	}
	for section, n := range counts {
		for range n {
			owner, next := name(m, at)
			if next == 0 || next+10 > len(m) {
				return nil, nil, errors.New("a record that does not end")
			}
			r := record{owner: owner, kind: binary.BigEndian.Uint16(m[next:]), class: binary.BigEndian.Uint16(m[next+2:]), ttl: binary.BigEndian.Uint32(m[next+4:])}
			at = next + 10 + int(binary.BigEndian.Uint16(m[next+8:]))
			if at > len(m) {
				return nil, nil, errors.New("a record that does not end")
			}
			r.data = m[next+10 : at]
			switch {
			case section == 0:
				answer = append(answer, r)
			case section == 2 && r.kind == 41:
				opts = append(opts, r.data)
			}
		}
	}
	if at != len(m) {
		return nil, nil, errors.New("octets behind the last record")
	}
	return answer, opts, nil
}

// name returns the name at an offset and where it ends, or 0 if it does not.
func name(m []byte, at int) (name []byte, end int) {
	for range 128 {
		if at >= len(m) {
			return nil, 0
		}
		switch n := int(m[at]); {
		case n == 0:
			if end == 0 {
				end = at + 1
			}
			return append(name, 0), end
		case n >= 0xc0 && at+1 < len(m):
			if end == 0 {
				end = at + 2
			}
			at = n&0x3f<<8 | int(m[at+1])
		case n < 64 && at+1+n < len(m):
			name = append(name, m[at:at+1+n]...)
			at += 1 + n
		default:
			return nil, 0
		}
	}
	return nil, 0
}

// watchStalls notes when this process stood still, or weir was stopped by a signal: somebody else wanted the machine for himself.
func (o *oracle) watchStalls(ctx context.Context) {
	const every, much = 20 * time.Millisecond, 300 * time.Millisecond
	tick := time.NewTicker(every)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := time.Now()
		if now.Sub(last) > much || o.setting.stopped() {
			o.mu.Lock()
			if n := len(o.stalls); n > 0 && last.Sub(o.stalls[n-1].end) < time.Second {
				o.stalls[n-1].end = now
			} else {
				o.stalls = append(o.stalls, span{last, now})
			}
			o.mu.Unlock()
		}
		last = now
	}
}

// stalledSince reports whether this process stood still since a time.
func (o *oracle) stalledSince(begin time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := len(o.stalls)
	return n > 0 && o.stalls[n-1].end.After(begin)
}

// setSick notes that the server of sick.test has a fault from now on, or no more.
func (o *oracle) setSick(is bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if is {
		o.sick = append(o.sick, span{begin: time.Now()})
	} else if n := len(o.sick); n > 0 && o.sick[n-1].end.IsZero() {
		o.sick[n-1].end = time.Now()
	}
}

// excuse returns why a failure is none, or "".
func (o *oracle) excuse(f *failure) string {
	if f.kind == wrong {
		return ""
	}
	if f.kind == servfail && f.class == strict {
		return "the filter trapped"
	}
	if f.class == sick {
		for _, s := range o.sick {
			if s.overlaps(f.at, f.end, afterSick) {
				return "the only server has a fault"
			}
		}
	}
	for _, s := range o.stalls {
		if s.overlaps(f.at, f.end, afterStall) {
			return "the machine stood still"
		}
	}
	return ""
}
