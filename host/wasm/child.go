package wasm

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
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/tetratelabs/wazero"
	"golang.org/x/sys/unix"
)

// Limits of compiling one module that did not come with weir. A Go module of 1.8 MB takes 0.6 s and 60 MB.
const (
	childCPU    = 5 * time.Second * slowdown
	childWall   = 30 * time.Second * slowdown // a child that works is stopped by childCPU; this leaves it a sixth of a processor on a busy machine
	childMemory = 512 << 20
	childOutput = 2 << 10 // octets of what it says that are kept
)

// childArgument is how weir knows that it is the child.
const childArgument = "weir-compile-module"

// CompileChild makes the process compile a module and end, if that is what it was started for; otherwise it does nothing. It is to be the first
// thing in main, and in TestMain of packages that open modules of others.
func CompileChild() {
	if len(os.Args) != 3 || os.Args[1] != childArgument {
		return
	}
	if err := compileChild(os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func compileChild(dir string) error {
	if err := limitChild(); err != nil {
		return err
	}
	module, err := io.ReadAll(io.LimitReader(os.Stdin, 4*maxModule))
	if err != nil {
		return fmt.Errorf("reading the module: %w", err)
	}
	cache, err := openCache(dir)
	if err != nil {
		return err
	}
	ctx := context.Background()
	_, err = wazero.NewRuntimeWithConfig(ctx, engineConfig(cache)).CompileModule(ctx, module)
	return err
}

// limitChild bounds this process. Of address space it may have what it has, the Go runtime reserves some that it never uses, and as much again
// as compiling may take.
func limitChild() error {
	for _, l := range []struct {
		resource int
		most     uint64
	}{
		{unix.RLIMIT_CPU, uint64(childCPU / time.Second)},
		{unix.RLIMIT_AS, addressSpace() + childMemory},
		{unix.RLIMIT_CORE, 0},
	} {
		if err := unix.Setrlimit(l.resource, &unix.Rlimit{Cur: l.most, Max: l.most}); err != nil {
			return os.NewSyscallError("setrlimit", err)
		}
	}
	debug.SetMemoryLimit(childMemory * 3 / 4) // collect garbage rather than die of it
	return nil
}

// addressSpace is how much this process has mapped.
func addressSpace() uint64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 4 << 30 // no /proc: a generous guess of what the Go runtime reserves
	}
	first, _, _ := strings.Cut(string(b), " ")
	pages, _ := strconv.ParseUint(first, 10, 64)
	return pages * uint64(os.Getpagesize())
}

// compileInChild has a child process compile a module, which may take the engine minutes and gigabytes. If the child survives its limits, this
// process finds the result in the cache; should there be no cache, or the result be gone from it, then at least it is known that compiling is
// possible within limits, and this process does it again.
func (r *Runtime) compileInChild(ctx context.Context, module []byte) error {
	sum := sha256.Sum256(append([]byte(runtime.Version()+runtime.GOARCH), module...))
	proof := filepath.Join(r.dir.path, "compiled-"+hex.EncodeToString(sum[:16]))
	if r.dir.path != "" {
		if _, err := os.Lstat(proof); err == nil {
			return nil
		}
	}
	ctx, cancel := context.WithTimeout(ctx, childWall)
	defer cancel()
	child := exec.CommandContext(ctx, executable(), childArgument, r.dir.path)
	child.Env = []string{} // nothing of the operator's
	child.Dir = "/"
	child.Stdin = bytes.NewReader(module)
	said := &head{}
	child.Stdout, child.Stderr = said, said
	child.WaitDelay = time.Second
	err := child.Run()
	if err == nil {
		if r.dir.path != "" {
			_ = os.WriteFile(proof, nil, 0o600) // without it the child is asked again
		}
		return nil
	}
	return childError(ctx, child, err, said.String())
}

// childError says what became of the child.
func childError(ctx context.Context, child *exec.Cmd, err error, said string) error {
	state := child.ProcessState
	switch {
	case state == nil:
		return fmt.Errorf("starting weir to compile the module: %w", err)
	case state.UserTime()+state.SystemTime() > childCPU*3/4: // the system counts for its limit what it doesn't tell here
		return fmt.Errorf("compiling took more than %.0f s of CPU: no module for a filter needs that, it may be an attack", childCPU.Seconds())
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("compiling took more than %.0f s: either the machine is overloaded, then try again, or it is an attack", childWall.Seconds())
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case strings.Contains(said, "out of memory") || strings.Contains(said, "cannot allocate memory"):
		return fmt.Errorf("compiling took more than %s of memory: no module for a filter needs that, it may be an attack", Size(childMemory))
	case state.ExitCode() == 1:
		return fmt.Errorf("does not compile: %s", printable([]byte(strings.TrimSpace(said))))
	}
	line, _, _ := strings.Cut(said, "\n")
	return fmt.Errorf("compiling it ended with %s: %s", state, printable([]byte(line)))
}

// executable is this program, even when the file that it was started from has been replaced since.
func executable() string {
	const self = "/proc/self/exe"
	if _, err := os.Stat(self); err == nil {
		return self
	}
	path, err := os.Executable()
	if err != nil {
		return os.Args[0]
	}
	return path
}

// head keeps the beginning of what a child says.
type head struct{ bytes.Buffer }

// Write implements io.Writer.
func (h *head) Write(b []byte) (int, error) {
	h.Buffer.Write(b[:min(len(b), childOutput-h.Len())])
	return len(b), nil
}
