package wasm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// cacheDir is where compiled modules are kept.
type cacheDir struct {
	path      string // "" when there is none
	temporary bool   // goes with the runtime
	why       error  // why there is none
}

// findCacheDir finds a directory that nobody else can write to: the configured one, the user's, or a temporary one. Only the configured one
// is a reason to fail.
func findCacheDir(configured string) (cacheDir, error) {
	if configured != "" {
		path, err := filepath.Abs(configured)
		if err == nil {
			err = private(path)
		}
		return cacheDir{path: path}, err
	}
	var why error
	if base, err := os.UserCacheDir(); err != nil {
		why = err
	} else {
		path := filepath.Join(base, "weir")
		if why = private(path); why == nil {
			return cacheDir{path: path}, nil
		}
	}
	path, err := os.MkdirTemp("", "weir-")
	if err != nil {
		return cacheDir{why: errors.Join(why, err)}, nil
	}
	return cacheDir{path: path, temporary: true}, nil
}

func (d cacheDir) remove() error {
	if !d.temporary {
		return nil
	}
	// Not RemoveAll at once: it would open the directory above, which the sandbox of the process does not let it.
	entries, err := os.ReadDir(d.path)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(d.path, e.Name())))
	}
	return errors.Join(err, os.Remove(d.path))
}

// private makes sure that path is a directory of this user's in which nobody else can write, and this process can. What lies there is run as
// machine code.
func private(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a directory", path)
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok && int(owner.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to user %d: code is run from there, so it has to belong to user %d, as whom weir runs", path, owner.Uid, os.Geteuid())
	}
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s can be written by others: code is run from there, so make it private: chmod 700 %[1]s", path)
	}
	f, err := os.CreateTemp(path, ".writable-*")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// Bounds of the cache. What is dropped is made again when it is needed, which takes a second.
const (
	maxCacheSize = 512 << 20
	maxCacheAge  = 90 * 24 * time.Hour
)

// cacheFiles are the files that weir makes in its cache.
var cacheFiles = []string{"metered-*", "compiled-*", ".new-*", "wazero-*/*"}

// prune drops what is old from the cache, and the oldest of what is too much: each weir, each change of a module or of its limits leaves an entry
// that nobody asks for any more. Errors are nobody's harm.
func (d cacheDir) prune(now time.Time) {
	type entry struct {
		path string
		info fs.FileInfo
	}
	var entries []entry
	total := int64(0)
	for _, pattern := range cacheFiles { // only weir's own: an operator may have named a directory with other things in it
		paths, _ := filepath.Glob(filepath.Join(d.path, pattern)) // fails only for malformed patterns
		for _, path := range paths {
			if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() {
				entries = append(entries, entry{path, info})
				total += info.Size()
			}
		}
	}
	slices.SortFunc(entries, func(a, b entry) int { return a.info.ModTime().Compare(b.info.ModTime()) })
	for _, e := range entries {
		if total <= maxCacheSize && now.Sub(e.info.ModTime()) <= maxCacheAge {
			return
		}
		if os.Remove(e.path) == nil {
			total -= e.info.Size()
		}
	}
}
