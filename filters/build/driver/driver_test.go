package driver_test

import (
	"bytes"
	"context"
	"os/exec"
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
