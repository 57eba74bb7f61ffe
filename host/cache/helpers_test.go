package cache

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/host/chain"
	"github.com/weirdns/weir/host/message"
)

var _ chain.Upstream = (*Cache)(nil)

var errSilence = errors.New("no upstream answered")

// server is an upstream: a function from queries to messages.
type server struct {
	answer func(ctx context.Context, q *message.Query) (*dns.Msg, error)
	calls  atomic.Int64
}

// says makes a server that always answers the same, as [respond] has it.
func says(rcode int, records ...string) *server {
	return &server{answer: func(_ context.Context, q *message.Query) (*dns.Msg, error) {
		return respond(q, rcode, records...), nil
	}}
}

// silent makes a server that never answers.
func silent() *server {
	return &server{answer: func(context.Context, *message.Query) (*dns.Msg, error) { return nil, errSilence }}
}

func (s *server) Resolve(ctx context.Context, q *message.Query, dst []byte) (message.Response, error) {
	s.calls.Add(1)
	m, err := s.answer(ctx, q)
	if err != nil {
		return message.Response{}, err
	}
	packed, err := m.Pack()
	if err != nil {
		return message.Response{}, err
	}
	var r message.Response
	err = r.Parse(append(dst, packed...)[len(dst):], &q.Question)
	r.Upstream = 7
	return r, err
}

// respond makes a response to q. A record is in presentation format behind the section it belongs to: "an", "ns" or "ar". "tc" and "aa" set these bits,
// "ede CODE" adds an Extended DNS Error.
func respond(q *message.Query, rcode int, records ...string) *dns.Msg {
	var m dns.Msg
	if err := m.Unpack(q.Message); err != nil {
		panic(err)
	}
	m.Response, m.Compress, m.Extra = true, true, nil
	m.Rcode = rcode
	if rcode > 0xF {
		m.SetEdns0(1232, false)
	}
	for _, text := range records {
		section, text, _ := strings.Cut(text, " ")
		switch section {
		case "tc":
			m.Truncated = true
			continue
		case "aa":
			m.Authoritative = true
			continue
		case "ede":
			var code uint16
			if _, err := fmt.Sscan(text, &code); err != nil {
				panic(err)
			}
			m.SetEdns0(1232, false)
			o := m.IsEdns0()
			o.Option = append(o.Option, &dns.EDNS0_EDE{InfoCode: code})
			continue
		}
		rr, err := dns.NewRR(text)
		if err != nil {
			panic(err)
		}
		switch section {
		case "an":
			m.Answer = append(m.Answer, rr)
		case "ns":
			m.Ns = append(m.Ns, rr)
		case "ar":
			m.Extra = append(m.Extra, rr)
		default:
			panic("no section " + section)
		}
	}
	return &m
}

// ask makes a query with two seconds from now to answer it.
func ask(name string, qtype uint16, now time.Time, change ...func(*dns.Msg)) *message.Query {
	m := new(dns.Msg).SetQuestion(name, qtype)
	for _, f := range change {
		f(m)
	}
	packed, err := m.Pack()
	if err != nil {
		panic(err)
	}
	q := new(message.Query)
	if rcode, ok := q.Parse(packed); !ok {
		panic("query answered with " + message.RCODEString(rcode))
	}
	q.Deadline = now.Add(2 * time.Second)
	return q
}

func explained(q *message.Query) string {
	var b strings.Builder
	for _, s := range q.Trace.Steps {
		fmt.Fprintf(&b, "%s: %s\n", s.Part, s.Text)
	}
	return b.String()
}

// clock is a clock that stands still until it is moved.
type clock struct{ ns atomic.Int64 }

var epoch = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func (c *clock) now() time.Time         { return epoch.Add(time.Duration(c.ns.Load())) }
func (c *clock) pass(d time.Duration)   { c.ns.Add(int64(d)) }
func seconds64(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }

// preset is a preset, changed.
func preset(name string, change ...func(*Config)) Config {
	c, ok := Preset(name)
	if !ok {
		panic("no preset " + name)
	}
	for _, f := range change {
		f(&c)
	}
	return c
}

func open(t testing.TB, c Config, next message.Resolver, now func() time.Time) *Cache {
	t.Helper()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	cache := New("test", c, next, Env{Now: now})
	t.Cleanup(cache.Close)
	return cache
}

// unpack reads a response as a client gets it.
func unpack(t testing.TB, q *message.Query, r message.Response) *dns.Msg {
	t.Helper()
	wire := r.Finish(q, message.MaxSize)
	m := new(dns.Msg)
	if err := m.Unpack(wire); err != nil {
		t.Fatalf("response can't be read: %v\n% x", err, wire)
	}
	return m
}

// ttls are the TTLs of a message, section by section.
func ttls(m *dns.Msg) []uint32 {
	var got []uint32
	for _, rr := range slices.Concat(m.Answer, m.Ns, m.Extra) {
		if rr.Header().Rrtype != dns.TypeOPT {
			got = append(got, rr.Header().Ttl)
		}
	}
	return got
}

// codes are the INFO-CODEs of the Extended DNS Errors in a response.
func codes(r message.Response) []uint16 {
	got := []uint16{}
	for b := r.EDE; len(b) >= 6; b = b[4+int(b[2])<<8+int(b[3]):] {
		got = append(got, uint16(b[4])<<8|uint16(b[5]))
	}
	return got
}
