package wasm

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
	"golang.org/x/sys/unix"

	"github.com/weirdns/weir/abi"
	"github.com/weirdns/weir/filters"
	"github.com/weirdns/weir/host/chain"
	"github.com/weirdns/weir/host/message"
)

// bundled are configurations for the filters that come with weir.
var bundled = map[string]map[string]any{
	"rules":     {"rule": []any{map[string]any{"zone": "example.test", "upstream": "b"}, map[string]any{"zone": "corp.test", "upstream": "a"}}},
	"alternate": {"alternate": []any{map[string]any{"rcodes": []any{"NXDOMAIN"}, "upstream": "b"}}},
	"authority": {"zones": []any{"cluster"}},
}

func openBundled(t testing.TB, r *rig, name string) *Filter {
	t.Helper()
	module, ok := filters.Module(name)
	if !ok {
		t.Skip(filters.ErrNotBuilt)
	}
	f, err := r.Open(t.Context(), name, Config{Config: bundled[name]}, Environment{
		Module: module, Bundled: true, Upstreams: []string{"a", "b"},
		Tables: map[string]Table{"cluster": zoneTable(t, "cluster.local.", "www A 192.0.2.1")},
	})
	if err != nil {
		t.Fatalf("Open(%s): %v", name, err)
	}
	return f
}

// The real thing: a Go program of two megabytes chooses an upstream.
func TestRulesModule(t *testing.T) {
	f := openBundled(t, newRig(t, 0), "rules")
	defer f.Close()
	got, err := f.Call(query(t))
	if want := (chain.Verdict{Action: chain.Forward, Upstream: 1}); err != nil || got != want {
		t.Errorf("Call = %+v, %v; want %+v", got, err, want)
	}
}

// openAll opens what a typical configuration has, side by side.
func openAll(t testing.TB, r *rig) (opened []*Filter) {
	var wait sync.WaitGroup
	opened = make([]*Filter, 3)
	for n, name := range []string{"authority", "rules", "alternate"} {
		wait.Go(func() { opened[n] = openBundled(t, r, name) })
	}
	wait.Wait()
	return opened
}

func BenchmarkOpenCold(b *testing.B) { benchmarkOpen(b, b.TempDir) }

// BenchmarkOpenWarm is a second start: the compiled modules are on disk. Together with the first answer it shall take less than 150 ms.
func BenchmarkOpenWarm(b *testing.B) {
	dir := b.TempDir()
	openOnce(b, dir)
	benchmarkOpen(b, func() string { return dir })
}

func openOnce(b *testing.B, dir string) {
	r := newRig(b, 0, func(c *RuntimeConfig) { c.CacheDir = dir })
	for _, f := range openAll(b, r) {
		f.Close()
	}
}

