package wasm

import (
	"fmt"
	"strings"
	"testing"

	"github.com/weirdns/weir/abi"
	"github.com/weirdns/weir/host/chain"
	"github.com/weirdns/weir/host/message"
)

// namesGuest adds the names a.test., b.test. and a.test. again in configure, keeps the results, and answers queries with Respond and the number
// that the look-up found as the RCODE.
const namesGuest = `(import "weir" "name_add" (func $add (param i32 i32) (result i32)))
	(data (i32.const 70000) "\01a\04test\00\01b\04test\00")
	(func (export "configure") (param i32) (result i64)
		(if (i32.ne (call $add (i32.const 70000) (i32.const 8)) (i32.const 0)) (then unreachable))
		(if (i32.ne (call $add (i32.const 70008) (i32.const 8)) (i32.const 1)) (then unreachable))
		(if (i32.ne (call $add (i32.const 70000) (i32.const 8)) (i32.const -1)) (then unreachable))
		(if (i32.ne (call $add (i32.const 70008) (i32.const 8)) (i32.const -2)) (then unreachable))
		(i64.const 0x500000000))
	(func (export "query") (result i64)
		(i64.or (i64.const 0x0100000000000000) (i64.shl (i64.load32_u (i32.const 1088)) (i64.const 48))))`

func TestNames(t *testing.T) {
	f := newRig(t, 0).open(t, guest(t, namesGuest), Config{}) // with several instances, which all are told the same numbers
	defer f.Close()
	for _, tt := range []struct {
		question string
		action   chain.Action
		rcode    uint16
		matched  string
	}{
		{"\x01a\x04test\x00\x00\x01\x00\x01", chain.Respond, 0, "\x01a\x04test\x00"},
		{"\x03www\x01B\x04test\x00\x00\x01\x00\x01", chain.Respond, 1, "\x01b\x04test\x00"},
		{"\x04test\x00\x00\x01\x00\x01", chain.Next, 0, ""},
		{"\x02xa\x04test\x00\x00\x01\x00\x01", chain.Next, 0, ""},
	} {
		c := ask(t, tt.question)
		got, err := f.Call(c)
		if err != nil || got.Action != tt.action || got.RCODE != tt.rcode {
			t.Errorf("%q: got %+v, %v; want %v with RCODE %d", tt.question, got, err, tt.action, tt.rcode)
		}
		if i := f.pool.take(new(uint32)); tt.matched != "" {
			if table, matched := i.frame[abi.FrameTable], int(i.frame[abi.FrameMatched]); table != 0 || matched != len(tt.matched) {
				t.Errorf("%q: found in table %d with %d octets, want table 0 and %q", tt.question, table, matched, tt.matched)
			}
			f.put(i)
		}
	}
}

