package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestFuzz: a target stops after its executions or its time, one that fails leaves its input beside it, and the fuzzer sees where an input goes.
func TestFuzz(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/module")); err != nil { // as inputs that fail are written beside the targets
		t.Fatal(err)
	}
	t.Chdir(dir)
	b, err := newBinaries()
	if err != nil {
		t.Fatal(err)
	}
	cache := filepath.Join(dir, "cache")
	for _, tt := range []struct {
		name  string
		fuzz  string
		d     time.Duration
		most  int64
		fails bool
	}{
		{"so many executions", "FuzzFine", time.Hour, 500, false},
		{"so much time", "FuzzFine", 10 * time.Millisecond, 0, false},
		{"whichever comes first", "FuzzFine", 10 * time.Millisecond, 1 << 40, false},
		{"an input that fails", "FuzzFails", time.Hour, 1 << 40, true},
		{"an input that ends the process", "FuzzEnds", time.Hour, 1 << 40, true},
		{"one that does so once, as when the machine is busy", "FuzzEndsOnce", time.Hour, 1 << 40, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, err := b.fuzz(t.Context(), target{"./p", tt.fuzz}, cache, tt.d, tt.most)
			if (err != nil) != tt.fails {
				t.Fatalf("got %v, want an error: %v\n%s", err, tt.fails, out)
			}
			if got := executions(out); tt.most == 500 && (got < 500 || got > 5000) { // what is of interest is made smaller in some more
				t.Errorf("got %d executions, want 500 and some\n%s", got, out)
			}
			if strings.Contains(string(out), "not built with coverage") {
				t.Errorf("got\n%s", out)
			}
		})
	}
	for name, want := range map[string]int{"FuzzFails": 1, "FuzzEnds": 1, "FuzzEndsOnce": 0} {
		if found, err := filepath.Glob("p/testdata/fuzz/" + name + "/*"); err != nil || len(found) != want {
			t.Errorf("%s: inputs that failed: got %q, %v, want %d", name, found, err, want)
		}
	}
	if found, err := filepath.Glob(filepath.Join(cache, "p/FuzzFine/*")); err != nil || len(found) == 0 {
		t.Errorf("inputs of interest: got %q, %v, want some", found, err)
	}
	if _, err := b.fuzz(t.Context(), target{"./q", "FuzzFine"}, cache, time.Second, 0); err == nil {
		t.Error("a package that is not there: got no error")
	}
	if err := b.remove(); err != nil {
		t.Error(err)
	}
}
