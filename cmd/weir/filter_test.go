package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirdns/weir/filters"
	"github.com/weirdns/weir/host/wasm"
)

// weir runs a command in this process, and returns what it printed and whether it succeeded.
func weir(t *testing.T, arguments ...string) (output string, err error) {
	t.Helper()
	var out bytes.Buffer
	c := rootCommand()
	c.SetArgs(arguments)
	c.SetOut(&out)
	c.SetErr(&out)
	err = c.ExecuteContext(t.Context())
	return out.String(), err
}

// edit replaces text in a file.
func edit(t *testing.T, name, old, new string) {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(content, []byte(old)) {
		t.Fatalf("%s has no %q", name, old)
	}
	if err := os.WriteFile(name, bytes.ReplaceAll(content, []byte(old), []byte(new)), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestFilter goes the way of an author: a new filter, its test, a change that the test notices, the module.
func TestFilter(t *testing.T) {
	if _, err := filters.SDK(); err != nil {
		t.Skip(err)
	}
	t.Setenv("XDG_CACHE_HOME", t.TempDir()) // compiled modules go there
	t.Setenv("GOPROXY", "off")
	t.Chdir(t.TempDir())
	if out, err := weir(t, "filter", "new", "no-ads"); err != nil || !strings.Contains(out, "cd no-ads && weir filter test") {
		t.Fatalf("new: got %q, %v", out, err)
	}
	t.Chdir("no-ads")
	if out, err := weir(t, "filter", "test"); err != nil || !strings.Contains(out, "ok   no-ads 0.1.0: 4 cases in 1 file; a call took at most ") {
		t.Errorf("test: got %q, %v", out, err)
	}
	if out, err := weir(t, "filter", "test", ".", "cases.txtar", "--verbose"); err != nil || !strings.Contains(out, "ok   cases.txtar:15: query loads.test A\n") {
		t.Errorf("test --verbose: got %q, %v", out, err)
	}
	edit(t, "main.go", "sdk.NXDOMAIN", "sdk.REFUSED")
	const wrong = "FAIL cases.txtar:9: query www.ads.test A\n      got verdict respond REFUSED ede 15\n     want verdict respond NXDOMAIN ede 15\n"
	if out, err := weir(t, "filter", "test"); err == nil || !strings.HasPrefix(out, wrong) || !strings.HasSuffix(out, "FAIL no-ads 0.1.0: 3 failed, of 4 cases\n") {
		t.Errorf("test of a change: got %q, %v", out, err)
	}
	edit(t, "cases.txtar", "NXDOMAIN", "REFUSED")
	if out, err := weir(t, "filter", "build"); err != nil || !strings.HasPrefix(out, "no-ads.wasm: ") {
		t.Errorf("build: got %q, %v", out, err)
	}
	if out, err := weir(t, "filter", "test", "no-ads.wasm"); err != nil {
		t.Errorf("test of a module: got %q, %v", out, err)
	}
	out, err := weir(t, "filter", "inspect", "no-ads.wasm")
	for _, want := range []string{
		"name         no-ads 0.1.0\n", "ABI          1\n", "config       zones[] (weir-zone): Names in these zones get NXDOMAIN.\n",
		"grant        metrics: ", "export       query () -> (i64)\n", "import       weir.metric_add (i32, f64) -> ()\n",
	} {
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("inspect: got %v and\n%s\nwant %q", err, out, want)
		}
	}
	out, err = weir(t, "filter", "inspect", "no-ads.wasm", "--json")
	var d wasm.Description
	if e := json.Unmarshal([]byte(out), &d); e != nil || err != nil || d.Manifest == nil || d.Manifest.Name != "no-ads" || d.Size == 0 {
		t.Errorf("inspect --json: got %s, %v, %v", out, e, err)
	}
}

// TestFilterMistakes: each error says what is wrong and what would be right.
func TestFilterMistakes(t *testing.T) {
	t.Chdir(t.TempDir())
	for name, text := range map[string]string{
		"empty.wasm":              "\x00asm\x01\x00\x00\x00",
		"text.wasm":               "hello",
		"broken/filter.json":      `{"name": "broken", "version": "1.0.0", "abi": 1}`,
		"broken/go.mod":           "module example.com/broken\n\ngo 1.26.0\n",
		"broken/main.go":          "package main\n\nfunc main() { nothing() }\n",
		"bad/filter.json":         `{"name": "Bad", "version": "1.0.0", "abi": 1}`,
		"newer/filter.json":       `{"name": "newer", "version": "1.0.0", "abi": 1}`,
		"newer/go.mod":            "module example.com/newer\n\ngo 1.99.0\n",
		"library/filter.json":     `{"name": "library", "version": "1.0.0", "abi": 1}`,
		"library/go.mod":          "module example.com/library\n\ngo 1.26.0\n",
		"library/library.go":      "package library\n",
		"no-manifest/cases.txtar": "",
	} {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("GOTOOLCHAIN", "local")
	for _, tt := range []struct {
		name      string
		arguments []string
		want      string
	}{
		{"no name", []string{"new"}, "weir filter new no-ads"},
		{"no folder of a filter", []string{"build", "no-manifest"}, "has no filter.json: weir filter new NAME makes one"},
		{"manifest", []string{"build", "bad"}, `name "Bad": want`},
		{"program", []string{"build", "broken"}, "main.go:3:15: undefined: nothing"},
		{"toolchain", []string{"build", "newer"}, "go.mod requires go >= 1.99.0"},
		{"no program", []string{"build", "library"}, "exactly one main package"},
		{"no file", []string{"inspect", "nobody.wasm"}, "no such file"},
		{"no filter", []string{"inspect", "nobody"}, "comes with weir: those are "},
		{"no module", []string{"inspect", "text.wasm"}, "text.wasm is not a WebAssembly module"},
		{"no cases", []string{"test", "empty.wasm"}, "no files of cases"},
		{"no manifest", []string{"test", "empty.wasm", "no-manifest/cases.txtar"}, "custom section"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, err := weir(t, append([]string{"filter"}, tt.arguments...)...)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %q, %v; want an error with %q", out, err, tt.want)
			}
		})
	}
	if err := os.WriteFile("go", []byte("#!/bin/sh\necho go1.25.3\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{".": "too old: it is go1.25.3; want Go 1.26", "no-manifest": "not in PATH: want Go 1.26"} {
		absolute, err := filepath.Abs(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Setenv("PATH", absolute)
		if out, err := weir(t, "filter", "build", "library"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("build with PATH=%s: got %q, %v; want an error with %q", path, out, err, want)
		}
	}
	if out, err := weir(t, "filter", "inspect", "empty.wasm"); err == nil || !strings.Contains(out, "this weir would not load it: the module does not export weir_abi_1") {
		t.Errorf("inspect of a module that is no filter: got %q, %v", out, err)
	}
}
