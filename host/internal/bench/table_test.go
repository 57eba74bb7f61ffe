//go:build linux

package main

import (
	"strings"
	"testing"
)

func TestSpread(t *testing.T) {
	for _, tt := range []struct {
		name   string
		values []float64
		want   string
	}{
		{"one", []float64{2}, "2.0 [2.0–2.0]"},
		{"odd, not in order", []float64{9, 1, 4}, "4.0 [1.0–9.0]"},
		{"even", []float64{4, 1, 9, 2}, "3.0 [1.0–9.0]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := spreadOf(tt.values).format(1); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestTable(t *testing.T) {
	tab := table{head: []string{"a", "µs"}}
	tab.add("long", "≤ 9")
	tab.add("x")
	var got strings.Builder
	tab.print(&got)
	want := "| a    | µs  |\n|------|-----|\n| long | ≤ 9 |\n| x    |     |\n"
	if got.String() != want {
		t.Errorf("got\n%swant\n%s", got.String(), want)
	}
}

func TestVerdict(t *testing.T) {
	for _, tt := range []struct {
		name      string
		target    target
		own, base float64
		want      string
	}{
		{"below the peer", target{ratio: 1.1}, 3, 3, "reached"},
		{"just there", target{ratio: 1}, 3, 3, "reached"},
		{"above", target{ratio: 1.1}, 3.4, 3, "missed"},
		{"no peer", target{ratio: 1.1}, 3.4, 0, "not known"},
		{"no target", target{}, 3, 1, ""},
		{"a figure needs no peer", target{most: 9}, 8.9, 0, "reached"},
		{"a figure is above", target{most: 9}, 9.1, 100, "missed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.target.verdict(tt.own, tt.base); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// A figure stands beside dnsdist's of the same workload, or of the one that the target names.
func TestBase(t *testing.T) {
	weir, dnsdist := newContender("weir", nil), newContender(dnsdistName, &peer{})
	dnsdist.samples["hot"] = []sample{{user: 1, system: 2}}
	dnsdist.samples["miss"] = []sample{{user: 3, system: 3}}
	dnsdist.samples["https"] = []sample{{user: 3, perf: perf{sent: 100, lost: 50}}}
	all := []*contender{weir, dnsdist}
	for _, tt := range []struct {
		name   string
		target target
		want   float64
	}{
		{"hot", target{ratio: 1}, 3},
		{"hot", target{ratio: 1, beside: "miss"}, 6},
		{"tcp", target{ratio: 1}, 0},
		{"https", target{ratio: 1}, 0},
	} {
		if got := tt.target.base(all, &workload{name: tt.name}); got != tt.want {
			t.Errorf("%s beside %q: got %g, want %g", tt.name, tt.target.beside, got, tt.want)
		}
	}
}
