//go:build linux

package main

import "testing"

func TestParseMetrics(t *testing.T) {
	got, err := parseMetrics("# HELP a b\n# TYPE a counter\na{x=\"1 2\"} 7\n\nb 1.5e+03\n")
	if err != nil || len(got) != 2 || got[`a{x="1 2"}`] != 7 || got["b"] != 1500 {
		t.Errorf("got %v, %v; want two metrics", got, err)
	}
	for _, text := range []string{"a", "a b\n"} {
		if got, err := parseMetrics(text); err == nil {
			t.Errorf("%q: got %v, want an error", text, got)
		}
	}
}