// What a filter does against the contract with name_add makes loading fail, or the call.
func TestNamesMisuse(t *testing.T) {
	add := `(import "weir" "name_add" (func $add (param i32 i32) (result i32)))
	(data (i32.const 70000) "\01a\04test\00")
	(data (i32.const 70100) "\01A\04test\00")
	(data (i32.const 70200) "\01a\04test")
	(data (i32.const 70300) "\40a\04test\00")
`
	for _, tt := range []struct{ name, fields, want string }{
		{"upper case", `(func (export "configure") (param i32) (result i64) (drop (call $add (i32.const 70100) (i32.const 8))) (i64.const 0x100000000))`, errHostUse.Error()},
		{"no root label", `(func (export "configure") (param i32) (result i64) (drop (call $add (i32.const 70200) (i32.const 7))) (i64.const 0x100000000))`, errHostUse.Error()},
		{"a long label", `(func (export "configure") (param i32) (result i64) (drop (call $add (i32.const 70300) (i32.const 8))) (i64.const 0x100000000))`, errHostUse.Error()},
		{"no octets", `(func (export "configure") (param i32) (result i64) (drop (call $add (i32.const 70000) (i32.const 0))) (i64.const 0x100000000))`, errHostUse.Error()},
		{"more than a name", `(func (export "configure") (param i32) (result i64) (drop (call $add (i32.const 70000) (i32.const 9))) (i64.const 0x100000000))`, errHostUse.Error()},
		{"outside the memory", `(func (export "configure") (param i32) (result i64) (drop (call $add (i32.const -1) (i32.const 8))) (i64.const 0x100000000))`, errMemory.Error()},
		{"look-up without names", `(func (export "configure") (param i32) (result i64) (i64.const 0x500000000))`, "nothing to look in"},
		{"other names in each instance", `(import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
			(data (i32.const 70400) "\08........\04test\00")
			(func (export "configure") (param i32) (result i64)
				(drop (call $random (i32.const 70401) (i32.const 8)))
				(i64.store (i32.const 70401) (i64.or (i64.load (i32.const 70401)) (i64.const 0x8080808080808080)))
				(drop (call $add (i32.const 70400) (i32.const 15)))
				(i64.const 0x500000000))`, errNames.Error()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			module := guest(t, add+tt.fields+`(func (export "query") (result i64) (i64.const 0))`)
			_, err := newRig(t, 0).Open(t.Context(), "test", Config{Grants: grantsOf(module)}, Environment{Module: module})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Open: %v, want %q", err, tt.want)
			}
		})
	}
	t.Run("in a query", func(t *testing.T) {
		f := newRig(t, 0).open(t, guest(t, add+`(func (export "query") (result i64) (drop (call $add (i32.const 70000) (i32.const 8))) (i64.const 0))`), Config{})
		defer f.Close()
		if _, err := f.Call(query(t)); err == nil || !strings.Contains(err.Error(), errHostUse.Error()) {
			t.Errorf("Call: %v, want %v", err, errHostUse)
		}
	})
}

// The names of a filter have a bound.
func TestNamesRoom(t *testing.T) {
	var n names
	n.begin()
	added := 0
	for {
		name, err := message.ParseName(fmt.Sprintf("n%d.%s.test", added, strings.Repeat("x", 60)))
		if err != nil {
			t.Fatal(err)
		}
		got, err := n.add(name, added)
		if err != nil {
			t.Fatal(err)
		}
		if got == abi.NameFull {
			break
		}
		if int(got) != added {
			t.Fatalf("number %d, want %d", got, added)
		}
		added++
	}
	n.end()
	size := len("\x05n1000\x3c\x04test\x00") + 60 + abi.NameOverhead
	if want := abi.MaxNameOctets / size; added < want-want/20 || added > want+want/20 || n.table.Len() != added {
		t.Errorf("there is room for %d names of some %d octets, the table has %d; want about %d", added, size, n.table.Len(), want)
	}
	name, err := message.ParseName(fmt.Sprintf("www.n77.%s.test", strings.Repeat("x", 60)))
	if err != nil {
		t.Fatal(err)
	}
	if _, value, ok := n.table.Longest(name); !ok || string(value) != "\x4d\x00\x00\x00" {
		t.Errorf("found %x, %v; want number 77", value, ok)
	}
}

// Instances after the first one are told the numbers of the table, and may neither add other names nor leave some out.
func TestNamesAgain(t *testing.T) {
	var n names
	n.begin()
	a, b := []byte("\x01a\x00"), []byte("\x01b\x00")
	for i, name := range [][]byte{a, b} {
		if got, err := n.add(name, i); int(got) != i || err != nil {
			t.Fatalf("add: %d, %v; want %d", got, err, i)
		}
	}
	n.end()
	for _, tt := range []struct {
		name   string
		add    []byte
		before int
		want   int32
		ok     bool
	}{
		{"the first", a, 0, 0, true},
		{"the second", b, 1, 1, true},
		{"the first again", a, 2, -1, true},
		{"the second at first", b, 0, 0, false},
		{"another", []byte("\x01c\x00"), 2, 0, false},
	} {
		if got, err := n.add(tt.add, tt.before); (err == nil) != tt.ok || tt.ok && got != tt.want {
			t.Errorf("%s: %d, %v; want %d, %v", tt.name, got, err, tt.want, tt.ok)
		}
	}
	if n.count != 2 {
		t.Errorf("count is %d, want 2", n.count)
	}
}
