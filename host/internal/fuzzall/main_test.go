package main

import "testing"

// TestTimeOver: a target that fails with an input is told from one whose time is over.
func TestTimeOver(t *testing.T) {
	const head = "fuzz: elapsed: 20s, execs: 16229 (0/sec), new interesting: 0 (total: 4)\n"
	for _, tt := range []struct {
		name, out string
		want      bool
	}{
		{"over", head + "--- FAIL: FuzzLoad (20.11s)\n    context deadline exceeded\nFAIL\nexit status 1\n", true},
		{"an input", head + "--- FAIL: FuzzLoad (20.11s)\n    --- FAIL: FuzzLoad (0.00s)\n        load_test.go:9: context deadline exceeded\n    \n" +
			"    Failing input written to testdata/fuzz/FuzzLoad/1\nFAIL\n", false},
		{"a seed", "--- FAIL: FuzzLoad (0.01s)\n    --- FAIL: FuzzLoad/seed#0 (0.00s)\n        load_test.go:9: context deadline exceeded\nFAIL\n", false},
		{"a panic", "panic: context deadline exceeded\n\n--- FAIL: FuzzLoad (0.01s)\n    context deadline exceeded\nFAIL\n", false},
		{"no build", "# weir\nload_test.go:9: undefined: x\nFAIL\n", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := timeOver([]byte(tt.out)); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}
