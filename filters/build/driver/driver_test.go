package driver_test

import (
	"archive/zip"
	"bytes"
	"context"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/weirdns/weir/abi"
	"github.com/weirdns/weir/filters/build/driver"
)

func TestBuild(t *testing.T) {
	first, err := driver.Build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(first) < 3 {
		t.Fatalf("got %d filters, want authority, rules and alternate at least", len(first))
	}
	second, err := driver.Build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, b := range second {
		if !b.Cached || b.Name != first[i].Name || b.Size != first[i].Size {
			t.Errorf("second build: got %+v after %+v, want the same, cached", b, first[i])
		}
		module, err := driver.Module(t.Context(), b.Name)
		if err != nil {
			t.Fatal(err)
		}
		if m, err := abi.ReadManifest(module); err != nil || m.Name != b.Name {
			t.Errorf("%s: got manifest %q, %v", b.Name, m.Name, err)
		}
		if bytes.Contains(module, []byte(".debug_info")) {
			t.Errorf("%s has DWARF", b.Name)
		}
	}
}

func TestBuildRefuses(t *testing.T) {
	for _, name := range []string{"nobody", "../filters", "build", "."} {
		if _, err := driver.Module(t.Context(), name); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("Module(%q): got error %v, want one that names it", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := driver.Build(ctx); err == nil {
		t.Error("canceled: got no error")
	}
}

// TestGuestImports: what makes guests big stays out of them. A package of these is 100 KB to 500 KB of WebAssembly, which every
// instance of every filter starts.
func TestGuestImports(t *testing.T) {
	for _, name := range []string{"acl", "alternate", "authority", "hosts", "rewrite", "rules", "template"} {
		c := exec.CommandContext(t.Context(), "go", "list", "-deps", "github.com/weirdns/weir/filters/"+name)
		c.Env = append(c.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
		out, err := c.Output()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range strings.Fields(string(out)) {
			if p == "sort" && strings.Contains(string(out), "\nregexp/syntax\n") {
				continue // which sorts
			}
			switch p {
			case "fmt", "reflect", "os", "time", "syscall", "net", "regexp", "sort", "encoding/json", "encoding/binary":
				t.Errorf("%s imports %s", name, p)
			}
			if strings.Contains(p, "weir/host") {
				t.Errorf("%s imports %s: filters have no private door into the host", name, p)
			}
		}
	}
}

// TestSDK: the archive has every package that a filter may import, and the same sources give the same octets.
func TestSDK(t *testing.T) {
	b, err := driver.SDK(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if again, err := driver.SDK(t.Context()); err != nil || !again.Cached || again.Size != b.Size {
		t.Errorf("second time: got %+v, %v after %+v, want the same, cached", again, err, b)
	}
	z, err := zip.OpenReader(b.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	out, err := exec.CommandContext(t.Context(), "go", "list", "github.com/weirdns/weir/sdk/...", "github.com/weirdns/weir/abi").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range strings.Fields(string(out)) {
		if strings.Contains(p, "/sdk/pack") { // weir filter build does that
			continue
		}
		if !slices.ContainsFunc(z.File, func(f *zip.File) bool {
			return strings.HasPrefix(f.Name, "vendor/"+p+"/") && strings.HasSuffix(f.Name, ".go")
		}) {
			t.Errorf("the archive lacks %s: add it to vendored", p)
		}
	}
	for _, f := range z.File {
		if strings.HasSuffix(f.Name, "_test.go") {
			t.Errorf("the archive has the test %s", f.Name)
		}
	}
}
