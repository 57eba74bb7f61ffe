//go:build linux

package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/weirdns/weir/host/config"
)

// TestConfigurations has weir read what is made for it.
func TestConfigurations(t *testing.T) {
	usual := ports{Port: 1, Alternate: 2, Admin: 3, Up: 4, NX: 5}
	hole := usual
	hole.Hole = 6
	for _, tt := range []struct {
		name, conf string
		data       any
		filters    int
		rules      int
	}{
		{"usual", "weir.toml", usual, 3, 10},
		{"one upstream does not answer", "weir.toml", hole, 3, 10},
		{"small", "growth.toml", growth{ports: usual, Rules: 2}, 3, 3},
		{"large", "growth.toml", growth{ports: usual, Rules: 1000, Zones: 9}, 3, 1001},
		{"a chain of many", "growth.toml", growth{ports: usual, Filters: 7}, 7, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "weir.toml")
			if err := render(path, tt.conf, tt.data); err != nil {
				t.Fatal(err)
			}
			f, err := config.Load(path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := len(f.Filters); got != tt.filters {
				t.Errorf("got %d filters, want %d", got, tt.filters)
			}
			got := 0
			for _, filter := range f.Filters {
				if rules, ok := filter.Config.Config["rule"].([]any); ok && filter.Name == "rules" {
					got = len(rules)
				}
			}
			if got != tt.rules {
				t.Errorf("got %d rules, want %d", got, tt.rules)
			}
		})
	}
}

// TestPeerConfigurations fills in those of the others: there is nothing left of a template, and no port of 0.
func TestPeerConfigurations(t *testing.T) {
	for _, p := range peers {
		if p.conf == "" {
			continue
		}
		path := filepath.Join(t.TempDir(), p.name)
		if err := render(path, p.conf, ports{Name: p.name, Dir: "/d", Extra: p.extra, Port: 4711, Up: 4712, NX: 4713}); err != nil {
			t.Errorf("%s: %v", p.name, err)
			continue
		}
		if text, err := os.ReadFile(path); err != nil || len(text) == 0 {
			t.Errorf("%s: got %q, %v", p.name, text, err)
		}
	}
}

func TestWriteZone(t *testing.T) {
	got, err := writeZone(t.TempDir(), "z", "test", 10)
	// host0.held.test. is 5+1, 4+1, 4+1 octets and the root's; then come 10 octets and an address.
	if want := 17.0 + 10 + 4; err != nil || got != want {
		t.Errorf("got %v octets a record, %v; want %v", got, err, want)
	}
}
