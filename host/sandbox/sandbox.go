// Package sandbox takes from a running weir what a DNS proxy has no use for, so that somebody who takes over the process finds little to do there.
//
//	Apply ─► no_new_privs ─► capabilities ─► files (Landlock) ─► system calls (seccomp)
//
// Each step holds for all threads, for the children of the process, and for ever. What the kernel or a container lacks is left out, and the
// [Report] says so. On other systems than Linux nothing is done.
//
// It is not what contains filters: that is package wasm, and this is for the day on which it fails.
package sandbox

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Paths are the files that a process may open from then on. A file that is replaced is another file, so what a configuration names counts as
// the directory that it is in.
type Paths struct {
	// Read are directories, to be read with all that is below them, and files.
	Read []string
	// Write are directories in which files are made, written, renamed and removed. They are read as well.
	Write []string
	// Append are directories in which files are made and written, but not removed, and files.
	Append []string
	// Sockets are directories in which sockets are made, and files removed.
	Sockets []string
	// Remove are directories whose empty subdirectories may be removed.
	Remove []string
}

// Report says what holds, in words for the log: each is what was achieved, or "no: " and why not.
type Report struct {
	Privileges   string // no_new_privs
	Capabilities string
	Files        string // Landlock
	SystemCalls  string // seccomp
	// Err is what went wrong in a way that says nothing about the kernel; the other steps were tried all the same.
	Err error

	allowed []string // what can be read, resolved; nil: everything
}

// Add has the file at path, which a configuration names, be read: with the directory that it is in, and the one that it is in when links have been
// followed. A directory is read itself. An empty path adds nothing.
func (p *Paths) Add(path string) {
	if path == "" {
		return
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		p.Read = append(p.Read, path)
		return
	}
	p.Read = append(p.Read, Place(path))
	if real, err := filepath.EvalSymlinks(path); err == nil {
		p.Read = append(p.Read, Place(real))
	}
}

// Place is the directory to allow for a file. Of the root and of /dev, it is the file alone.
func Place(file string) string {
	dir := filepath.Dir(file)
	if abs, err := filepath.Abs(dir); err == nil && (abs == "/" || abs == "/dev") {
		return file
	}
	return dir
}

// Allows reports whether the file at path may be read. It errs on the side of yes when it can't tell.
func (r *Report) Allows(path string) bool {
	if r == nil || r.allowed == nil || path == "" {
		return true
	}
	real := resolve(path)
	return slices.ContainsFunc(r.allowed, func(dir string) bool { return within(real, dir) })
}

// Allowed are the directories and files that may be read, sorted; nil means all.
func (r *Report) Allowed() []string { return r.allowed }

func within(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// resolve follows the links in path, as far as there is anything.
func resolve(path string) string {
	abs, err := filepath.Abs(path)
	if err != nil {
		return path
	}
	real, err := filepath.EvalSymlinks(abs)
	if err == nil {
		return real
	}
	if dir := filepath.Dir(abs); errors.Is(err, os.ErrNotExist) && dir != abs {
		return filepath.Join(resolve(dir), filepath.Base(abs))
	}
	return abs
}

// settle makes of paths what there is, each once.
func settle(paths []string) (dirs, files []string) {
	for _, path := range paths {
		real := resolve(path)
		info, err := os.Stat(real)
		switch {
		case err != nil:
		case info.IsDir():
			dirs = append(dirs, real)
		default:
			files = append(files, real)
		}
	}
	slices.Sort(dirs)
	slices.Sort(files)
	return slices.Compact(dirs), slices.Compact(files)
}
