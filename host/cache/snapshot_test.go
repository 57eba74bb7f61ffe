package cache

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/host/internal/fuzzing"
	"github.com/weirdns/weir/host/internal/race"
	"github.com/weirdns/weir/host/message"
)

// reopen makes a cache with a snapshot in dir, as a start of weir does. What it logs is in the buffer.
func reopen(t testing.TB, dir string, c Config, next message.Resolver, now func() time.Time, id byte) (*Cache, *bytes.Buffer) {
	t.Helper()
	c.Snapshot = dir
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	var lines bytes.Buffer
	cache := New("test", c, next, Env{Now: now, Log: slog.New(slog.NewTextHandler(&lines, nil)), Identity: Identity{id}})
	t.Cleanup(cache.Close)
	cache.Restore(t.Context())
	return cache, &lines
}

func mustResolve(t testing.TB, c *Cache, q *message.Query) message.Response {
	t.Helper()
	r, err := c.Resolve(t.Context(), q, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestRestart has an answer of 100 s and a denial of 60 s survive a restart, and time go by meanwhile: what has ended is stale, and never fresh.
func TestRestart(t *testing.T) {
	const stale = 30 // the TTL of stale answers
	for _, tt := range []struct {
		name   string
		before time.Duration // between the answers and the snapshot
		after  time.Duration // and until the start
		change func(*Config)
		id     byte
		answer []uint32 // TTLs of the answer with data when the upstream is silent, nil: there is none
		denial []uint32
	}{
		{name: "at once", answer: []uint32{100}, denial: []uint32{60}},
		{name: "later", before: 10 * time.Second, after: 20 * time.Second, answer: []uint32{70}, denial: []uint32{30}},
		{name: "less than a second left", after: 99500 * time.Millisecond, answer: []uint32{1}, denial: []uint32{stale}},
		{name: "one has ended", before: 30 * time.Second, after: 30 * time.Second, answer: []uint32{40}, denial: []uint32{stale}},
		{name: "both have ended", after: time.Hour, answer: []uint32{stale}, denial: []uint32{stale}},
		{name: "ended before the snapshot", before: time.Hour, answer: []uint32{stale}, denial: []uint32{stale}},
		{name: "too old", after: 24*time.Hour + 100*time.Second},
		{name: "one too old", after: 24*time.Hour + 60*time.Second, answer: []uint32{stale}},
		{name: "no stale answers", after: 70 * time.Second, change: func(c *Config) { c.ServeStale = 0 }, answer: []uint32{30}},
		{name: "clock set back", before: 10 * time.Second, after: -5 * time.Second, answer: []uint32{stale}, denial: []uint32{stale}},
		{name: "clock set back, no stale answers", after: -time.Hour, change: func(c *Config) { c.ServeStale = 0 }},
		{name: "ten years later", after: 10 * 365 * 24 * time.Hour},
		{name: "another configuration", id: 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := preset("weir")
			if tt.change != nil {
				tt.change(&c)
			}
			var clk clock
			dir := filepath.Join(t.TempDir(), "snapshots")
			up := &server{answer: func(_ context.Context, q *message.Query) (*dns.Msg, error) {
				if q.Type == dns.TypeA {
					return respond(q, dns.RcodeSuccess, "an www.example. 100 A 192.0.2.1", "ede 4"), nil
				}
				return respond(q, dns.RcodeSuccess, "ns example. 60 SOA ns.example. me.example. 1 2 3 4 300"), nil
			}}
			first, _ := reopen(t, dir, c, up, clk.now, 0)
			want := map[uint16]message.Response{}
			for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
				want[qtype] = mustResolve(t, first, ask("WWW.example.", qtype, clk.now()))
			}
			clk.pass(tt.before)
			if err := first.Save(t.Context()); err != nil {
				t.Fatal(err)
			}
			clk.pass(tt.after)
			second, lines := reopen(t, dir, c, silent(), clk.now, tt.id)
			for qtype, ttl := range map[uint16][]uint32{dns.TypeA: tt.answer, dns.TypeAAAA: tt.denial} {
				q := ask("www.EXAMPLE.", qtype, clk.now())
				q.Trace = new(message.Trace)
				r, err := second.Resolve(t.Context(), q, nil)
				if ttl == nil {
					if err == nil {
						t.Errorf("type %d: got %v, want no answer\n%s", qtype, unpack(t, q, r), lines)
					}
					continue
				}
				if err != nil {
					t.Errorf("type %d: %v, want an answer\n%s", qtype, err, lines)
					continue
				}
				if r.RCODE != want[qtype].RCODE || r.Class != want[qtype].Class || !r.Cached {
					t.Errorf("type %d: RCODE %d, class %d, want those of %+v", qtype, r.RCODE, r.Class, want[qtype])
				}
				m := unpack(t, q, r)
				if got := ttls(m); len(got) != 1 || got[0] != ttl[0] {
					t.Errorf("type %d: TTLs %d, want %d", qtype, got, ttl)
				}
				if qtype == dns.TypeA && m.Answer[0].(*dns.A).A.String() != "192.0.2.1" {
					t.Errorf("got %v", m.Answer)
				}
				isStale := ttl[0] == stale && !strings.Contains(explained(q), "from the snapshot")
				wantCodes := "[]"
				if qtype == dns.TypeA {
					wantCodes = "[4]"
					if isStale {
						wantCodes = "[3 4]"
					}
				} else if isStale {
					wantCodes = "[3]"
				}
				if got := fmt.Sprint(codes(r)); got != wantCodes {
					t.Errorf("type %d: Extended DNS Errors %s, want %s\n%s", qtype, got, wantCodes, explained(q))
				}
			}
		})
	}
}

