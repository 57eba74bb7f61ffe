package wasm

import (
	"reflect"
	"strings"
	"testing"

	"github.com/weirdns/weir/filters"
)

func TestDescribe(t *testing.T) {
	module := assemble(t, `(import "weir" "log" (func (param i32 i32 i32)))
	(memory (export "memory") 2)
	(@custom "weir" "{\"name\":\"test\",\"version\":\"1.0.0\",\"abi\":1,\"grants\":[\"log\"]}")
	(func (export "weir_abi_1") (result i32) (i32.const 1024))
	(func (export "query") (result i64) (i64.const 0))`)
	d, err := Describe(module)
	if err != nil {
		t.Fatal(err)
	}
	if d.Manifest == nil || d.Manifest.Name != "test" || d.Problem != "" {
		t.Errorf("got manifest %+v and problem %q, want that of test and none", d.Manifest, d.Problem)
	}
	d.Manifest = nil
	want := Description{
		Size: len(module), ABI: []string{"1"}, Functions: 3, Memory: 131072,
		Imports: []ImportExport{{Module: "weir", Name: "log", Signature: "(i32, i32, i32) -> ()", Grant: "log"}},
		Exports: []ImportExport{{Name: "memory", Signature: "memory"}, {Name: "query", Signature: "() -> (i64)"}, {Name: "weir_abi_1", Signature: "() -> (i32)"}},
	}
	if !reflect.DeepEqual(d, want) {
		t.Errorf("got  %+v\nwant %+v", d, want)
	}
}

// TestDescribeProblem: what is wrong with a module is said, and the rest of it nevertheless.
func TestDescribeProblem(t *testing.T) {
	const memory, abi, query = `(memory (export "memory") 2)`, `(func (export "weir_abi_1") (result i32) (i32.const 1024))`, `(func (export "query") (result i64) (i64.const 0))`
	manifest := func(more string) string {
		return `(@custom "weir" "{\"name\":\"test\",\"version\":\"1.0.0\",\"abi\":1` + more + `}")`
	}
	for _, tt := range []struct{ name, fields, want string }{
		{"no manifest", memory + abi + query, "custom section"},
		{"no ABI", memory + query + manifest(""), "weir_abi_1"},
		{"another ABI", memory + query + `(func (export "weir_abi_7") (result i32) (i32.const 1024))` + manifest(""), "ABI 7"},
		{"grant", "(import \"weir\" \"log\" (func (param i32 i32 i32)))\n" + memory + abi + query + manifest(""), `"log"`},
		{"import", "(import \"env\" \"malloc\" (func (param i32) (result i32)))\n" + memory + abi + query + manifest(""), `"malloc"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, err := Describe(assemble(t, tt.fields))
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(d.Problem, tt.want) || d.Memory != 131072 || len(d.Exports) < 2 {
				t.Errorf("got %+v, want a problem with %q, and the rest", d, tt.want)
			}
		})
	}
	if _, err := Describe([]byte("hello")); err == nil {
		t.Error("no module: got no error")
	}
}

func TestDescribeBundled(t *testing.T) {
	for _, name := range filters.Names() {
		module, ok := filters.Module(name)
		if !ok {
			t.Skip(filters.ErrNotBuilt)
		}
		if d, err := Describe(module); err != nil || d.Problem != "" || d.Manifest == nil || d.Manifest.Name != name {
			t.Errorf("%s: got %+v, %v", name, d, err)
		}
	}
}
