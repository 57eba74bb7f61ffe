//go:build !wasip1

// Package driver compiles the filters of this repository to WebAssembly. The command above it is what make uses; tests that
// need modules call [Module], so that they work in a fresh clone, where nothing was built.
package driver

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/weirdns/weir/abi"
	"github.com/weirdns/weir/sdk/pack/manifest"
)

// Built is a filter in dist.
type Built struct {
	Name   string
	Path   string // of the module
	Size   int64  // in octets
	Cached bool   // it was there already
}

// flags are what stock Go needs to make a small reactor: symbols and DWARF are more than half of a module.
var flags = []string{"build", "-trimpath", "-buildvcs=false", "-buildmode=c-shared", "-ldflags=-s -w"}

// environment is added to that of the process.
var environment = []string{"GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0", "GOFLAGS=", "GOEXPERIMENT=", "GOWASM="}

// Build compiles the filters with these names, or all if there are none. It works in the source tree that this package was
// compiled from.
func Build(ctx context.Context, names ...string) ([]Built, error) {
	root, err := directory()
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		if names, err = list(root); err != nil {
			return nil, err
		}
	}
	var all []Built
	for _, name := range names {
		b, err := build(ctx, root, name)
		if err != nil {
			return all, fmt.Errorf("filter %s: %w", name, err)
		}
		all = append(all, b)
	}
	return all, nil
}

// Module compiles one filter, if its sources changed, and returns the module. It is safe for concurrent use.
func Module(ctx context.Context, name string) ([]byte, error) {
	b, err := Build(ctx, name)
	if err != nil {
		return nil, err
	}
	return os.ReadFile(b[0].Path)
}

// directory returns the directory "filters" of the source tree.
func directory() (string, error) {
	_, file, _, ok := runtime.Caller(0)
	if ok && filepath.IsAbs(file) {
		return filepath.Join(filepath.Dir(file), "..", ".."), nil
	}
	// Built with -trimpath, this package does not know where it is: the current directory has to be within the module.
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/weirdns/weir").Output()
	if err != nil {
		return "", fmt.Errorf("source tree of weir: run this within it: %w", err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "filters"), nil
}

// list returns the names of all filters: the directories with a manifest.
func list(root string) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(root, "*", "filter.json"))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, f := range files {
		names = append(names, filepath.Base(filepath.Dir(f)))
	}
	return names, nil
}

// building is held while modules are built: two tests of a package may want the same one. Two processes may as well; they write
// the same octets, and files appear whole.
var building sync.Mutex

func build(ctx context.Context, root, name string) (Built, error) {
	building.Lock()
	defer building.Unlock()
	if name == "" || name != filepath.Base(name) {
		return Built{}, errors.New("want the name of a directory in filters")
	}
	source := filepath.Join(root, name)
	m, err := manifest.Read(filepath.Join(source, "filter.json"))
	if err != nil {
		return Built{}, err
	}
	if m.Name != name {
		return Built{}, fmt.Errorf("filter.json: name is %q, want that of the directory", m.Name)
	}
	sum, err := hash(ctx, source)
	if err != nil {
		return Built{}, err
	}
	b := Built{Name: name, Path: filepath.Join(root, "dist", name+".wasm")}
	mark := filepath.Join(root, "dist", name+".sum")
	if packed, err := os.ReadFile(b.Path); err == nil {
		if have, err := os.ReadFile(mark); err == nil && string(have) == sum+" "+digest(packed)+"\n" {
			b.Size, b.Cached = int64(len(packed)), true
			return b, nil
		}
	}
	work, err := os.MkdirTemp("", "weir-filter-")
	if err != nil {
		return Built{}, err
	}
	defer os.RemoveAll(work)
	raw := filepath.Join(work, name+".wasm")
	if _, err := command(ctx, source, append(slices.Clone(flags), "-o", raw, ".")...); err != nil {
		return Built{}, err
	}
	module, err := os.ReadFile(raw)
	if err != nil {
		return Built{}, err
	}
	packed, err := abi.AppendManifest(module, m)
	if err != nil {
		return Built{}, err
	}
	if err := replace(b.Path, packed); err != nil {
		return Built{}, err
	}
	b.Size = int64(len(packed))
	return b, replace(mark, []byte(sum+" "+digest(packed)+"\n"))
}

// hash returns a digest of everything that a module is made of: the toolchain, the flags, the manifest, and the sources of all
// packages outside of the standard library.
func hash(ctx context.Context, source string) (string, error) {
	out, err := command(ctx, source, "list", "-deps", "-f",
		`{{if not .Standard}}{{$d := .Dir}}{{range .GoFiles}}{{$d}}/{{.}}{{"\n"}}{{end}}{{end}}`, ".")
	if err != nil {
		return "", err
	}
	h := sha256.New()
	version, err := command(ctx, source, "version")
	if err != nil {
		return "", err
	}
	fmt.Fprintf(h, "%s %q %q\n", version, flags, environment)
	files := strings.Fields(string(out))
	for _, f := range append(files, filepath.Join(source, "filter.json")) {
		content, err := os.Open(f)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "\n%s\n", filepath.Base(f))
		_, err = io.Copy(h, content)
		content.Close() //nolint:errcheck // it was only read
		if err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// command runs the go command, for WebAssembly.
func command(ctx context.Context, directory string, arguments ...string) ([]byte, error) {
	c := exec.CommandContext(ctx, "go", arguments...)
	c.Dir = directory
	c.Env = append(os.Environ(), environment...)
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s: %w\n%s", arguments[0], err, stderr.Bytes())
	}
	return out, nil
}

// replace writes a file so that others see the old one or the new one.
func replace(name string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}
