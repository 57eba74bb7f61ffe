package querylog

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/host/message"
)

// entry is the query of the example in CoreDNS's form.
func entry(name string) *Entry {
	wire, err := message.ParseName(name)
	if err != nil {
		panic(err)
	}
	e := &Entry{
		Time: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC), Client: netip.MustParseAddrPort("172.20.2.25:44525"), ID: 36259, Type: 1, Class: 1,
		Size: 56, Took: 116946 * time.Nanosecond, RCODE: 0, Flags: message.FlagQR | message.FlagAA | message.FlagRD, Response: 110, EDE: message.None,
	}
	e.SetName(wire)
	copy(e.name[1:], name) // in the case as given; the names here have no dots that are escaped
	for i, c := range wire {
		if c < 'a' {
			e.name[i] = c
		}
	}
	return e
}

func TestLines(t *testing.T) {
	full := entry("WWW.example.com")
	full.Client, full.Transport = netip.MustParseAddrPort("[2001:db8::1]:53"), message.TCP
	full.Chain, full.Upstream, full.Cached, full.EDE, full.RCODE, full.DO, full.UDPSize = "main", "corp", true, 15, message.NXDOMAIN, true, 1232
	full.Flags = message.FlagQR | message.FlagTC | message.FlagRA | message.FlagAD | message.FlagCD
	dropped := entry("x.test")
	dropped.Dropped, dropped.Response, dropped.Flags = true, 0, 0
	nameless := entry(".")
	nameless.SetName(nil)
	nameless.RCODE = message.FORMERR
	for _, tt := range []struct {
		name          string
		entry         *Entry
		coredns, json string
	}{
		{"the example of the format", entry("name"), `[INFO] 172.20.2.25:44525 - 36259 "A IN name. udp 56 false 512" NOERROR qr,aa,rd 110 0.000116946s`,
			`{"time":"2026-01-02T03:04:05.000006Z","level":"INFO","msg":"query","client":"172.20.2.25","port":44525,"transport":"udp","id":36259,"name":"name.","type":"A","class":"IN","do":false,"udp_size":0,"size":56,"rcode":"NOERROR","flags":"qr,aa,rd","response_size":110,"took_us":116}`},
		{"all there is", full, `[INFO] [2001:db8::1]:53 - 36259 "A IN www.example.com. tcp 56 true 65535" NXDOMAIN qr,tc,ra,ad,cd 110 0.000116946s`,
			`{"time":"2026-01-02T03:04:05.000006Z","level":"INFO","msg":"query","client":"2001:db8::1","port":53,"transport":"tcp","id":36259,"name":"WWW.example.com.","type":"A","class":"IN","do":true,"udp_size":1232,"size":56,"rcode":"NXDOMAIN","flags":"qr,tc,ra,ad,cd","response_size":110,"ede":15,"took_us":116,"chain":"main","upstream":"corp","cached":true}`},
		{"no response", dropped, `[INFO] 172.20.2.25:44525 - 36259 "A IN x.test. udp 56 false 512" - - 0 0.000116946s`,
			`{"time":"2026-01-02T03:04:05.000006Z","level":"INFO","msg":"query","client":"172.20.2.25","port":44525,"transport":"udp","id":36259,"name":"x.test.","type":"A","class":"IN","do":false,"udp_size":0,"size":56,"took_us":116}`},
		{"no name", nameless, `[INFO] 172.20.2.25:44525 - 36259 "A IN . udp 56 false 512" FORMERR qr,aa,rd 110 0.000116946s`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := string(appendCoreDNS([]byte("?"), tt.entry)); got != "?"+tt.coredns+"\n" {
				t.Errorf("got\n%s\nwant\n%s", got, tt.coredns)
			}
			if got := string(appendJSON([]byte("?"), tt.entry)); tt.json != "" && got != "?"+tt.json+"\n" {
				t.Errorf("got\n%s\nwant\n%s", got, tt.json)
			}
		})
	}
}

// No name makes a line that is more than one, or that a reader takes apart wrongly.
func FuzzLines(f *testing.F) {
	f.Add([]byte("\x03www\x07example\x03com\x00"), uint16(1), uint16(1))
	f.Add([]byte("\x03www\x07exaMple\x03com\x00"), uint16(1), uint16(1))
	f.Add([]byte("\x05a\"\\\n \x04\x00\xff{}\x00"), uint16(65280), uint16(255))
	f.Fuzz(func(t *testing.T, name []byte, qtype, class uint16) {
		query := make([]byte, 12, 300)
		query[5] = 1
		query = append(query, name...)
		query = append(query, byte(qtype>>8), byte(qtype), byte(class>>8), byte(class))
		var q message.Query
		if _, ok := q.Parse(query); !ok {
			return
		}
		e := entry("x")
		e.Type, e.Class = q.Type, q.Class
		e.SetName(q.Name)
		line := appendCoreDNS(nil, e)
		if bytes.Count(line, []byte("\n")) != 1 || len(strings.Fields(string(line))) != 15 {
			t.Errorf("%q", line)
		}
		line = appendJSON(nil, e)
		var object struct{ Name, Type, Class string }
		if err := json.Unmarshal(line, &object); err != nil || bytes.Count(line, []byte("\n")) != 1 {
			t.Fatalf("%v: %q", err, line)
		}
		if back, err := message.ParseName(object.Name); err != nil || !bytes.Equal(back, q.Key) {
			t.Errorf("%q came back as %q, %v", q.Name, back, err)
		}
		if object.Name != message.NameString(q.Name) { // in the case in which it was asked
			t.Errorf("%q is logged as %q", q.Name, object.Name)
		}
		if object.Type != dns.Type(q.Type).String() {
			t.Errorf("type %q", object.Type)
		}
	})
}

