package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"time"
)

// binaries builds the test binary of each package when it is first needed.
//
// go test -fuzz has the counters of the fuzzer in every package of a binary, those of the standard library and of QUIC too, and clears and reads all of
// them in each execution. In host/listener these are 93,757, and 20,000 executions of FuzzProxyHeader take 22 s of CPU time; with the 6,498 of this
// module's packages they take 0.6 s. So the binaries are made with -c, and with what -fuzz would tell the compiler for these packages only. The price is
// that the fuzzer does not see its way through a library, such as the one that reads TOML.
type binaries struct {
	module string // its path
	dir    string // where they are

	mu  sync.Mutex // guards all
	all map[string]func() (string, error)
}

func newBinaries() (*binaries, error) {
	module, err := goSays("list", "-m")
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "fuzzall")
	if err != nil {
		return nil, err
	}
	return &binaries{module: module, dir: dir, all: make(map[string]func() (string, error))}, nil
}

// remove removes all of them.
func (b *binaries) remove() error { return os.RemoveAll(b.dir) }

// of returns the path of the test binary of the package in dir.
func (b *binaries) of(dir string) (string, error) {
	b.mu.Lock()
	path, ok := b.all[dir]
	if !ok {
		to := filepath.Join(b.dir, strconv.Itoa(len(b.all))+".test")
		path = sync.OnceValues(func() (string, error) {
			out, err := exec.Command("go", "test", "-c", "-gcflags="+b.module+"/...=-d=libfuzzer", "-o", to, dir).CombinedOutput()
			if err != nil {
				return "", fmt.Errorf("building the tests of %s: %w\n%s", dir, err, out)
			}
			return to, nil
		})
		b.all[dir] = path
	}
	b.mu.Unlock()
	return path()
}

// fuzz runs a target for the time d, or with d = 0 only on the inputs that there are, or until ctx ends, or until it has had so many executions if most is above 0, and returns what it says. The inputs that it begins
// with, and those that it finds, are in the directory cache.
func (b *binaries) fuzz(ctx context.Context, t target, cache string, d time.Duration, most int64) ([]byte, error) {
	path, err := b.of(t.dir)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	limit := d.String()
	if d == 0 { // what there is comes first
		limit, most = strconv.Itoa(files(filepath.Join(cache, filepath.FromSlash(t.dir), t.name))+files(filepath.Join(t.dir, "testdata", "fuzz", t.name))+seeds)+"x", 0
	}
	if most > 0 { // there is one limit only, so that the time is kept here
		limit = strconv.FormatInt(most, 10) + "x"
		defer time.AfterFunc(d, cancel).Stop()
	}
	cmd := exec.CommandContext(ctx, path, "-test.run", "^$", "-test.fuzz", "^"+t.name+"$", "-test.fuzztime", limit, "-test.fuzzminimizetime", "10x",
		"-test.parallel", "1", "-test.fuzzcachedir", filepath.Join(cache, filepath.FromSlash(t.dir)))
	cmd.Dir = t.dir
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // upon which it ends as when its time is over
	out, err := cmd.CombinedOutput()
	interrupted := ctx.Err() != nil && !bytes.Contains(out, []byte("FAIL")) && !bytes.Contains(out, []byte("panic:"))
	if err != nil && (interrupted || timeOver(out) || passesAlone(path, t, out)) {
		err = nil
	}
	return out, err
}

// seeds is more than any target adds itself.
const seeds = 250

// files is how many there are in a directory, which need not exist.
func files(dir string) int {
	entries, _ := os.ReadDir(dir)
	return len(entries)
}

var hungLine = regexp.MustCompile(`fuzzing process hung or terminated unexpectedly: .*\n +Failing input written to testdata/fuzz/\w+/(\w+)\n`)

// passesAlone reports whether all that a target failed with is an input that took more than the 10 s which the fuzzer gives to each, or ended the process,
// and passes three times when it is alone: the machine was too busy to run it. That input is removed.
func passesAlone(path string, t target, out []byte) bool {
	m := hungLine.FindSubmatch(out)
	if m == nil {
		return false
	}
	input := string(m[1])
	for range 3 {
		cmd := exec.Command(path, "-test.run", "^"+t.name+"$/^"+input+"$", "-test.timeout", "1m")
		cmd.Dir = t.dir
		if err := cmd.Run(); err != nil {
			return false
		}
	}
	return os.Remove(filepath.Join(t.dir, "testdata", "fuzz", t.name, input)) == nil
}
