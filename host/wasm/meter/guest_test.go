package meter

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
)

// guests are programs of each language that filters are written in, and how to build them; OUT is the module.
var guests = []struct {
	language string
	env      []string
	commands []string // the first that there is
}{
	{"go", []string{"GOOS=wasip1", "GOARCH=wasm"}, []string{"go build -buildmode=c-shared -o OUT ./testdata/go"}},
	{"rust", nil, []string{
		"/usr/bin/rustc --target wasm32-unknown-unknown --crate-type cdylib -O -C strip=symbols -o OUT testdata/rust/guest.rs",
		"rustc --target wasm32-unknown-unknown --crate-type cdylib -O -C strip=symbols -o OUT testdata/rust/guest.rs",
	}},
	{"c", nil, []string{"clang --target=wasm32 -O2 -nostdlib -fno-builtin -Wl,--no-entry -o OUT testdata/c/guest.c"}},
	{"assemblyscript", nil, []string{"asc testdata/assemblyscript/guest.ts -O -o OUT"}},
}

// build returns a guest, or skips the test where its compiler is missing.
func build(t *testing.T, env, commands []string) []byte {
	out := filepath.Join(t.TempDir(), "guest.wasm")
	for _, line := range commands {
		args := strings.Fields(strings.ReplaceAll(line, "OUT", out))
		if _, err := exec.LookPath(args[0]); err != nil {
			t.Logf("no %s here", args[0])
			continue
		}
		c := exec.CommandContext(t.Context(), args[0], args[1:]...)
		c.Env = append(os.Environ(), env...)
		if text, err := c.CombinedOutput(); err != nil {
			t.Logf("%s: %v\n%.500s", line, err, text) // a compiler without this target
			continue
		}
		module, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		return module
	}
	t.Skip("no compiler for WebAssembly here")
	return nil
}

// TestGuests holds that real programs give the same results metered and as they are.
func TestGuests(t *testing.T) {
	for _, tt := range guests {
		t.Run(tt.language, func(t *testing.T) {
			module := build(t, tt.env, tt.commands)
			start := time.Now()
			if _, _, err := Rewrite(module, Options{}); err != nil {
				t.Fatal(err)
			}
			took := time.Since(start)
			plain := open(t, wazero.NewRuntimeConfig(), module, nil)
			metered := open(t, wazero.NewRuntimeConfig(), module, &Options{})
			t.Logf("%d octets rewritten in %v, %.2f times as large; %d of %d functions count their frames",
				len(module), took, metered.info.Growth, metered.info.Counted, metered.info.Functions)
			if metered.info.Growth > 2 {
				t.Errorf("the metered module is %.2f times as large", metered.info.Growth)
			}
			calls := 0
			for _, export := range []string{"hash", "sort", "search", "floats", "recurse", "pointers", "parse", "recovered", "fill", "lookup"} {
				f := plain.ExportedFunction(export)
				if f == nil {
					continue
				}
				for _, n := range []uint64{1, 2, 3, 10, 20, 63, 64, 100} {
					if export == "recurse" && n > 20 {
						continue
					}
					want, err := f.Call(t.Context(), n)
					if err != nil {
						t.Fatal(err)
					}
					metered.refill(1 << 40)
					got, err := metered.ExportedFunction(export).Call(t.Context(), n)
					if err != nil {
						t.Fatalf("%s(%d): %v", export, n, err)
					}
					if got[0] != want[0] {
						t.Errorf("%s(%d) = %#x metered, want %#x", export, n, got[0], want[0])
					}
					calls++
					if left := metered.left(StackExport); left != metered.info.Stack {
						t.Errorf("%s(%d): %d octets of stack left, want %d", export, n, left, metered.info.Stack)
					}
				}
			}
			if calls < 40 {
				t.Errorf("%d calls compared, want the guest's exports", calls)
			}
		})
	}
}
