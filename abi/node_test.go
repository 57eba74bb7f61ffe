//go:build !wasip1

package abi

import (
	"bytes"
	"encoding/hex"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// www is a node with two addresses and a text, octet by octet as README.md section 6 draws it.
const www = "00 00 0200" +
	" 0100 0200 20000000" + // A, 2 records, 32 octets
	" 1000 0100 0f000000" + // TXT, 1 record, 15 octets
	" c00c 0001 0001 0000012c 0004 c0000201" +
	" c00c 0001 0001 0000012c 0004 c0000202" +
	" c00c 0010 0001 0000003c 0003 026f6b"

var wwwSets = []RRset{
	{Type: 1, TTL: 300, Data: [][]byte{{192, 0, 2, 1}, {192, 0, 2, 2}}},
	{Type: 16, TTL: 60, Data: [][]byte{{2, 'o', 'k'}}},
}

func octets(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestAppendNode(t *testing.T) {
	got, err := AppendNode([]byte("???"), 0, wwwSets...)
	if err != nil {
		t.Fatal(err)
	}
	if want := append([]byte("???"), octets(t, www)...); !bytes.Equal(got, want) {
		t.Errorf("AppendNode:\n got %x\nwant %x", got, want)
	}
	if allocs := testing.AllocsPerRun(100, func() { got, _ = AppendNode(got[:0], 0, wwwSets...) }); allocs != 0 {
		t.Errorf("AppendNode into a buffer with room: %v allocations, want 0", allocs)
	}
}

func TestNodeFlags(t *testing.T) {
	set := func(types ...uint16) (sets []RRset) {
		for _, t := range types {
			sets = append(sets, RRset{Type: t, Data: [][]byte{{0}}})
		}
		return sets
	}
	tests := []struct {
		name  string
		flags uint8
		sets  []RRset
		want  uint8
	}{
		{"empty non-terminal", 0, nil, NodeEmpty},
		{"empty non-terminal above a wildcard", NodeWildcard, nil, NodeEmpty | NodeWildcard},
		{"data", 0, set(1, 16), 0},
		{"zone cut", 0, set(2, 43), NodeCut},
		{"NS of the apex", NodeApex, set(2, 6), NodeApex},
		{"DNAME at the apex", NodeApex, set(2, 6, 39), NodeApex | NodeDNAME},
		{"CNAME with its signature", 0, set(5, 46), NodeCNAME},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			node, err := AppendNode(nil, tt.flags, tt.sets...)
			if err != nil {
				t.Fatal(err)
			}
			flags, sets, err := ParseNode(node)
			if err != nil || flags != tt.want || !reflect.DeepEqual(sets, tt.sets) {
				t.Errorf("ParseNode = %#02x, %v, %v, want %#02x, %v", flags, sets, err, tt.want, tt.sets)
			}
		})
	}
}

func TestAppendNodeRefuses(t *testing.T) {
	tests := []struct {
		name  string
		flags uint8
		sets  []RRset
		want  string
	}{
		{"flag that the RRsets tell", NodeCut, nil, "only those of the apex"},
		{"wrong order", 0, []RRset{wwwSets[1], wwwSets[0]}, "type 1 comes after that of type 16"},
		{"type twice", 0, []RRset{wwwSets[0], wwwSets[0]}, "type 1 comes after that of type 1"},
		{"no record", 0, []RRset{{Type: 1}}, "has 0 records"},
		{"too many records", 0, []RRset{{Type: 1, Data: make([][]byte, 1<<16)}}, "has 65536 records"},
		{"TTL", 0, []RRset{{Type: 1, TTL: 1 << 31, Data: [][]byte{{}}}}, "above 2^31-1"},
		{"RDATA", 0, []RRset{{Type: 1, Data: [][]byte{make([]byte, 1<<16)}}}, "has 65536 octets"},
		{"apex without SOA", NodeApex, wwwSets, "the apex has an SOA"},
		{"SOA below the apex", 0, []RRset{{Type: 6, Data: [][]byte{{}}}}, "the apex has an SOA"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dst, err := AppendNode([]byte("?"), tt.flags, tt.sets...)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("AppendNode: got error %v, want one with %q", err, tt.want)
			}
			if string(dst) != "?" {
				t.Errorf("AppendNode: got %q back, want what was there", dst)
			}
		})
	}
}

// TestParseNodeRefuses changes one octet of a good node at a time: whatever is not a TTL of a lone record or RDATA matters.
func TestParseNodeRefuses(t *testing.T) {
	good := octets(t, www)
	if _, _, err := ParseNode(good); err != nil {
		t.Fatal(err)
	}
	free := map[int]bool{0: true} // the flag of the wildcard is not told by the RRsets
	for _, rdata := range []struct{ from, to int }{{32, 36}, {48, 52}, {58, 62}, {64, 67}} {
		for i := rdata.from; i < rdata.to; i++ {
			free[i] = true
		}
	}
	for i := range good {
		for _, bit := range []byte{1, 0x80} {
			bad := slices.Clone(good)
			bad[i] ^= bit
			_, _, err := ParseNode(bad)
			if err == nil && !free[i] {
				t.Errorf("octet %d changed from %#02x to %#02x: taken", i, good[i], bad[i])
			}
		}
		if _, _, err := ParseNode(good[:i]); err == nil {
			t.Errorf("the first %d of %d octets: taken", i, len(good))
		}
	}
	if _, _, err := ParseNode(append(slices.Clone(good), 0)); err == nil {
		t.Error("an octet after the end: taken")
	}
}

// FuzzParseNode checks that no octets panic, and that what is taken is what AppendNode makes.
func FuzzParseNode(f *testing.F) {
	f.Add(octets(f, www))
	f.Add(octets(f, "20 00 0000"))
	f.Add(octets(f, "10 00 0100 0200 0100 0d000000 c00c 0002 0001 00000000 0001 00"))
	f.Fuzz(func(t *testing.T, node []byte) {
		flags, sets, err := ParseNode(node)
		if err != nil {
			return
		}
		again, err := AppendNode(nil, flags&(NodeApex|NodeWildcard), sets...)
		if err != nil || !bytes.Equal(again, node) {
			t.Errorf("ParseNode took %x; AppendNode makes %x of it, %v", node, again, err)
		}
	})
}

func BenchmarkAppendNode(b *testing.B) {
	dst := make([]byte, 0, 256)
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if dst, err = AppendNode(dst[:0], 0, wwwSets...); err != nil {
			b.Fatal(err)
		}
	}
}
