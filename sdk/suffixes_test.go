package sdk

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/weirdns/weir/abi"
)

// naive is what Suffixes does, in a way that is plain to see.
func naive(zones map[string]int, name []byte) (value, size int, ok bool) {
	for {
		if value, ok = zones[string(name)]; ok {
			return value, len(name), true
		}
		if len(name) == 1 {
			return 0, 0, false
		}
		name = name[1+int(name[0]):]
	}
}

// call makes a call with a QNAME, in a frame full of octets that must not matter.
func call(name []byte) *Call {
	i := NewInstance(Filter{})
	for j := range i.Frame()[:abi.FrameMessage+64] {
		i.Frame()[j] = 0xAA
	}
	copy(i.Frame()[abi.FrameQname:], name)
	labels := 0
	for at := 0; name[at] != 0; at += 1 + int(name[at]) {
		labels++
	}
	i.call.labels, i.call.qnameSize = uint8(labels), uint16(len(name))
	return &i.call
}

// check compares both ways to look a name up with the naive one.
func check(t *testing.T, s *Suffixes, zones map[string]int, name []byte) {
	t.Helper()
	value, size, ok := naive(zones, name)
	want := fmt.Sprint(value, size, ok)
	value, size, ok = s.Longest(name)
	if got := fmt.Sprint(value, size, ok); got != want {
		t.Errorf("Longest(%s): got %s, want %s", AppendText(nil, name), got, want)
	}
	value, size, ok = call(name).Longest(s)
	if got := fmt.Sprint(value, size, ok); got != want {
		t.Errorf("QNAME %s: got %s, want %s", AppendText(nil, name), got, want)
	}
}

// randomName is a name whose labels are of few letters and of all sizes, so that names share suffixes and octets of them.
func randomName(r *rand.Rand, most int) []byte {
	name := []byte{0}
	for range r.IntN(most + 1) {
		size := 1 + r.IntN(4)
		if r.IntN(8) == 0 {
			size = 1 + r.IntN(63)
		}
		label := []byte{byte(size)}
		for range size {
			label = append(label, "ab\x01\x02\x03"[r.IntN(5)])
		}
		if len(label)+len(name) > MaxName {
			break
		}
		name = append(label, name...)
	}
	return name
}

func TestSuffixesOracle(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for round := range 20 {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			var s Suffixes
			zones := map[string]int{}
			most := []int{1, 3, 6, 20, 127}[round%5]
			for i := range 1 + r.IntN(300) {
				zone := randomName(r, most)
				earlier, had := zones[string(zone)]
				got, ok := s.Set(zone, i)
				if ok == had || had && got != earlier {
					t.Fatalf("Set(%s, %d): got %d, %v; had %d, %v", AppendText(nil, zone), i, got, ok, earlier, had)
				}
				if !had {
					zones[string(zone)] = i
				}
			}
			if s.Len() != len(zones) {
				t.Errorf("Len: got %d, want %d", s.Len(), len(zones))
			}
			for zone := range zones {
				check(t, &s, zones, []byte(zone))
				if len(zone) < 250 {
					check(t, &s, zones, []byte("\x01a"+zone))
					check(t, &s, zones, []byte("\x01b\x02a\x01"+zone))
				}
			}
			for range 300 {
				check(t, &s, zones, randomName(r, 1+r.IntN(127)))
			}
		})
	}
}

// TestSuffixesDeep: zones and names of every number of labels there is.
func TestSuffixesDeep(t *testing.T) {
	var s Suffixes
	zones := map[string]int{}
	for labels := 1; labels <= 127; labels += 3 {
		zone := strings.Repeat("\x01a", labels) + "\x00"
		zones[zone] = labels
		s.Set([]byte(zone), labels)
	}
	for labels := range 128 {
		check(t, &s, zones, []byte(strings.Repeat("\x01a", labels)+"\x00"))
		if labels > 0 {
			check(t, &s, zones, []byte(strings.Repeat("\x01a", labels-1)+"\x01b\x00"))
			check(t, &s, zones, []byte("\x01b"+strings.Repeat("\x01a", labels-1)+"\x00"))
		}
	}
}

func TestSuffixesEmptyAndInvalid(t *testing.T) {
	var s Suffixes
	check(t, &s, nil, []byte{0})
	s.Set([]byte{0}, 1)
	for _, name := range []string{"", "\x01", "\x01a", "\x00\x00", "\x40" + strings.Repeat("a", 64) + "\x00", strings.Repeat("\x01a", 128) + "\x00"} {
		if _, _, ok := s.Longest([]byte(name)); ok {
			t.Errorf("Longest(%q): got a zone, want none: it is no name", name)
		}
	}
}

func FuzzSuffixes(f *testing.F) {
	f.Add([]byte("\x03com\x00\x07example\x03com\x00\x03www\x07example\x03com\x00"))
	f.Fuzz(func(t *testing.T, octets []byte) {
		var s Suffixes
		zones := map[string]int{}
		var names [][]byte
		for n := CheckName(octets); n > 0; n = CheckName(octets) {
			names = append(names, octets[:n])
			if len(names)%2 == 0 {
				if _, ok := s.Set(octets[:n], len(names)); ok {
					zones[string(octets[:n])] = len(names)
				}
			}
			octets = octets[n:]
		}
		for _, name := range names {
			check(t, &s, zones, name)
		}
		if _, _, ok := s.Longest(octets); ok && CheckName(octets) != len(octets) {
			t.Errorf("Longest(%q): got a zone for what is no name", octets)
		}
	})
}

func TestLongestAllocates(t *testing.T) {
	var s Suffixes
	for i := range 1000 {
		zone, _ := AppendName(nil, fmt.Appendf(nil, "zone%d.example.com", i))
		s.Set(zone, i)
	}
	name, _ := AppendName(nil, []byte("www.zone471.example.com"))
	c := call(name)
	if n := testing.AllocsPerRun(100, func() { c.Longest(&s); s.Longest(name) }); n != 0 {
		t.Errorf("got %v allocations, want none", n)
	}
}

func BenchmarkSuffixes(b *testing.B) {
	var s Suffixes
	for i := range 10_000 {
		zone, _ := AppendName(nil, fmt.Appendf(nil, "zone%d.example.com", i))
		s.Set(zone, i)
	}
	for _, text := range []string{"www.zone4711.example.com", "www.other.example.net", "a.b.c.d.e.f.zone4711.example.com"} {
		name, _ := AppendName(nil, []byte(text))
		c := call(bytes.Clone(name))
		b.Run(text, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.Longest(&s)
			}
		})
	}
}
