//go:build !wasip1

// Package driver compiles filters to WebAssembly: with [Compile] whatever folder has one, with [Build] those of this repository. The
// command above it is what make uses; tests that need modules call [Module], so that they work in a fresh clone, where nothing was built.
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
var environment = []string{"GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off", "GOEXPERIMENT=", "GOWASM="}

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
	packed, _, err := Compile(ctx, source)
	if err != nil {
		return Built{}, err
	}
	if err := replace(b.Path, packed); err != nil {
		return Built{}, err
	}
	b.Size = int64(len(packed))
	return b, replace(mark, []byte(sum+" "+digest(packed)+"\n"))
}

// Manifest is the name of the file that makes a folder that of a filter.
const Manifest = "filter.json"

// Compile compiles the filter in a folder, a package main with a manifest in filter.json, and returns the module with its manifest. It
// writes nothing there. The error of a program that does not compile is what the go command says, with file and line.
func Compile(ctx context.Context, folder string) (module []byte, m abi.Manifest, err error) {
	if m, err = manifest.Read(filepath.Join(folder, Manifest)); err != nil {
		return nil, m, err
	}
	work, err := os.MkdirTemp("", "weir-filter-")
	if err != nil {
		return nil, m, err
	}
	defer os.RemoveAll(work)
	raw := filepath.Join(work, "filter.wasm")
	if _, err := command(ctx, folder, append(slices.Clone(flags), "-o", raw, ".")); err != nil {
		return nil, m, err
	}
	if module, err = os.ReadFile(raw); err != nil {
		return nil, m, err
	}
	module, err = abi.AppendManifest(module, m)
	return module, m, err
}

// minor is the oldest Go 1 that the SDK compiles with.
const minor = 26

// CheckToolchain says why the go command can't build filters in a folder: it is missing, or too old.
func CheckToolchain(ctx context.Context, folder string) error {
	want := fmt.Sprintf("want Go 1.%d or newer, from https://go.dev/dl", minor)
	if _, err := exec.LookPath("go"); err != nil {
		return fmt.Errorf("building a filter takes the go command, which is not in PATH: %s", want)
	}
	c := exec.CommandContext(ctx, "go", "env", "GOVERSION")
	c.Dir = folder
	out, err := c.Output()
	version := strings.TrimSpace(string(out))
	if err != nil { // go.mod wants a newer one, which can't be had
		c = exec.CommandContext(ctx, "go", "env", "GOVERSION")
		c.Env = append(os.Environ(), "GOTOOLCHAIN=local")
		out, _ = c.Output() // without it, the message has no version
		return fmt.Errorf("the go command in PATH is too old, or does not start: it is %s; %s", strings.TrimSpace(string(out)), want)
	}
	var have int
	if n, _ := fmt.Sscanf(version, "go1.%d", &have); n == 1 && have < minor {
		return fmt.Errorf("the go command in PATH is too old: it is %s; %s", version, want)
	}
	return nil // what has another form is a development version
}

// hash returns a digest of everything that a module is made of: the toolchain, the flags, the manifest, and the sources of all
// packages outside of the standard library.
func hash(ctx context.Context, source string) (string, error) {
	out, err := command(ctx, source, []string{"list", "-deps", "-f",
		`{{if not .Standard}}{{$d := .Dir}}{{range .GoFiles}}{{$d}}/{{.}}{{"\n"}}{{end}}{{end}}`, "."})
	if err != nil {
		return "", err
	}
	h := sha256.New()
	version, err := command(ctx, source, []string{"version"})
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

// command runs the go command, for WebAssembly unless more of the environment says something else.
func command(ctx context.Context, directory string, arguments []string, more ...string) ([]byte, error) {
	c := exec.CommandContext(ctx, "go", arguments...)
	c.Dir = directory
	c.Env = append(append(os.Environ(), environment...), more...)
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
