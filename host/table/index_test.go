package table

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/weirdns/weir/host/message"
)

// oracle is a table as simple as it can be: names as lists of labels from the root on.
type oracle struct {
	nodes map[string]bool // key: is it a cut or DNAME
	zone  string
}

func (o *oracle) names() []string {
	var names []string
	for name := range o.nodes {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return slices.Compare(reversed(a), reversed(b)) })
	return names
}

// reversed returns the labels of a name in wire format from the root on: RFC 4034 section 6.1 compares these.
func reversed(name string) (labels []string) {
	for name != "\x00" {
		labels = append(labels, name[1:1+name[0]])
		name = name[1+name[0]:]
	}
	slices.Reverse(labels)
	return labels
}

// longest walks down from the root.
func (o *oracle) longest(name string) (found string, ok bool) {
	var suffixes []string
	for rest := name; ; rest = rest[1+rest[0]:] {
		suffixes = append(suffixes, rest)
		if rest == "\x00" {
			break
		}
	}
	for _, suffix := range slices.Backward(suffixes) {
		stop, is := o.nodes[suffix]
		if is {
			found, ok = suffix, true
		}
		if stop && o.zone != "" {
			break
		}
	}
	return found, ok
}

func (o *oracle) next(name string) (string, bool) {
	for _, n := range o.names() {
		if name == "" || slices.Compare(reversed(n), reversed(name)) > 0 {
			return n, true
		}
	}
	return "", false
}

// randomName makes a name of few different labels, so that names meet, below a suffix.
func randomName(r *rand.Rand, suffix string) string {
	name := suffix
	for range r.IntN(5) {
		label := []string{"a", "b", "c", "ab", "*", "\x00", "\x01", "a\x00", "zz", "b\x01a"}[r.IntN(10)]
		name = string(byte(len(label))) + label + name
	}
	return name
}

// compare checks all that an index answers about a name.
func compare(t *testing.T, x Snapshot, o *oracle, name string) {
	t.Helper()
	value, ok := x.Get([]byte(name))
	if _, want := o.nodes[name]; ok != want {
		t.Errorf("Get(%q) = %x, %v, want %v", name, value, ok, want)
	}
	matched, value, ok := x.Longest([]byte(name))
	want, wantOK := o.longest(name)
	if ok != wantOK || matched != len(want) {
		t.Errorf("Longest(%q) = %d, %v, want %q, %v", name, matched, ok, want, wantOK)
	} else if ok {
		if exact, _ := x.Get([]byte(want)); !bytes.Equal(exact, value) {
			t.Errorf("Longest(%q) gives the value %x, want that of %q, %x", name, value, want, exact)
		}
	}
	next, value, ok := x.Next([]byte(name))
	want, wantOK = o.next(name)
	if ok != wantOK || string(next) != want {
		t.Errorf("Next(%q) = %q, %v, want %q, %v", name, next, ok, want, wantOK)
	} else if exact, _ := x.Get(next); !bytes.Equal(exact, value) {
		t.Errorf("Next(%q) gives the value %x, want that of %q, %x", name, value, next, exact)
	}
}

// TestRandomZones compares zones with the oracle.
func TestRandomZones(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 0))
		apex := []string{"\x00", "\x01a\x00", "\x02ab\x01a\x00"}[seed%3]
		o := &oracle{nodes: map[string]bool{apex: false}, zone: apex}
		var text strings.Builder
		fmt.Fprintf(&text, "%s 1 SOA . . 1 2 3 4 5\n", message.NameString([]byte(apex)))
		isData := map[string]bool{apex: true}
		for range 1 + r.IntN(60) {
			name := randomName(r, apex)
			if isData[name] {
				continue
			}
			isData[name] = true
			stop := r.IntN(6) == 0 && !strings.HasPrefix(name, "\x01*")
			if stop {
				fmt.Fprintf(&text, "%s 1 NS ns.elsewhere.\n", message.NameString([]byte(name)))
			}
			fmt.Fprintf(&text, "%s 1 A 192.0.2.1\n", message.NameString([]byte(name)))
			o.nodes[name] = stop
			for rest := name; rest != apex; rest = rest[1+rest[0]:] { // empty non-terminals
				if _, ok := o.nodes[rest]; !ok {
					o.nodes[rest] = false
				}
			}
		}
		// NS records below a cut are mistakes: only the topmost of them stay.
		var lines []string
		for line := range strings.Lines(text.String()) {
			owner := string(wire(t, line[:strings.Index(line, " 1 ")]))
			if top, _ := o.longest(owner); strings.Contains(line, " NS ") && top != owner {
				continue
			}
			lines = append(lines, line)
		}
		r.Shuffle(len(lines), func(i, j int) { lines[i], lines[j] = lines[j], lines[i] })
		x := openZone(t, strings.Join(lines, ""))
		for n := range o.nodes {
			if top, _ := o.longest(n); top != n {
				o.nodes[n] = false
			}
		}
		if x.Len() != len(o.nodes) {
			t.Fatalf("seed %d: %d keys, want %d", seed, x.Len(), len(o.nodes))
		}
		for range 150 {
			suffix := []string{apex, apex, "\x00", "\x01b\x00"}[r.IntN(4)]
			compare(t, x, o, randomName(r, suffix))
		}
		checkWalk(t, x, o)
		if t.Failed() {
			t.Fatalf("seed %d, zone\n%s", seed, strings.Join(lines, ""))
		}
	}
}