// TestRestartForgets: failures don't outlive the process, and what an upstream said again or took back is as it said last.
func TestRestartForgets(t *testing.T) {
	var clk clock
	dir := t.TempDir()
	address, fails := "192.0.2.1", false
	up := &server{answer: func(_ context.Context, q *message.Query) (*dns.Msg, error) {
		switch {
		case fails:
			return respond(q, dns.RcodeServerFailure), nil
		case strings.HasPrefix(string(q.Key[1:]), "zero"):
			return respond(q, dns.RcodeSuccess, "an zero.example. 0 A 192.0.2.9"), nil
		}
		return respond(q, dns.RcodeSuccess, "an www.example. 100 A "+address), nil
	}}
	first, _ := reopen(t, dir, preset("weir"), up, clk.now, 0)
	mustResolve(t, first, ask("www.example.", dns.TypeA, clk.now()))
	mustResolve(t, first, ask("zero.example.", dns.TypeA, clk.now()))
	clk.pass(101 * time.Second)
	address = "192.0.2.22"
	mustResolve(t, first, ask("www.example.", dns.TypeA, clk.now()))
	fails = true
	mustResolve(t, first, ask("bad.example.", dns.TypeA, clk.now()))
	if err := first.Save(t.Context()); err != nil {
		t.Fatal(err)
	}
	second, lines := reopen(t, dir, preset("weir"), silent(), clk.now, 0)
	if got := second.Stats().Restored; got != 1 {
		t.Errorf("%d entries restored, want 1\n%s", got, lines)
	}
	r, ok := second.Cached(ask("www.example.", dns.TypeA, clk.now()), nil)
	if !ok || !bytes.Contains(r.Message, []byte{192, 0, 2, 22}) {
		t.Errorf("got %v, % x, want the last answer", ok, r.Message)
	}
}

// filled makes a cache with n answers, each with its own address, and returns the names.
func filled(t testing.TB, dir string, n int, c Config, now func() time.Time) (*Cache, []string) {
	t.Helper()
	up := &server{answer: func(_ context.Context, q *message.Query) (*dns.Msg, error) {
		return respond(q, dns.RcodeSuccess, "an "+nameOf(q)+" 300 TXT \""+strings.Repeat(nameOf(q), 4)+"\"", "ede 4"), nil
	}}
	cache, _ := reopen(t, dir, c, up, now, 0)
	var names []string
	for i := range n {
		name := fmt.Sprintf("n%d.example.", i)
		names = append(names, name)
		if _, err := cache.Resolve(t.Context(), ask(name, dns.TypeTXT, now()), nil); err != nil {
			t.Fatal(err)
		}
	}
	return cache, names
}

func nameOf(q *message.Query) string { return string(message.AppendNameText(nil, q.Key)) }

// small is a configuration whose store is made in no time.
func small() Config {
	return preset("weir", func(c *Config) {
		c.Success.Capacity, c.Success.Octets = 1000, minOctets
		c.Denial.Capacity, c.Denial.Octets = 1000, minOctets
	})
}

