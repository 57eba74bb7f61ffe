package trial_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirdns/weir/filters/build/driver"
	"github.com/weirdns/weir/host/trial"
	"github.com/weirdns/weir/host/wasm"
	"github.com/weirdns/weir/host/wasm/wat"
	"github.com/weirdns/weir/sdk/sdktest"
)

// TestMain lets the test binary be the child that compiles.
func TestMain(m *testing.M) {
	wasm.CompileChild()
	os.Exit(m.Run())
}

func start(t *testing.T, module []byte) *trial.Trial {
	t.Helper()
	r, err := trial.New(module, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// TestFilters: the filters of this repository behave in the host as they do natively.
func TestFilters(t *testing.T) {
	folders, err := filepath.Glob("../../filters/*/filter.json")
	if err != nil || len(folders) < 3 {
		t.Fatalf("filters: got %q, %v", folders, err)
	}
	for _, f := range append(folders, "../../filters/scaffold/starter/filter.json") {
		folder := filepath.Dir(f)
		t.Run(filepath.Base(folder), func(t *testing.T) {
			module, err := driver.Module(t.Context(), filepath.Base(folder))
			if filepath.Base(folder) == "starter" {
				module, _, err = driver.Compile(t.Context(), folder)
			}
			if err != nil {
				t.Fatal(err)
			}
			r := start(t, module)
			cases := filepath.Join(folder, "testdata", "*.txtar")
			if names, _ := filepath.Glob(cases); len(names) == 0 {
				cases = filepath.Join(folder, "*.txtar")
			}
			sdktest.Run(t, cases, r.Open(t.Context()))
			if r.Fuel() == 0 || r.Fuel() > wasm.DefaultFuel {
				t.Errorf("got %d units of fuel for a call, want some", r.Fuel())
			}
		})
	}
}

// TestFaults: what goes wrong in a module is a failure of the case, with its place, and the next case goes on.
func TestFaults(t *testing.T) {
	module, err := wat.Compile(`(module
	(memory (export "memory") 2)
	(@custom "weir" "{\"name\":\"test\",\"version\":\"1.0.0\",\"abi\":1}")
	(func (export "weir_abi_1") (result i32) (i32.const 1024))
	(func (export "query") (result i64)
		(if (i32.eq (i32.load16_u (i32.const 1032)) (i32.const 28)) (then (unreachable)))
		(if (i32.eq (i32.load16_u (i32.const 1032)) (i32.const 16)) (then (loop (br 0))))
		(if (i32.eq (i32.load16_u (i32.const 1032)) (i32.const 15)) (then (return (i64.const 0x0100001800000400))))
		(i64.const 0x0105000000000000)))`)
	if err != nil {
		t.Fatal(err)
	}
	f, err := sdktest.ParseFile("a.txtar", []byte("-- cases --\nquery a.test AAAA\nverdict next\n\nquery a.test TXT\nverdict next\n\n"+
		"query a.test MX\nverdict next\n\nquery a.test A\nverdict next\n\nquery a.test NS\nverdict respond REFUSED\n"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	f.Check(start(t, module).Open(t.Context()), func(c *sdktest.Case, failures []sdktest.Failure) {
		for _, failure := range failures {
			got = append(got, failure.String())
		}
	})
	want := []string{
		"a.txtar:2: query a.test AAAA\n got a fault: query trapped: unreachable",
		"a.txtar:5: query a.test TXT\n got a fault: query used up its fuel",
		"a.txtar:8: query a.test MX\n got a fault: responds with what the host refuses: ",
		"a.txtar:11: query a.test A\n got verdict respond REFUSED\nwant verdict next",
	}
	if len(got) != len(want) {
		t.Fatalf("got %d failures, want %d:\n%s", len(got), len(want), strings.Join(got, "\n"))
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("got %s\nwant %s", got[i], want[i])
		}
	}
}

// TestSchema: the schema of the manifest holds in a trial, other than natively.
func TestSchema(t *testing.T) {
	module, _, err := driver.Compile(t.Context(), "../../filters/scaffold/starter")
	if err != nil {
		t.Fatal(err)
	}
	r := start(t, module)
	for _, tt := range []struct{ name, file, want string }{
		{"wanted", "-- config.json --\n{\"zones\": [7]}\n-- error --\nzones[0]: want a string\n", ""},
		{"unknown key wanted", "-- config.json --\n{\"zone\": []}\n-- error --\nzone: there is no such key\n", ""},
		{"another key", "-- config.json --\n{\"zones\": [7]}\n-- error --\nzones[1]: want a string\n", "zones[0]: "},
		{"not wanted", "-- config.json --\n{\"zones\": [7]}\n-- cases --\nquery a.test A\nverdict next\n", "zones[0]: "},
		{"wanted and not there", "-- error --\nzones[0]: want a string\n", "got no error"},
		{"zone", "-- table z zone --\nz.test. 1 SOA ns. host. 1 2 3 4 5\nz.test. 1 A 1.2.3\n-- cases --\nquery a.test A\nverdict next\n", "a.txtar: table z: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, err := sdktest.ParseFile("a.txtar", []byte(tt.file))
			if err != nil {
				t.Fatal(err)
			}
			var got []sdktest.Failure
			f.Check(r.Open(t.Context()), func(_ *sdktest.Case, failures []sdktest.Failure) { got = append(got, failures...) })
			if (len(got) > 0) != (tt.want != "") || !strings.Contains(fmt.Sprint(got), tt.want) {
				t.Errorf("got failures %v, want one with %q", got, tt.want)
			}
		})
	}
}