// checkWalk goes through all keys.
func checkWalk(t *testing.T, x Snapshot, o *oracle) {
	t.Helper()
	var got []string
	for key, _, ok := x.Next(nil); ok; key, _, ok = x.Next(key) {
		got = append(got, string(key))
	}
	if want := o.names(); !slices.Equal(got, want) {
		t.Errorf("keys in order: got %q, want %q", got, want)
	}
}

// TestRandomNames compares lists of names with the oracle.
func TestRandomNames(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		o := &oracle{nodes: map[string]bool{}}
		var text strings.Builder
		for i := range r.IntN(50) {
			name := randomName(r, "\x00")
			if _, ok := o.nodes[name]; !ok {
				fmt.Fprintf(&text, "%s text %d\n", message.NameString([]byte(name)), i)
			}
			o.nodes[name] = false
		}
		x := open(t, Config{Names: "n"}, write(t, map[string]string{"n": text.String()})).Snapshot()
		for range 200 {
			compare(t, x, o, randomName(r, "\x00"))
		}
		checkWalk(t, x, o)
		if t.Failed() {
			t.Fatalf("seed %d, names\n%s", seed, text.String())
		}
	}
}

// TestDeepNames has names of the greatest number of labels, and what is no name at all.
func TestDeepNames(t *testing.T) {
	deep := strings.Repeat("a.", 127)
	x := openZone(t, "$ORIGIN .\n@ 1 SOA . . 1 2 3 4 5\n"+deep+" 1 A 192.0.2.1\n")
	if x.Len() != 128 {
		t.Errorf("%d keys, want 128", x.Len())
	}
	name := wire(t, deep)
	if matched, _, ok := x.Longest(name); !ok || matched != 255 {
		t.Errorf("Longest = %d, %v, want 255", matched, ok)
	}
	name[1] = 'b'
	if matched, _, ok := x.Longest(name); !ok || matched != 253 {
		t.Errorf("Longest = %d, %v, want 253", matched, ok)
	}
	names := open(t, Config{Names: "n"}, write(t, map[string]string{"n": "a x\n"})).Snapshot()
	prefixes := open(t, Config{Prefixes: "p"}, write(t, map[string]string{"p": "10.0.0.0/8 x\n"})).Snapshot()
	for _, bad := range []string{"\x01", "\x01a", "\x40" + strings.Repeat("a", 64) + "\x00", "\x00\x00", "\x00\x01a\x00", "\xc0\x0c", "\x01a\x00\x00",
		strings.Repeat("\x01a", 128) + "\x00", strings.Repeat("\x00", 300), strings.Repeat("\xff", 300)} {
		for _, s := range []Snapshot{x, names, prefixes} {
			if _, ok := s.Get([]byte(bad)); ok {
				t.Errorf("Get(%q) found something", bad)
			}
			if _, _, ok := s.Longest([]byte(bad)); ok {
				t.Errorf("Longest(%q) found something", bad)
			}
			if _, _, ok := s.Next([]byte(bad)); ok {
				t.Errorf("Next(%q) found something", bad)
			}
			if _, _, ok := s.Prefix([]byte(bad)); ok {
				t.Errorf("Prefix(%q) found something", bad)
			}
		}
	}
	if _, _, ok := x.Longest(nil); ok {
		t.Error("Longest(nil) found something")
	}
}

// TestApexInsideLabel looks for names whose octets end like the apex, but not their labels.
func TestApexInsideLabel(t *testing.T) {
	x := openZone(t, "$ORIGIN a.\n@ 1 SOA . . 1 2 3 4 5\nx 1 A 192.0.2.1\n")
	for _, name := range []string{"x\\001a.", "b.x\\001a.", "b.c.x\\001a."} {
		if matched, _, ok := x.Longest(wire(t, name)); ok {
			t.Errorf("Longest(%s) = %d, want nothing: it is not in the zone a.", name, matched)
		}
	}
	for name, want := range map[string]int{"a.": 3, "x.a.": 5, "b.x.a.": 5, "x\\001a.a.": 3} {
		if matched, _, ok := x.Longest(wire(t, name)); !ok || matched != want {
			t.Errorf("Longest(%s) = %d, %v, want %d", name, matched, ok, want)
		}
	}
}

func TestOrderKey(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		a, b := randomName(r, "\x00"), randomName(r, "\x00")
		ka, kb := appendOrderKey(nil, []byte(a)), appendOrderKey(nil, []byte(b))
		if got, want := bytes.Compare(ka, kb), slices.Compare(reversed(a), reversed(b)); got != want {
			t.Fatalf("order of %q and %q: got %d, want %d", a, b, got, want)
		}
		if got := appendName(nil, ka); string(got) != a {
			t.Fatalf("name of the order key of %q: got %q", a, got)
		}
	}
}

func TestNoAllocations(t *testing.T) {
	zone := openZone(t, soa+"c 1 NS ns.c\nns.c 1 A 192.0.2.1\na.b 1 A 192.0.2.1\n")
	table := open(t, Config{Prefixes: "p"}, write(t, map[string]string{"p": "10.0.0.0/8 x\n2001:db8::/32\n"}))
	name, key, below := wire(t, "x.y.example"), wire(t, "a.b.example"), wire(t, "x.ns.c.example")
	v4, v6 := []byte{10, 1, 2, 3}, wire(t, "some.16.octets")
	if allocs := testing.AllocsPerRun(100, func() {
		zone.Get(key)
		zone.Longest(key)
		zone.Longest(name)
		zone.Longest(below)
		zone.Next(nil)
		zone.Next(key)
		zone.Next(name)
		s := table.Snapshot()
		s.Prefix(v4)
		s.Prefix(v6)
	}); allocs != 0 {
		t.Errorf("%v allocations, want 0", allocs)
	}
}