// TestBitFlips turns bits of a snapshot over, one at a time and several, and reads it: each answer is the right one, or there is none.
func TestBitFlips(t *testing.T) {
	rounds := race.Rounds(100_000, 5000)
	if testing.Short() {
		rounds = 5000
	}
	var clk clock
	first, names := filled(t, t.TempDir(), 120, small(), clk.now)
	var file bytes.Buffer
	if err := first.writeSnapshot(t.Context(), &file); err != nil {
		t.Fatal(err)
	}
	type asked struct {
		q    *message.Query
		want []byte
	}
	var all []asked
	for _, name := range names {
		q := ask(name, dns.TypeTXT, clk.now())
		r, ok := first.Cached(q, nil)
		if !ok {
			t.Fatalf("%s is not in the cache", name)
		}
		all = append(all, asked{q, r.Message})
	}
	random := rand.New(rand.NewPCG(5, 6))
	whole, none, entries := 0, 0, 0
	octets, dst := make([]byte, file.Len()), make([]byte, 0, 4096)
	var c *Cache
	for i := range rounds {
		copy(octets, file.Bytes())
		flips := 1
		if i%4 == 3 {
			flips = 2 + random.IntN(6)
		}
		for range flips {
			octets[random.IntN(len(octets))] ^= 1 << random.IntN(8)
		}
		if c == nil || c.Stats().Restored > 0 { // one that is empty is as good as new
			if c != nil {
				c.Close()
			}
			c = New("test", small(), silent(), Env{Now: clk.now})
		}
		n, err := c.readSnapshot(t.Context(), bytes.NewReader(octets))
		if err == nil && !bytes.Equal(octets, file.Bytes()) {
			t.Fatalf("round %d: a damaged file was read without an error", i)
		}
		switch n.entries {
		case len(all):
			whole++
		case 0:
			none++
		}
		entries += n.entries
		c.restored.Add(uint64(n.entries))
		for j := range 8 { // of the names, another part each round
			a := &all[(8*i+j)%len(all)]
			if r, ok := c.Cached(a.q, dst); ok && !bytes.Equal(r.Message, a.want) {
				t.Fatalf("round %d: %s got % x, want % x", i, names[(8*i+j)%len(all)], r.Message, a.want)
			}
		}
	}
	c.Close()
	t.Logf("%d files of %d octets: %d whole, %d empty, %d of %d entries in all", rounds, file.Len(), whole, none, entries, rounds*len(all))
	if entries == 0 || none == 0 {
		t.Errorf("%d entries and %d files without any: the test saw one side only", entries, none)
	}
}

// TestForeignFiles: what is no snapshot of this cache, or not a whole one, is said in one line, and nothing of it is wrong.
func TestForeignFiles(t *testing.T) {
	var clk clock
	dir := t.TempDir()
	first, names := filled(t, dir, 200, small(), clk.now)
	if err := first.Save(t.Context()); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "test.snapshot")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed := func(at int, to byte) []byte {
		b := bytes.Clone(good)
		b[at] = to
		return b
	}
	for _, tt := range []struct {
		name   string
		octets []byte
		line   string
		some   bool // of the entries are there all the same
	}{
		{"empty", nil, "ends after 0 octets", false},
		{"another format", bytes.Repeat([]byte("PNG"), 100), "no snapshot", false},
		{"only a head", good[:snapshotHead], "ends in the head of block 0", false},
		{"half a head", good[:20], "ends after 20 octets", false},
		{"a later version", changed(8, 2), "version 2, and this weir reads version 1 only", false},
		{"clock in the head", changed(20, good[20]+1), "checksum is wrong", false},
		{"checksum in the head", changed(50, good[50]+1), "checksum is wrong", false},
		{"half", good[:len(good)/2], "ends after", true},
		{"without its end", good[:len(good)-blockHead], "ends in the head of block", true},
		{"a block of another file", append(bytes.Clone(good[:len(good)-blockHead]), good[snapshotHead:]...), "is damaged", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := os.WriteFile(path, tt.octets, 0o600); err != nil {
				t.Fatal(err)
			}
			c, lines := reopen(t, dir, small(), silent(), clk.now, 0)
			if got := lines.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "level=WARN") || !strings.Contains(got, tt.line) {
				t.Errorf("logged %q, want one line with %q", got, tt.line)
			}
			if got := c.Stats().Entries[0] > 0; got != tt.some {
				t.Errorf("entries: %v, want %v", got, tt.some)
			}
			for _, name := range names {
				r, ok := c.Cached(ask(name, dns.TypeTXT, clk.now()), nil)
				if ok && !bytes.Contains(r.Message, []byte(strings.Repeat(name, 4))) {
					t.Errorf("%s: got % x", name, r.Message)
				}
			}
		})
	}
}

