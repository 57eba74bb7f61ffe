package main

import (
	"maps"
	"path/filepath"
	"testing"
)

// What is written is read again, and sums go on.
func TestLedger(t *testing.T) {
	path := filepath.Join(t.TempDir(), "LEDGER.md")
	l, err := readLedger(path)
	if err != nil || len(l) != 0 {
		t.Fatalf("a file that does not exist: %v, %v", l, err)
	}
	l[target{"./host/message", "FuzzQuery"}] = 12_345_678
	l[target{"./host/cache", "FuzzStore"}] = 999
	l[target{"./host/cache", "FuzzSnapshot"}] = 1000
	if err := l.write(path); err != nil {
		t.Fatal(err)
	}
	if got, err := readLedger(path); err != nil || !maps.Equal(got, l) {
		t.Errorf("got %v, %v, want %v", got, err, l)
	}
}

func TestExecutions(t *testing.T) {
	for _, tt := range []struct {
		name, out string
		want      int64
	}{
		{"none", "ok", 0},
		{"the last line counts", "fuzz: elapsed: 3s, execs: 100 (33/sec)\nfuzz: elapsed: 6s, execs: 250 (50/sec), new interesting: 3\nPASS\n", 250},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := executions([]byte(tt.out)); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
}
