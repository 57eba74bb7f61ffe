package wasm

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/weirdns/weir/abi"
	"github.com/weirdns/weir/host/message"
)

// probe opens a module whose query returns in the cookie what a host function returned for the arguments.
func probe(t *testing.T, r *rig, imports, data, call string) *Filter {
	t.Helper()
	module := withSchema(t, guest(t, imports+data+`
		(func (export "configure") (param i32) (result i64) (i64.const 0x100000000))
		(func (export "query") (result i64) (i64.store (i32.const 1040) `+call+`) (i64.const 0))`), `{"properties":{"table":{"format":"weir-table"}}}`)
	f, err := r.Open(t.Context(), "test", Config{Config: map[string]any{"table": "cluster"}},
		Environment{Module: module, Bundled: true, Tables: map[string]Table{"cluster": fakeTable{}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

func TestTableFunctions(t *testing.T) {
	const data = `(data (i32.const 80000) "\07cluster\05local\00") (data (i32.const 80100) "\03www\07cluster\05local\00") (data (i32.const 80200) "\04test\00")`
	size, node := len(fakeApex), len(fakeNode)
	found := func(matched, size int) uint64 { return uint64(matched)<<32 | uint64(size) }
	for _, tt := range []struct {
		name, function string
		key, keySize   int
		room           int
		want           uint64
		written        string
	}{
		{"exactly", abi.TableGet, 80000, size, 1000, found(size, node), string(fakeNode)},
		{"without room", abi.TableGet, 80000, size, node - 1, found(size, node), ""},
		{"with just enough room", abi.TableGet, 80000, size, node, found(size, node), string(fakeNode)},
		{"not there", abi.TableGet, 80200, 6, 1000, none, ""},
		{"the closest encloser", abi.TableLongest, 80100, size + 4, 1000, found(size, node), string(fakeNode)},
		{"no encloser", abi.TableLongest, 80200, 6, 1000, none, ""},
		{"the first", abi.TableNext, 80000, 0, 1000, found(size, node), string(fakeApex) + string(fakeNode)},
		{"the first without room for both", abi.TableNext, 80000, 0, size + node - 1, found(size, node), ""},
		{"the last", abi.TableNext, 80000, size, 1000, none, ""},
		{"an address", abi.TablePrefix, 80000, 4, 1000, none, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := probe(t, newRig(t, 0), fmt.Sprintf("(import \"weir\" %q (func $f (param i32 i32 i32 i32 i32) (result i64)))\n", tt.function), data,
				fmt.Sprintf("(call $f (i32.const 0) (i32.const %d) (i32.const %d) (i32.const 90000) (i32.const %d))", tt.key, tt.keySize, tt.room))
			c := query(t)
			if _, err := f.Call(c); err != nil || c.Cookie != tt.want {
				t.Fatalf("%s gives %#x, %v; want %#x", tt.function, c.Cookie, err, tt.want)
			}
			for n := range f.pool.slots {
				i := f.pool.slots[n].instance
				if i == nil || f.pool.slots[n].query.Load() == 0 {
					continue
				}
				got := i.memory.octets()[90000:]
				if !strings.HasPrefix(string(got), tt.written) || got[len(tt.written)] != 0 {
					t.Errorf("%q is written, want %q", got[:len(tt.written)+1], tt.written)
				}
			}
		})
	}
}

// A filter explains only when somebody reads it, and within limits.
func TestExplain(t *testing.T) {
	f := newRig(t, 0).open(t, guest(t, `(import "weir" "explain" (func $explain (param i32 i32)))
		(data (i32.const 80000) "an\0aevil\1b line")
		(func (export "query") (result i64) (local $n i32)
			(loop $l (call $explain (i32.const 80000) (i32.const 2000)) (br_if $l (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 100)))) (i64.const 0))`), Config{})
	c := query(t)
	c.Query.Trace = new(message.Trace)
	if _, err := f.Call(c); err != nil {
		t.Fatal(err)
	}
	steps := c.Query.Trace.Steps
	if len(steps) != abi.MaxExplainLines {
		t.Fatalf("%d lines, want %d", len(steps), abi.MaxExplainLines)
	}
	if s := steps[0]; s.Part != "filter test" || !strings.HasPrefix(s.Text, `an\nevil\x1b line`) || len(s.Text) > 5*abi.MaxExplainSize {
		t.Errorf("the line is %q", s)
	}
}

func TestMetrics(t *testing.T) {
	const imports = "(import \"weir\" \"metric\" (func $metric (param i32 i32 i32) (result i32)))\n(import \"weir\" \"metric_add\" (func $add (param i32 f64)))\n"
	module := guest(t, imports+`(data (i32.const 80000) "hits") (data (i32.const 80010) "size") (global $hits (mut i32) (i32.const 0)) (global $size (mut i32) (i32.const 0))
		(func (export "configure") (param i32) (result i64)
			(global.set $hits (call $metric (i32.const 0) (i32.const 80000) (i32.const 4)))
			(global.set $size (call $metric (i32.const 1) (i32.const 80010) (i32.const 4)))
			(if (i32.ne (call $metric (i32.const 0) (i32.const 80000) (i32.const 4)) (global.get $hits)) (then unreachable))
			(i64.const 0x100000000))
		(func (export "query") (result i64) (call $add (global.get $hits) (f64.const 2)) (call $add (global.get $size) (f64.const 100)) (i64.const 0))`)
	r := newRig(t, 0)
	f := r.open(t, module, Config{})
	for range 3 {
		if _, err := f.Call(query(t)); err != nil {
			t.Fatal(err)
		}
	}
	// A reload: the next generation is opened before the old one is closed, and nothing goes backwards.
	next, err := r.Open(t.Context(), "test", Config{}, Environment{Module: module, Bundled: true})
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if _, err := next.Call(query(t)); err != nil {
		t.Fatal(err)
	}
	want := `# HELP weir_filter_calls_total Calls of a filter, by phase.
# TYPE weir_filter_calls_total counter
weir_filter_calls_total{filter="test",phase="query"} 4
weir_filter_calls_total{filter="test",phase="response"} 0
# HELP weir_filter_metric_total Counters of the filters' own.
# TYPE weir_filter_metric_total counter
weir_filter_metric_total{filter="test",metric="hits"} 8
# HELP weir_filter_quarantine 1 while a filter is not called because it kept failing.
# TYPE weir_filter_quarantine gauge
weir_filter_quarantine{filter="test"} 0
`
	if err := testutil.GatherAndCompare(r.metrics, strings.NewReader(want), "weir_filter_calls_total", "weir_filter_metric_total", "weir_filter_quarantine"); err != nil {
		t.Error(err)
	}
	if n, err := testutil.GatherAndCount(r.metrics, "weir_filter_metric"); err != nil || n != 1 {
		t.Errorf("%d histograms, %v; want 1", n, err)
	}
	next.Close()
	if n, err := testutil.GatherAndCount(r.metrics); err != nil || n != 0 {
		t.Errorf("%d metrics are left after the last filter of the name is closed, %v", n, err)
	}
	for _, name := range []string{"", "Hits", "a b", "9", "a\x00", strings.Repeat("a", 64) + "b", "weir\n"} {
		if _, ok := f.metrics.number(abi.MetricCounter, name); ok {
			t.Errorf("the name %q is allowed", name)
		}
	}
	if _, ok := f.metrics.number(abi.MetricHistogram, "hits"); ok {
		t.Error("a counter is a histogram, too")
	}
	for n := range abi.MaxMetrics {
		_, _ = f.metrics.number(abi.MetricCounter, fmt.Sprintf("m%d", n))
	}
	if _, ok := f.metrics.number(abi.MetricCounter, "one_more"); ok {
		t.Errorf("more than %d metrics are allowed", abi.MaxMetrics)
	}
	f.metrics.all.close(f)
	f.metrics.all.counter.Reset()
}

// What a filter may do with WASI, and that there is nothing else.
func TestWASI(t *testing.T) {
	r := newRig(t, 0, stopped)
	call := func(function, signature, data, arguments string) (uint64, *instance) {
		t.Helper()
		f := probe(t, r, fmt.Sprintf("(import \"wasi_snapshot_preview1\" %q (func $f %s (result i32)))\n", function, signature), data, "(i64.extend_i32_u (call $f "+arguments+"))")
		c := query(t)
		if _, err := f.Call(c); err != nil {
			t.Fatalf("%s: %v", function, err)
		}
		for n := range f.pool.slots {
			if i := f.pool.slots[n].instance; i != nil && i.did.query > 0 {
				return c.Cookie, i
			}
		}
		t.Fatal("no instance was called")
		return 0, nil
	}
	word := func(i *instance, at int) uint64 { return binary.LittleEndian.Uint64(i.memory.octets()[at:]) }
	if errno, i := call("clock_time_get", "(param i32 i64 i32)", "", "(i32.const 0) (i64.const 0) (i32.const 90000)"); errno != 0 || word(i, 90000) != 1e18 {
		t.Errorf("clock_time_get gives %d and %d, want 0 and the time of the injected clock", errno, word(i, 90000))
	}
	if errno, i := call("random_get", "(param i32 i32)", "", "(i32.const 90000) (i32.const 8)"); errno != 0 || word(i, 90000) == 0 {
		t.Errorf("random_get gives %d and %d", errno, word(i, 90000))
	}
	if errno, i := call("environ_sizes_get", "(param i32 i32)", `(data (i32.const 90000) "xxxxxxxx")`, "(i32.const 90000) (i32.const 90004)"); errno != 0 || word(i, 90000) != 0 {
		t.Errorf("environ_sizes_get gives %d and %#x, want nothing", errno, word(i, 90000))
	}
	if errno, i := call("poll_oneoff", "(param i32 i32 i32 i32)", `(data (i32.const 80000) "userdata")`, "(i32.const 80000) (i32.const 90000) (i32.const 1) (i32.const 95000)"); errno != 0 ||
		word(i, 95000) != 1 || word(i, 90000) != binary.LittleEndian.Uint64([]byte("userdata")) {
		t.Errorf("poll_oneoff gives %d and %d events", errno, word(i, 95000))
	}
	for _, tt := range []struct {
		function, signature, arguments string
		want                           uint64
	}{
		{"path_open", "(param i32 i32 i32 i32 i32 i64 i64 i32 i32)", "(i32.const 3) (i32.const 0) (i32.const 80000) (i32.const 4) (i32.const 0) (i64.const -1) (i64.const -1) (i32.const 0) (i32.const 90000)", wasiNOSYS},
		{"fd_read", "(param i32 i32 i32 i32)", "(i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)", wasiBADF},
		{"fd_prestat_get", "(param i32 i32)", "(i32.const 3) (i32.const 0)", wasiBADF},
		{"sock_accept", "(param i32 i32 i32)", "(i32.const 3) (i32.const 0) (i32.const 0)", wasiNOSYS},
		{"fd_write", "(param i32 i32 i32 i32)", "(i32.const 3) (i32.const 0) (i32.const 0) (i32.const 0)", wasiBADF},
		{"fd_write", "(param i32 i32 i32 i32)", "(i32.const 1) (i32.const -8) (i32.const 4) (i32.const 0)", wasiFAULT},
		{"fd_write", "(param i32 i32 i32 i32)", "(i32.const 1) (i32.const 0) (i32.const -1) (i32.const 0)", wasiINVAL},
		{"random_get", "(param i32 i32)", "(i32.const -1) (i32.const 8)", wasiFAULT},
		{"clock_time_get", "(param i32 i64 i32)", "(i32.const 0) (i64.const 0) (i32.const 131065)", wasiFAULT},
		{"clock_time_get", "(param i32 i64 i32)", "(i32.const 2) (i64.const 0) (i32.const 90000)", wasiINVAL},
	} {
		if got, _ := call(tt.function, tt.signature, "", tt.arguments); got != tt.want {
			t.Errorf("%s %s gives %d, want %d", tt.function, tt.arguments, got, tt.want)
		}
	}
	// What it prints comes to the log by lines, whole when the call ends, without what would forge one.
	f := probe(t, r, "(import \"wasi_snapshot_preview1\" \"fd_write\" (func $f (param i32 i32 i32 i32) (result i32)))\n",
		`(data (i32.const 80000) "one\0atw\1b") (data (i32.const 80100) "\80\38\01\00\06\00\00\00")`,
		"(i64.extend_i32_u (call $f (i32.const 2) (i32.const 80100) (i32.const 1) (i32.const 90000)))")
	if _, err := f.Call(query(t)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"msg=one filter=test", "msg=tw filter=test"} {
		if !strings.Contains(r.log.String(), want) {
			t.Errorf("the log has no %q:\n%s", want, r.log)
		}
	}
	if got := len(wasiFunctions); got != 46 {
		t.Errorf("%d functions, WASI preview 1 has 46", got)
	}
}