// TestSaveFails: a disk that takes nothing is told of once an hour, counted, and changes nothing else; the file that there is stays.
func TestSaveFails(t *testing.T) {
	var clk clock
	dir := filepath.Join(t.TempDir(), "snapshots")
	c, names := filled(t, dir, 10, small(), clk.now)
	var lines bytes.Buffer
	c.log = slog.New(slog.NewTextHandler(&lines, nil))
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := c.Save(t.Context()); err == nil {
			t.Fatal("saved into a directory that is not there")
		}
		if _, ok := c.Cached(ask(names[0], dns.TypeTXT, clk.now()), nil); !ok {
			t.Error("an answer is gone")
		}
		clk.pass(time.Minute)
	}
	if got := strings.Count(lines.String(), "\n"); got != 1 {
		t.Errorf("%d lines, want 1:\n%s", got, &lines)
	}
	clk.pass(time.Hour)
	c.Save(t.Context()) //nolint:errcheck // it fails, which is looked at below
	if got := strings.Count(lines.String(), "\n"); got != 2 {
		t.Errorf("%d lines after an hour, want 2:\n%s", got, &lines)
	}
	if got := c.Stats().Snapshots; got != [2]uint64{0, 4} {
		t.Errorf("counted %d, want [0 4]", got)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := c.Save(t.Context()); err != nil || !strings.Contains(lines.String(), "written again") {
		t.Errorf("%v\n%s", err, &lines)
	}
}

// fullDisk takes some octets.
type fullDisk struct{ left int }

var errFull = errors.New("no space left on device")

func (d *fullDisk) Write(b []byte) (int, error) {
	n := min(len(b), d.left)
	if d.left -= n; n < len(b) {
		return n, errFull
	}
	return n, nil
}

// TestFullDisk has the disk fill up at each octet, as it were.
func TestFullDisk(t *testing.T) {
	var clk clock
	c, _ := filled(t, t.TempDir(), 50, small(), clk.now)
	var file bytes.Buffer
	if err := c.writeSnapshot(t.Context(), &file); err != nil {
		t.Fatal(err)
	}
	for n := range file.Len() {
		if err := c.writeSnapshot(t.Context(), &fullDisk{n}); !errors.Is(err, errFull) {
			t.Fatalf("after %d of %d octets: %v, want %v", n, file.Len(), err, errFull)
		}
	}
}

