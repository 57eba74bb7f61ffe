package wasm

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirdns/weir/abi"
	"github.com/weirdns/weir/host/chain"
	"github.com/weirdns/weir/host/message"
	"github.com/weirdns/weir/host/table"
)

// zoneTable opens a table with a zone of the given apex and records.
func zoneTable(t testing.TB, apex string, records ...string) *table.Table {
	t.Helper()
	path := filepath.Join(t.TempDir(), "zone")
	text := fmt.Sprintf("$ORIGIN %s\n$TTL 300\n@ SOA ns.example. hostmaster.example. 1 2 3 4 5\n@ NS ns.example.\n%s\n", apex, strings.Join(records, "\n"))
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	z, err := table.Open("zone", table.Config{Zonefile: path}, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// namesTable opens a table with a list of names.
func namesTable(t testing.TB, lines ...string) *table.Table {
	t.Helper()
	path := filepath.Join(t.TempDir(), "names")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	l, err := table.Open("names", table.Config{Names: path}, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// The table of a name is the zone with the longest apex, by whole labels, and else the first list that holds it; with few zones as with many.
func TestLookupTable(t *testing.T) {
	hosts, err := table.Open("hosts", table.Config{Hosts: []string{"192.0.2.1 hosts.example other.example"}}, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	tables := []Table{
		zoneTable(t, "test."), zoneTable(t, "b.corp.test."), namesTable(t, "corp.test first", "list.example one"), zoneTable(t, "corp.test."),
		zoneTable(t, "corp.test.", "second A 192.0.2.1"), namesTable(t, "list.example two", "other.example"), hosts,
	}
	many := tables
	for n := range fewZones {
		many = append(many, zoneTable(t, fmt.Sprintf("%d.deep.zone%d.example.", n, n)))
	}
	few, lots, none := newLookup(tables, 9, nil), newLookup(many, 9, nil), newLookup(nil, 0, nil)
	if len(few.few) == 0 || len(lots.many) == 0 || none != nil {
		t.Fatalf("%d zones are compared and %d in a map, want some of each; of no tables there is %v", len(few.few), len(lots.many), none)
	}
	for _, tt := range []struct {
		name    string
		table   int // -1 none
		matched string
	}{
		{"test.", 0, "test."},
		{"x.test.", 0, "test."},
		{"corp.test.", 3, "corp.test."},
		{"second.corp.test.", 3, "corp.test."},
		{"b.corp.test.", 1, "b.corp.test."},
		{"x.y.b.corp.test.", 1, "b.corp.test."},
		{"xcorp.test.", 0, "test."},
		{`a\004corp.test.`, 0, "test."}, // ends in the octets of corp.test., but not in its labels
		{"list.example.", 2, "list.example."},
		{"x.hosts.example.", 6, "hosts.example."},
		{"x.list.example.", 2, "list.example."},
		{"other.example.", 5, "other.example."},
		{"example.", -1, ""},
		{".", -1, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			key, err := message.ParseName(tt.name)
			if err != nil {
				t.Fatal(err)
			}
			for kind, l := range map[string]*lookup{"few": few, "many": lots} {
				var got match
				ok := l.find(key, labelsOf(key), &got)
				if tt.table < 0 {
					if ok {
						t.Errorf("%s: found in table %d, want none", kind, got.table)
					}
					continue
				}
				matched, err := message.ParseName(tt.matched)
				if err != nil {
					t.Fatal(err)
				}
				want, held := tables[tt.table].Snapshot().Get(matched)
				if !held || got.snapshot == nil || int(got.table) != tt.table || got.matched != len(matched) || !ok || !bytes.Equal(got.value, want) {
					t.Errorf("%s: found %+v, want table %d, %d octets, %x", kind, got, tt.table, len(matched), want)
				}
			}
		})
	}
	var got match
	if lots.find([]byte("\x01x\x013\x04deep\x05zone3\x07example\x00"), 5, &got); int(got.table) != len(tables)+3 {
		t.Errorf("of many zones, found %+v, want table %d", got, len(tables)+3)
	}
}

// openLookup opens a filter that answers with the first 65,535 octets of its frame, and whose configure returns that.
func openLookup(t testing.TB, interest uint64, z Table) (*Filter, error) {
	t.Helper()
	module := withSchema(t, guest(t, fmt.Sprintf(`(func (export "configure") (param i32) (result i64) (i64.const %#x))
		(func (export "query") (result i64) (i64.const %#x))
		(func (export "response") (result i64) (i64.const %#x))`, interest, abi.Pack(abi.Respond, 0, 65535, 1024), abi.Pack(abi.Respond, 0, 65535, 1024))),
		`{"properties":{"table":{"format":"weir-table"}}}`)
	config, tables := map[string]any{}, map[string]Table{}
	if z != nil {
		config["table"], tables["zone"] = "zone", z
	}
	f, err := newRig(t, 0).Open(t.Context(), "test", Config{Config: config}, Environment{Module: module, Bundled: true, Tables: tables})
	if err == nil {
		t.Cleanup(f.Close)
	}
	return f, err
}

// The frame has what was found; without the interest, and for a response, it has nothing of it.
func TestLookupFrame(t *testing.T) {
	const all = abi.InterestQuery | abi.InterestClasses
	var large []string // a node that doesn't fit behind a large message
	for n := range 200 {
		large = append(large, fmt.Sprintf("www.example TXT %d%s", n, strings.Repeat("x", 200)))
	}
	for _, tt := range []struct {
		name     string
		interest uint64
		table    Table
		call     func() *chain.Call
		matched  int  // 0 nothing is found
		value    bool // it is in the frame
	}{
		{"an exact name", all | abi.InterestLookup, zoneTable(t, "test.", "www.example A 192.0.2.1"), func() *chain.Call { return query(t) }, 18, true},
		{"an ancestor", all | abi.InterestLookup, zoneTable(t, "test."), func() *chain.Call { return query(t) }, 6, true},
		{"a list", all | abi.InterestLookup, namesTable(t, "example.test why"), func() *chain.Call { return query(t) }, 14, true},
		{"a large value", all | abi.InterestLookup, zoneTable(t, "test.", large...), func() *chain.Call { return query(t) }, 18, true},
		{"no room", all | abi.InterestLookup, zoneTable(t, "test.", large...), func() *chain.Call {
			c := query(t)
			c.Query.Message = append(c.Query.Message, make([]byte, 30_000)...)
			return c
		}, 18, false},
		{"a response", all | abi.InterestLookup, zoneTable(t, "test.", "www.example A 192.0.2.1"), func() *chain.Call { return response(t, message.NOERROR) }, 0, false},
		{"not asked for", all, zoneTable(t, "test.", "www.example A 192.0.2.1"), func() *chain.Call { return query(t) }, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, err := openLookup(t, tt.interest, tt.table)
			if err != nil {
				t.Fatal(err)
			}
			c := tt.call()
			for range 2 { // what the first call left in the frame is gone
				c.Octets = c.Octets[:0]
				if v, err := f.Call(c); err != nil || v.Action != chain.Respond {
					t.Fatalf("Call = %+v, %v", v, err)
				}
			}
			le, fr := binary.LittleEndian, c.Octets
			number, matched := le.Uint16(fr[abi.FrameTable:]), int(le.Uint16(fr[abi.FrameMatched:]))
			at, size := int(le.Uint32(fr[abi.FrameValue:])), int(le.Uint32(fr[abi.FrameValueSize:]))
			if number != 0 || matched != tt.matched || (at != 0) != tt.value || at == 0 && size != 0 {
				t.Fatalf("the frame has table %d, matched %d, value %d, its size %d; want 0, %d, a value: %v", number, matched, at, size, tt.matched, tt.value)
			}
			if !tt.value {
				return
			}
			_, want, _ := tt.table.Snapshot().Longest(c.Query.Key)
			if at%8 != 0 || at < abi.FrameMessage+len(c.Query.Message) || !bytes.Equal(fr[at:at+size], want) {
				t.Errorf("the value at %d is\n%x, want\n%x, behind the message of %d octets", at, fr[at:at+size], want, len(c.Query.Message))
			}
			if !bytes.Equal(fr[abi.FrameMessage:][:len(c.Query.Message)], c.Query.Message) {
				t.Error("the message is not the query")
			}
		})
	}
}

// A value is put wherever it fits, and nothing is written behind the message area.
func TestLookupRoom(t *testing.T) {
	for spare := range 20 {
		room := bytes.Repeat([]byte{'?'}, abi.FrameTotal)
		i := &instance{frame: (*frame)(room), tables: make([]Snapshot, 2), octets: abi.MaxHostOctets}
		clear(room[:abi.FrameHeader])
		value := bytes.Repeat([]byte{'v'}, 1000)
		size := message.MaxSize - len(value) - spare
		i.writeFound(&match{matched: 1, value: value}, size)
		at := int(binary.LittleEndian.Uint32(room[abi.FrameValue:]))
		fits := (abi.FrameMessage+size+7)/8*8+len(value) <= abi.FrameMessage+message.MaxSize
		switch {
		case (at != 0) != fits:
			t.Errorf("spare %d: the value is at %d, want one: %v", spare, at, fits)
		case fits && (at%8 != 0 || !bytes.Equal(room[at:at+len(value)], value) || i.octets != abi.MaxHostOctets-len(value)):
			t.Errorf("spare %d: the value is not at %d, or %d octets of its budget are left", spare, at, i.octets)
		case room[abi.FrameTotal-1] != '?' || room[abi.FrameMessage+size-1] != '?':
			t.Errorf("spare %d: something beside the value was written", spare)
		}
	}
}

// A filter isn't called for names that its tables don't hold: not even if it would fault, or is in quarantine.
func TestLookupElsewhere(t *testing.T) {
	f, err := openLookup(t, abi.InterestQuery|abi.InterestLookup, zoneTable(t, "elsewhere.test."))
	if err != nil {
		t.Fatal(err)
	}
	for f.pool.take(new(uint32)) != nil { // no instance is left
	}
	c := query(t)
	c.Cookie, c.EDE = 7, 18
	c.Query.Trace = new(message.Trace)
	if v, err := f.Call(c); err != nil || v != (chain.Verdict{}) || c.Cookie != 7 || c.EDE != abi.None || len(c.Octets) != 0 {
		t.Errorf("Call = %+v, %v, cookie %d, EDE %d, %d octets; want Next", v, err, c.Cookie, c.EDE, len(c.Octets))
	}
	if got := fmt.Sprint(c.Query.Trace.Steps); !strings.Contains(got, "nothing here holds www.example.test.") {
		t.Errorf("the trace is %s", got)
	}
	if n := f.counts().query; n != 0 {
		t.Errorf("%d calls are counted, want none", n)
	}
	c.Query.Key = []byte("\x03www\x09elsewhere\x04test\x00")
	if _, err := f.Call(c); err == nil {
		t.Error("a name in the zone needs no instance")
	}
}

// What a filter reads in a call is what was found for it, though the table is replaced in between.
func TestLookupPins(t *testing.T) {
	f, err := openLookup(t, abi.InterestQuery|abi.InterestLookup, zoneTable(t, "test."))
	if err != nil {
		t.Fatal(err)
	}
	i := f.pool.take(new(uint32))
	c := query(t)
	var at match
	f.lookup.find(c.Query.Key, c.Query.Labels, &at)
	old := at.snapshot
	f.document.tables[0] = zoneTable(t, "test.") // as after a reload
	if _, err := i.decide(c, &at); err != nil {
		t.Fatal(err)
	}
	if got := i.snapshot(0); got != old {
		t.Error("the call has another snapshot than the look-up")
	}
}

func TestLookupAllocates(t *testing.T) {
	f, err := openLookup(t, abi.InterestQuery|abi.InterestLookup, zoneTable(t, "test."))
	if err != nil {
		t.Fatal(err)
	}
	held, elsewhere := query(t), query(t)
	elsewhere.Query.Key = []byte("\x07example\x00")
	elsewhere.Query.Labels = 1
	for name, c := range map[string]*chain.Call{"held": held, "elsewhere": elsewhere} {
		if n := testing.AllocsPerRun(1000, func() {
			c.Octets = c.Octets[:0]
			if _, err := f.Call(c); err != nil {
				t.Error(err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations per call, want 0", name, n)
		}
	}
}

func TestLookupRefused(t *testing.T) {
	zone := zoneTable(t, "test.")
	for _, tt := range []struct {
		name     string
		interest uint64
		table    Table
		want     string
	}{
		{"without queries", abi.InterestLookup | 1, zone, "does not say that the filter wants queries"},
		{"without tables", abi.InterestLookup | abi.InterestQuery, nil, "names no zone and no list of names"},
		{"unknown bit", 1<<35 | abi.InterestQuery, zone, "does not have"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := openLookup(t, tt.interest, tt.table); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Open: %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func BenchmarkLookup(b *testing.B) {
	for _, zones := range []int{1, 3, 1000} {
		var tables []Table
		for n := range zones {
			tables = append(tables, zoneTable(b, fmt.Sprintf("zone%d.test.", n), "www A 192.0.2.1"))
		}
		l := newLookup(tables, 9, nil)
		for name, key := range map[string]string{"held": "\x03www\x05zone0\x04test\x00", "elsewhere": "\x03www\x07example\x03com\x00"} {
			b.Run(fmt.Sprintf("%s/zones=%d", name, zones), func(b *testing.B) {
				key := []byte(key)
				b.ReportAllocs()
				var m match
				for b.Loop() {
					if ok := l.find(key, 3, &m); ok != (name == "held") {
						b.Fatal(m)
					}
				}
			})
		}
	}
}
