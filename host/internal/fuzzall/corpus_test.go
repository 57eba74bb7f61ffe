package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCorpus: what one cache has is in another after save and restore, but for what is too large, and nothing leaves the cache.
func TestCorpus(t *testing.T) {
	dir := t.TempDir()
	from := corpus{filepath.Join(dir, "corpus.tar.gz"), filepath.Join(dir, "from")}
	to := corpus{from.path, filepath.Join(dir, "to")}
	targets := []target{{"./host/message", "FuzzQuery"}, {"./sdk", "FuzzNever"}}
	if err := to.restore(); err != nil {
		t.Errorf("without a file: %v", err)
	}
	for name, content := range map[string]string{"a": "one", "b": strings.Repeat("x", maxInput+1), "c": "three"} {
		write(t, filepath.Join(from.cache, "host/message/FuzzQuery", name), content)
	}
	write(t, filepath.Join(from.cache, "host/message/FuzzGone/a"), "of a target that there is no more")
	if err := from.save(targets); err != nil {
		t.Fatal(err)
	}
	first, err := os.ReadFile(from.path)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(to.cache, "host/message/FuzzQuery/a"), "its own")
	if err := to.restore(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"FuzzQuery/a": "its own", "FuzzQuery/b": "", "FuzzQuery/c": "three", "FuzzGone/a": ""} {
		if got, _ := os.ReadFile(filepath.Join(to.cache, "host/message", name)); string(got) != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if err := from.save(targets); err != nil {
		t.Fatal(err)
	}
	if again, err := os.ReadFile(from.path); err != nil || !bytes.Equal(again, first) {
		t.Errorf("the same inputs make another file, %v", err)
	}
}

// TestCorpusRefuses: a file with names that lead elsewhere is refused.
func TestCorpusRefuses(t *testing.T) {
	for _, name := range []string{"../../a/b", "/a/b/c", "a", "a/../../b/c/d"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			c := corpus{filepath.Join(dir, "corpus.tar.gz"), filepath.Join(dir, "cache")}
			var out bytes.Buffer
			packed := gzip.NewWriter(&out)
			w := tar.NewWriter(packed)
			if err := errors.Join(w.WriteHeader(&tar.Header{Name: name, Mode: 0o644}), w.Close(), packed.Close()); err != nil {
				t.Fatal(err)
			}
			write(t, c.path, out.String())
			if err := c.restore(); err == nil {
				t.Error("got no error")
			}
		})
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o666); err != nil {
		t.Fatal(err)
	}
}