// TestLeftovers: what was being written when weir was killed is removed at the next start, and one snapshot that can't be finished leaves nothing.
func TestLeftovers(t *testing.T) {
	var clk clock
	dir := t.TempDir()
	for _, name := range []string{"test.snapshot.123.new", "other.snapshot.5.new"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("weircach"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, _ := filled(t, dir, 10, small(), clk.now)
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Save(done); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(names) != 1 || filepath.Base(names[0]) != "other.snapshot.5.new" {
		t.Errorf("%q, %v, want only what belongs to another upstream", names, err)
	}
}

// TestFullCacheRestart: of a cache that is full, and has seen evictions, nearly everything is there again, though its entries are spread over the shards in
// another way.
func TestFullCacheRestart(t *testing.T) {
	n := 20_000
	config := preset("weir", func(c *Config) { c.Success.Capacity, c.Success.Octets = n, 16<<20 })
	var clk clock
	dir := t.TempDir()
	first, names := filled(t, dir, n+n/2, config, clk.now)
	before, held := first.Stats().Entries[0], map[string]bool{}
	for _, name := range names {
		if _, ok := first.Cached(ask(name, dns.TypeTXT, clk.now()), nil); ok {
			held[name] = true
		}
	}
	if err := first.Save(t.Context()); err != nil {
		t.Fatal(err)
	}
	second, lines := reopen(t, dir, config, silent(), clk.now, 0)
	again := 0
	for name := range held {
		if _, ok := second.Cached(ask(name, dns.TypeTXT, clk.now()), nil); ok {
			again++
		}
	}
	if again < before*95/100 || len(held) != before {
		t.Errorf("%d of %d (%d) answers are there again, want 95%%\n%s", again, before, len(held), lines)
	}
}

// TestSaveAllocations: writing allocates nothing for an entry.
func TestSaveAllocations(t *testing.T) {
	var clk clock
	c, _ := filled(t, t.TempDir(), 5000, preset("weir"), clk.now)
	if got := testing.AllocsPerRun(5, func() {
		if err := c.writeSnapshot(t.Context(), io.Discard); err != nil {
			t.Error(err)
		}
	}); got > 5 {
		t.Errorf("%v allocations for 5000 entries, want a handful for all", got)
	}
}

// TestSnapshotHammer saves while the cache is used, full and changing: each snapshot is whole, and each answer from it is right.
func TestSnapshotHammer(t *testing.T) {
	now := func() time.Time { return epoch }
	up := &server{answer: func(_ context.Context, q *message.Query) (*dns.Msg, error) {
		return respond(q, dns.RcodeSuccess, "an "+nameOf(q)+" 300 TXT \""+nameOf(q)+"\""), nil
	}}
	c := open(t, small(), up, now)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var using sync.WaitGroup
	for i := range 4 {
		using.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 1))
			for ctx.Err() == nil {
				q := ask(fmt.Sprintf("n%d.example.", random.IntN(3000)), dns.TypeTXT, epoch)
				q.Deadline = epoch.Add(time.Hour) // on a machine that has other things to do
				if _, err := c.Resolve(t.Context(), q, nil); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 200 {
		var file bytes.Buffer
		if err := c.writeSnapshot(t.Context(), &file); err != nil {
			t.Fatal(err)
		}
		d := New("test", small(), silent(), Env{Now: now})
		if _, err := d.readSnapshot(t.Context(), &file); err != nil {
			t.Fatal(err)
		}
		for i := range 100 {
			name := fmt.Sprintf("n%d.example.", i)
			if r, ok := d.Cached(ask(name, dns.TypeTXT, epoch), nil); ok && !bytes.Contains(r.Message, []byte(name)) {
				t.Fatalf("%s: got % x", name, r.Message)
			}
		}
		d.Close()
	}
	cancel()
	using.Wait()
}

// FuzzSnapshot reads what is no snapshot, and entries that have the right checksums but were never written by weir: nothing panics, and an answer is
// one to its question.
func FuzzSnapshot(f *testing.F) {
	c, _ := filled(f, f.TempDir(), 5, small(), func() time.Time { return epoch })
	var file bytes.Buffer
	if err := c.writeSnapshot(f.Context(), &file); err != nil {
		f.Fatal(err)
	}
	octets := file.Bytes()
	f.Add(octets)
	f.Add(octets[snapshotHead+blockHead : len(octets)-blockHead]) // entries
	f.Fuzz(func(t *testing.T, octets []byte) {
		clk := func() time.Time { return epoch.Add(time.Second) }
		plain := New("test", small(), silent(), Env{Now: clk})
		defer plain.Close()
		fuzzing.Bounded(t, len(octets), 2*maxBlock, func() { // the buffer for a block
			plain.readSnapshot(t.Context(), bytes.NewReader(octets)) //nolint:errcheck // nearly all is damaged
		})
		if len(octets) > maxBlock {
			return
		}
		var head bytes.Buffer
		empty := New("test", small(), silent(), Env{Now: func() time.Time { return epoch }, Subnets: all32})
		defer empty.Close()
		if err := empty.writeSnapshot(t.Context(), &head); err != nil {
			t.Fatal(err)
		}
		sealed := head.Bytes()[:snapshotHead]
		block := append(make([]byte, blockHead), octets...)
		sealBlock(block, 0, 0, binary.LittleEndian.Uint64(sealed[snapshotSum:]))
		sealed = append(sealed, block...)
		d := New("test", small(), silent(), Env{Now: clk, Subnets: all32})
		defer d.Close()
		n, _ := d.readSnapshot(t.Context(), bytes.NewReader(sealed))
		if got := d.Stats().Entries; got[0]+got[1] > n.entries {
			t.Fatalf("%d entries, of %d taken", got, n.entries)
		}
		for b := octets; len(b) >= entryHead; {
			e := entry(b)
			if e.room() < entryHead || e.room() > len(b) || e.size() > e.room() {
				return
			}
			b = b[e.room():]
			k := e.key()
			if !d.validKey(k) {
				return
			}
			var q message.Query
			queryOf(&q, k, nil)
			if q.Name == nil {
				return
			}
			q.Deadline = clk().Add(time.Second)
			if r, ok := d.Cached(&q, nil); ok {
				var again message.Response
				if err := again.Parse(bytes.Clone(r.Message), &q.Question); err != nil {
					t.Fatalf("the answer to % x: %v\n% x", k, err, r.Message)
				}
			}
		}
	})
}
