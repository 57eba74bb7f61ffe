package wasm

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const trivial = `(func (export "query") (result i64) (i64.const 0))`

func openForeign(t *testing.T, r *rig, module []byte) (*Filter, error) {
	t.Helper()
	return r.Open(t.Context(), "test", Config{Grants: grantsOf(module)}, Environment{Module: module})
}

// A module from outside is compiled by the child, once; what the child wrote is what runs.
func TestChildSharesItsResult(t *testing.T) {
	r := newRig(t, 0)
	files := func(pattern string) []string {
		t.Helper()
		names, err := filepath.Glob(filepath.Join(r.dir.path, pattern))
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	f, err := openForeign(t, r, guest(t, trivial))
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	compiled, proofs := files("wazero-*/*"), files("compiled-*")
	if len(compiled) != 1 || len(proofs) != 1 {
		t.Fatalf("the cache has %v and %v, want one file of wazero and one proof", compiled, proofs)
	}
	before, err := os.Stat(compiled[0])
	if err != nil {
		t.Fatal(err)
	}
	again := newRig(t, 0, func(c *RuntimeConfig) { c.CacheDir = r.dir.path })
	if f, err = openForeign(t, again, guest(t, trivial)); err != nil {
		t.Fatal(err)
	}
	f.Close()
	after, err := os.Stat(compiled[0])
	if err != nil || !os.SameFile(before, after) {
		t.Errorf("it was compiled again: %v", err)
	}
	if n := len(files("*")); n != 3 { // wazero's directory, the proof, the metered module
		t.Errorf("the cache has %v, want three entries", files("*"))
	}
}

// A metered module that was damaged on disk is made again.
func TestDamagedCache(t *testing.T) {
	dir := t.TempDir()
	for _, damage := range []func([]byte) []byte{
		func(b []byte) []byte { return b },
		func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
		func(b []byte) []byte { b[5] ^= 1; return b },
		func(b []byte) []byte { return b[:len(b)/2] },
		func(b []byte) []byte { return nil },
	} {
		r := newRig(t, 0, func(c *RuntimeConfig) { c.CacheDir = dir })
		f := r.open(t, guest(t, trivial), Config{})
		if _, err := f.Call(query(t)); err != nil {
			t.Fatal(err)
		}
		names, err := filepath.Glob(filepath.Join(dir, "metered-*"))
		if err != nil || len(names) != 1 {
			t.Fatalf("metered modules: %v, %v", names, err)
		}
		b, err := os.ReadFile(names[0])
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(names[0], damage(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// Where there is no directory for the cache, modules from outside are compiled all the same, and safely: first in the child.
func TestNoCacheDir(t *testing.T) {
	t.TempDir() // makes the directory for those that follow, while it can
	t.Setenv("XDG_CACHE_HOME", "/proc/weir")
	t.Setenv("TMPDIR", "/proc/weir")
	r := newRig(t, 0, func(c *RuntimeConfig) { c.CacheDir = "" })
	if r.dir.path != "" || !strings.Contains(r.log.String(), "modules are compiled at each start") {
		t.Errorf("the cache is in %q, and the log says:\n%s", r.dir.path, r.log)
	}
	f, err := openForeign(t, r, guest(t, trivial))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Call(query(t)); err != nil {
		t.Error(err)
	}
	if _, err := openForeign(t, r, guest(t, `(func (export "query") (result i64) (i32.const 0))`)); err == nil || !strings.Contains(err.Error(), "does not compile") {
		t.Errorf("Open of invalid code: %v", err)
	}
}

func TestCacheDir(t *testing.T) {
	home, temporary := t.TempDir(), t.TempDir()
	t.Setenv("XDG_CACHE_HOME", home)
	t.Setenv("TMPDIR", temporary)
	d, err := findCacheDir("")
	if want := filepath.Join(home, "weir"); err != nil || d.path != want || d.temporary {
		t.Errorf("the cache is %+v, %v; want %s", d, err, want)
	}
	if info, err := os.Stat(d.path); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("it was made with %v, %v; want 0700", info.Mode(), err)
	}
	// One in which others can plant code is not used.
	if err := os.Chmod(d.path, 0o777); err != nil {
		t.Fatal(err)
	}
	d, err = findCacheDir("")
	if err != nil || !d.temporary || filepath.Dir(d.path) != temporary {
		t.Errorf("the cache is %+v, %v; want a temporary one", d, err)
	}
	if err := d.remove(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(temporary); err != nil || len(left) != 0 {
		t.Errorf("%v, %v is left", left, err)
	}
	// A configured one is an error.
	if _, err := findCacheDir(filepath.Join(home, "weir")); err == nil || !strings.Contains(err.Error(), "chmod 700") {
		t.Errorf("a configured directory that others can write: %v", err)
	}
	link := filepath.Join(home, "link")
	if err := os.Symlink(t.TempDir(), link); err != nil {
		t.Fatal(err)
	}
	if _, err := findCacheDir(link); err == nil || !strings.Contains(err.Error(), "not a directory") {
		t.Errorf("a link: %v", err)
	}
	if os.Geteuid() == 0 {
		other := filepath.Join(home, "other")
		if err := os.Mkdir(other, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(other, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		if _, err := findCacheDir(other); err == nil || !strings.Contains(err.Error(), "belongs to user 65534") {
			t.Errorf("another user's directory: %v", err)
		}
	}
}

func TestPrune(t *testing.T) {
	dir := t.TempDir()
	now := time.Unix(1e9, 0)
	for name, age := range map[string]time.Duration{"metered-new": 0, "somebody's": maxCacheAge * 3, "compiled-old": maxCacheAge * 2, "wazero-v1/old": maxCacheAge + 1, "wazero-v1/older": maxCacheAge * 2, "wazero-v1/used": maxCacheAge} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, now, now.Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	large := filepath.Join(dir, "metered-large") // sparse, and older than "metered-new"
	if err := os.WriteFile(large, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Truncate(large, maxCacheSize), os.Chtimes(large, now, now.Add(-time.Hour))); err != nil {
		t.Fatal(err)
	}
	cacheDir{path: dir}.prune(now)
	var left []string
	if err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			left = append(left, e.Name())
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(left, " "); got != "metered-new somebody's" {
		t.Errorf("left is %q, want only what is new, and what is not weir's", got)
	}
}