// cpu is the processor time that this process has used. On a machine with other work, wall time says nothing.
func cpu(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func benchmarkOpen(b *testing.B, dir func() string) {
	before := cpu(b)
	for b.Loop() {
		openOnce(b, dir())
	}
	b.ReportMetric(float64((cpu(b)-before).Milliseconds())/float64(b.N), "cpu-ms/op")
}

// BenchmarkReload is opening what is open already, as a reload does.
func BenchmarkReload(b *testing.B) {
	r := newRig(b, 0)
	for _, f := range openAll(b, r) {
		defer f.Close()
	}
	for b.Loop() {
		for _, f := range openAll(b, r) {
			f.Close()
		}
	}
}

func BenchmarkCall(b *testing.B) {
	held := func(b *testing.B) *chain.Call { return ask(b, "\x03www\x07cluster\x05local\x00\x00\x01\x00\x01") }
	missing := func(b *testing.B) *chain.Call { return ask(b, "\x04none\x07cluster\x05local\x00\x00\x01\x00\x01") }
	noop := func(b *testing.B, off defence) (*Filter, *chain.Call) {
		f := newRig(b, off).open(b, guest(b, `(func (export "query") (result i64) (i64.const 0))`), Config{})
		return f, query(b)
	}
	loop := func(b *testing.B, off defence) (*Filter, *chain.Call) {
		f := newRig(b, off).open(b, guest(b, `(func (export "query") (result i64) (local i32)
			(loop $l (br_if $l (i32.lt_u (local.tee 0 (i32.add (local.get 0) (i32.const 1))) (i32.const 1000)))) (i64.const 0))`), Config{})
		return f, query(b)
	}
	for _, bb := range []struct {
		name string
		open func(b *testing.B) (*Filter, *chain.Call)
	}{
		{"noop", func(b *testing.B) (*Filter, *chain.Call) { return noop(b, 0) }},
		{"noop/unmetered", func(b *testing.B) (*Filter, *chain.Call) { return noop(b, offMeter) }},
		{"loop1000", func(b *testing.B) (*Filter, *chain.Call) { return loop(b, 0) }},
		{"loop1000/unmetered", func(b *testing.B) (*Filter, *chain.Call) { return loop(b, offMeter) }},
		{"rules", func(b *testing.B) (*Filter, *chain.Call) { return openBundled(b, newRig(b, 0), "rules"), query(b) }},
		{"rules/unmetered", func(b *testing.B) (*Filter, *chain.Call) {
			return openBundled(b, newRig(b, offMeter), "rules"), query(b)
		}},
		{"authority", func(b *testing.B) (*Filter, *chain.Call) {
			return openBundled(b, newRig(b, 0), "authority"), held(b)
		}},
		{"authority/unmetered", func(b *testing.B) (*Filter, *chain.Call) {
			return openBundled(b, newRig(b, offMeter), "authority"), held(b)
		}},
		{"NXDOMAIN", func(b *testing.B) (*Filter, *chain.Call) {
			return openBundled(b, newRig(b, 0), "authority"), missing(b)
		}},
		{"NXDOMAIN/unmetered", func(b *testing.B) (*Filter, *chain.Call) {
			return openBundled(b, newRig(b, offMeter), "authority"), missing(b)
		}},
		{"alternate", func(b *testing.B) (*Filter, *chain.Call) {
			return openBundled(b, newRig(b, 0), "alternate"), response(b, message.NXDOMAIN)
		}},
		{"alternate/unmetered", func(b *testing.B) (*Filter, *chain.Call) {
			return openBundled(b, newRig(b, offMeter), "alternate"), response(b, message.NXDOMAIN)
		}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			f, c := bb.open(b)
			b.Cleanup(f.Close)
			b.ReportAllocs()
			for b.Loop() {
				c.Octets = c.Octets[:0]
				if _, err := f.Call(c); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkContextDone is what wazero's own guard against endless loops costs, for comparison: the module is not metered, and wazero looks at the
// context at each loop and call. A call of the guest alone, without frame and verdict.
func BenchmarkContextDone(b *testing.B) {
	for _, name := range []string{"rules", "alternate"} {
		module, ok := filters.Module(name)
		if !ok {
			b.Skip(filters.ErrNotBuilt)
		}
		for _, guarded := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/%v", name, guarded), func(b *testing.B) {
				f := openBundled(b, newRig(b, offMeter), name)
				b.Cleanup(f.Close)
				engine := wazero.NewRuntimeWithConfig(b.Context(), wazero.NewRuntimeConfig().WithCloseOnContextDone(guarded))
				b.Cleanup(func() {
					if err := engine.Close(context.WithoutCancel(b.Context())); err != nil {
						b.Error(err)
					}
				})
				for m, functions := range map[string][]hostFunction{abi.HostModule: hostFunctions, wasiModule: wasiFunctions} {
					if err := instantiateHost(b.Context(), engine, m, functions); err != nil {
						b.Fatal(err)
					}
				}
				compiled, err := engine.CompileModule(b.Context(), module)
				if err != nil {
					b.Fatal(err)
				}
				// The filter's own instance, run by this engine instead.
				i, _, err := (&Filter{
					name: name, limits: f.limits, runtime: &Runtime{engine: engine, now: time.Now}, document: f.document, guests: f.guests,
					code: &code{compiled: compiled},
				}).newInstance()
				if err != nil {
					b.Fatal(err)
				}
				defer i.close()
				c, function := query(b), i.query
				if name == "alternate" {
					c, function = response(b, message.NXDOMAIN), i.response
				}
				ctx, cancel := context.WithTimeout(b.Context(), time.Hour)
				defer cancel()
				i.Context = ctx
				b.ReportAllocs()
				for b.Loop() {
					writeFrame(i.frame, c, f.guests)
					if err := function.CallWithStack(i, i.stack[:]); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkCallParallel shows whether calls disturb each other.
func BenchmarkCallParallel(b *testing.B) {
	f := openBundled(b, newRig(b, 0), "rules")
	b.Cleanup(f.Close)
	b.ReportAllocs()
	b.ResetTimer() // RunParallel has no Loop that would leave out the opening
	b.RunParallel(func(p *testing.PB) {
		c := query(b)
		for p.Next() {
			c.Octets = c.Octets[:0]
			if _, err := f.Call(c); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// fakeTable is a zone with a single name, the apex cluster.local.
type fakeTable struct{}

func (fakeTable) Kind() string       { return "zone" }
func (fakeTable) Snapshot() Snapshot { return fakeSnapshot{} }

type fakeSnapshot struct{}

var (
	fakeApex = []byte("\x07cluster\x05local\x00")
	fakeNode = func() []byte {
		soa := append([]byte{0xC0, 12, 0, 6, 0, 1, 0, 0, 14, 16, 0, 22}, make([]byte, 22)...)
		node := binary.LittleEndian.AppendUint16([]byte{1, 0}, 1)
		node = binary.LittleEndian.AppendUint16(node, 6)
		node = binary.LittleEndian.AppendUint16(node, 1)
		return append(binary.LittleEndian.AppendUint32(node, uint32(len(soa))), soa...)
	}()
)

func (fakeSnapshot) Get(key []byte) ([]byte, bool) {
	if string(key) == string(fakeApex) {
		return fakeNode, true
	}
	return nil, false
}

func (s fakeSnapshot) Longest(name []byte) (int, []byte, bool) {
	if message.InZone(name, fakeApex) {
		return len(fakeApex), fakeNode, true
	}
	return 0, nil, false
}

func (fakeSnapshot) Next(key []byte) ([]byte, []byte, bool) {
	if len(key) == 0 {
		return fakeApex, fakeNode, true
	}
	return nil, nil, false
}

func (fakeSnapshot) Len() int { return 1 }

func (fakeSnapshot) Prefix([]byte) (int, []byte, bool) { return 0, nil, false }

// A module from outside may be as large as ours: admission and the child's limits leave it room.
func TestGoModuleFromOutside(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles a large module")
	}
	module, ok := filters.Module("rules")
	if !ok {
		t.Skip(filters.ErrNotBuilt)
	}
	open := func() (*Filter, error) {
		return newRig(t, 0).Open(t.Context(), "rules", Config{Config: bundled["rules"], Grants: []string{"forward"}},
			Environment{Module: module, Upstreams: []string{"a", "b"}})
	}
	f, err := open()
	for try := 0; try < 4 && err != nil && strings.Contains(err.Error(), "the machine is overloaded, then try again"); try++ {
		f, err = open() // the limit is time on the clock, which other tests take as well
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if v, err := f.Call(query(t)); err != nil || v.Action != chain.Forward {
		t.Errorf("Call = %+v, %v; want Forward", v, err)
	}
}

// TestRegexFuel: no name that a client makes up takes more than the default fuel, with as many regular expressions as there may be, of which the last one
// matches and is about as large as one may be.
func TestRegexFuel(t *testing.T) {
	var rules, templates []any
	for n := range 9 {
		regex := fmt.Sprintf(`(^|[.])(ads|track%d|[a-z]*x[a-z]*y|[0-9]+z)[.]`, n)
		rules = append(rules, map[string]any{"regex": regex, "to": "x."})
		templates = append(templates, map[string]any{"regex": regex})
	}
	const last = `^([^.]+)[.](.*)[.]$`
	rules = append(rules, map[string]any{"regex": last, "to": "$1.$2"})
	templates = append(templates, map[string]any{"regex": last, "answer": []any{"{{ .Name }} TXT {{ .Zone }} {{ index .Match 1 }} {{ .Client }} {{ index .Match 2 }} {{ .Name }}"}})
	for name, config := range map[string]map[string]any{"rewrite": {"rule": rules}, "template": {"template": templates}} {
		t.Run(name, func(t *testing.T) {
			module, ok := filters.Module(name)
			if !ok {
				t.Skip(filters.ErrNotBuilt)
			}
			f, err := newRig(t, 0).Open(t.Context(), name, Config{Config: config}, Environment{Module: module, Bundled: true})
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			labels := []string{strings.Repeat("a", 62), strings.Repeat("0.", 31) + "0", strings.Repeat("-", 60)}
			labels = append(labels, labels[0], strings.Repeat("\xff", 30), labels[0]+"x")
			for _, label := range labels {
				text := strings.Repeat("."+label, 253/(len(label)+1))[1:]
				var wire []byte
				for l := range strings.SplitSeq(text, ".") {
					wire = append(append(wire, byte(len(l))), l...)
				}
				c := query(t)
				if !c.Query.SetQuestion(query(t).Query, nil, append(wire, 0), 1, 1) {
					t.Fatalf("%q is no name", text)
				}
				before := f.counts().fuel
				if _, err := f.Call(c); err != nil {
					t.Errorf("%q: %v", text, err)
				}
				t.Logf("%.20q...: %d units", text, f.counts().fuel-before)
			}
		})
	}
}
