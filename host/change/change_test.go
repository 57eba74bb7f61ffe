package change

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// A file counts as changed once, when it looks the same twice.
func TestFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weir.toml")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("a")
	var f Files
	f.Take(path)
	for i, tt := range []struct {
		do   func()
		want bool
	}{
		{func() {}, false},
		{func() { write("ab") }, false},
		{func() { write("abc") }, false}, // it changes still
		{func() {}, true},
		{func() { f.Take(path) }, false}, // it was read
		{func() { os.Remove(path) }, false},
		{func() {}, true},
		{func() { write("abc") }, false},
		{func() {}, true},
	} {
		tt.do()
		if got := f.Settled(path); got != tt.want {
			t.Errorf("step %d: got %v, want %v", i, got, tt.want)
		}
	}
	// Another list of files is another state.
	f.Settled(path, path)
	if !f.Settled(path, path) {
		t.Error("a file more: got no change")
	}
	// A link that leads elsewhere is another file.
	link, other := filepath.Join(t.TempDir(), "link"), filepath.Join(t.TempDir(), "other")
	if err := errors.Join(os.WriteFile(other, []byte("abc"), 0o644), os.Symlink(path, link)); err != nil {
		t.Fatal(err)
	}
	f.Take(link)
	if err := errors.Join(os.Remove(link), os.Symlink(other, link)); err != nil {
		t.Fatal(err)
	}
	if first, second := f.Settled(link), f.Settled(link); first || !second {
		t.Errorf("a link that leads elsewhere: got %v, then %v, want a change at the second look", first, second)
	}
}