// gate is a file that takes nothing while somebody has its token. A channel and not a mutex, so that the clock of a bubble goes on meanwhile.
type gate struct {
	token chan struct{}
	lines int
	fail  error
}

func newGate() *gate { return &gate{token: make(chan struct{}, 1)} }

func (g *gate) shut() { g.token <- struct{}{} }
func (g *gate) open() { <-g.token }

func (g *gate) Write(b []byte) (int, error) {
	g.shut()
	defer g.open()
	if g.fail != nil {
		return 0, g.fail
	}
	g.lines += bytes.Count(b, []byte("\n"))
	return len(b), nil
}

func (g *gate) Close() error { return nil }

func (g *gate) count() int {
	g.shut()
	defer g.open()
	return g.lines
}

func add(l *Log, n int) {
	for range n {
		l.Add(func(e *Entry) { e.Type = 1 })
	}
}

// While the file takes nothing, Add does not wait; what is more than the ring holds is counted, and that is said.
func TestFullRing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said bytes.Buffer
		l := New("", CoreDNS, nil, slog.New(slog.NewTextHandler(&said, nil)))
		g := newGate()
		l.out = g
		g.shut()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { l.Run(ctx); close(ended) }()
		add(l, 1)
		<-time.After(2 * gather)
		synctest.Wait() // until that one is being written
		begin := time.Now()
		add(l, ringSize+100)
		if waited := time.Since(begin); waited != 0 {
			t.Errorf("Add waited for %v", waited)
		}
		g.open()
		<-time.After(10 * gather)
		synctest.Wait()
		if n := g.count(); n != ringSize+1 {
			t.Errorf("%d lines, want %d", n, ringSize+1)
		}
		if got := said.String(); !strings.Contains(got, "missing=100") {
			t.Errorf("the log has %q", got)
		}
		add(l, 5) // it goes on
		cancel()
		<-ended
		if n := g.count(); n != ringSize+6 {
			t.Errorf("%d lines at the end, want %d", n, ringSize+6)
		}
	})
}

// A file that hangs for ever holds up the end for a second.
func TestStuckAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New("", JSON, nil, slog.New(slog.DiscardHandler))
		g := newGate()
		l.out = g
		ctx, cancel := context.WithCancel(t.Context())
		g.shut()
		add(l, 1)
		begin := time.Now()
		cancel()
		l.Run(ctx)
		if took := time.Since(begin); took != lastWrite {
			t.Errorf("Run ended after %v, want %v", took, lastWrite)
		}
		g.open()
		synctest.Wait()
	})
}

func TestFailingFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said bytes.Buffer
		l := New("", JSON, nil, slog.New(slog.NewTextHandler(&said, nil)))
		g := newGate()
		g.fail = io.ErrShortWrite
		l.out = g
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { l.Run(ctx); close(ended) }()
		for range 3 {
			add(l, 1)
			<-time.After(5 * gather)
		}
		cancel()
		<-ended
		if n := strings.Count(said.String(), "lines are lost"); n != 1 || l.dropped.Load() != 3 {
			t.Errorf("said %d times, %d counted; want once, and 3:\n%s", n, l.dropped.Load(), said.String())
		}
	})
}

func TestReopen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "queries.log")
	l := New(path, CoreDNS, nil, slog.New(slog.DiscardHandler))
	if err := l.Open(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { l.Run(ctx); close(ended) }()
	lines := func(path string, want int) {
		t.Helper()
		for range 1000 {
			if b, _ := os.ReadFile(path); bytes.Count(b, []byte("\n")) == want {
				return
			}
			<-time.After(gather)
		}
		t.Fatalf("%s has not %d lines", path, want)
	}
	add(l, 2)
	lines(path, 2)
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	l.Reopen()
	lines(path, 0) // there is a new file
	add(l, 3)
	lines(path, 3)
	cancel()
	<-ended
	lines(path+".1", 2)
}

// Many add while one writes: no line is lost or written twice.
func TestHammer(t *testing.T) {
	l := New("", CoreDNS, nil, slog.New(slog.DiscardHandler))
	g := newGate()
	l.out = g
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { l.Run(ctx); close(ended) }()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() { add(l, 20_000) })
	}
	all.Wait()
	cancel()
	<-ended
	if got, missing := g.count(), int(l.dropped.Load()); got+missing != 160_000 {
		t.Errorf("%d lines and %d missing, want 160000 together", got, missing)
	}
}

func TestAddDoesNotAllocate(t *testing.T) {
	l := New("", JSON, nil, slog.New(slog.DiscardHandler))
	e := entry("www.example.com")
	if n := testing.AllocsPerRun(1000, func() { l.Add(func(to *Entry) { *to = *e }) }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func BenchmarkAdd(b *testing.B) {
	l := New("", JSON, nil, slog.New(slog.DiscardHandler))
	l.out = newGate()
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan struct{})
	go func() { l.Run(ctx); close(ended) }()
	b.ReportAllocs()
	name := entry("www.example.com").Name()
	for b.Loop() {
		l.Add(func(e *Entry) { e.Type = 1; e.SetName(name) })
	}
	b.ReportMetric(float64(l.dropped.Load())/float64(b.N), "dropped/op")
	cancel()
	<-ended
}

func BenchmarkLine(b *testing.B) {
	e := entry("www.example.com")
	for _, bb := range []struct {
		name   string
		append func([]byte, *Entry) []byte
	}{{JSON, appendJSON}, {CoreDNS, appendCoreDNS}} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			dst := make([]byte, 0, 1024)
			for b.Loop() {
				dst = bb.append(dst[:0], e)
			}
		})
	}
}
