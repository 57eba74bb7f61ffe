package filters_test

import (
	"errors"
	"testing"

	"github.com/weirdns/weir/filters"
)

// TestModule: this test may have been compiled with modules or without; either way, what the package says fits together.
func TestModule(t *testing.T) {
	built := 0
	for _, name := range filters.Names() {
		if module, ok := filters.Module(name); ok {
			built++
			if len(module) < 8 || string(module[:4]) != "\x00asm" {
				t.Errorf("%s is no module", name)
			}
		}
	}
	err := filters.Built()
	if complete := built == len(filters.Names()); complete != (err == nil) || !complete && !errors.Is(err, filters.ErrNotBuilt) {
		t.Errorf("%d of %d are there: got error %v", built, len(filters.Names()), err)
	}
	for _, name := range []string{"", "nobody", "README.md", "../dist/rules"} {
		if _, ok := filters.Module(name); ok {
			t.Errorf("Module(%q): got one", name)
		}
	}
}
