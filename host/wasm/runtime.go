package wasm

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/weirdns/weir/abi"
	"github.com/weirdns/weir/host/rescue"
)

// RuntimeConfig is what all filters share.
type RuntimeConfig struct {
	// CacheDir keeps compiled modules from one start to the next. Empty, it is "weir" in the user's cache directory, or a temporary one. What
	// is in it is run as machine code, so it has to belong to the user that weir runs as, and nobody else may write there.
	CacheDir string
	// Log takes what filters log, and what happens to them. Nil is slog.Default.
	Log *slog.Logger
	// Metrics counts what filters do; nil is nobody.
	Metrics *Metrics
	// Guard is for panics of what runs in the background; nil is one that only logs.
	Guard *rescue.Guard
	// Now is the clock; nil is time.Now.
	Now func() time.Time

	off defence // what tests switch off
}

// Runtime runs the filters of a process: one engine, one cache of compiled modules.
type Runtime struct {
	engine  wazero.Runtime
	cache   wazero.CompilationCache
	dir     cacheDir
	log     *slog.Logger
	guard   *rescue.Guard
	metrics *Metrics
	now     func() time.Time
	started time.Time
	off     defence
	wanted  chan *Filter // filters that have too few instances

	mu    sync.Mutex // guards codes
	codes map[codeKey]*code
}

// maxFilters is how many filters may wait for instances at a time.
const maxFilters = 1024

// NewRuntime makes a runtime. It starts nothing: see Run. The error is about the configured CacheDir.
func NewRuntime(c RuntimeConfig) (*Runtime, error) {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Metrics == nil {
		c.Metrics = NewMetrics(nil)
	}
	if c.Guard == nil {
		c.Guard = &rescue.Guard{Log: c.Log}
	}
	r := &Runtime{
		log: c.Log, guard: c.Guard, metrics: c.Metrics, now: c.Now, started: c.Now(), off: c.off,
		wanted: make(chan *Filter, maxFilters), codes: make(map[codeKey]*code),
	}
	var err error
	if r.dir, err = findCacheDir(c.CacheDir); err != nil {
		return nil, fmt.Errorf("wasm: cache directory: %w", err)
	}
	if r.dir.path == "" {
		r.log.Warn("no directory for compiled modules can be written: modules are compiled at each start, "+
			"those that did not come with weir twice, first in a child process to see that it is safe", "error", r.dir.why)
	}
	if r.dir.path != "" {
		r.dir.prune(time.Now()) // not r.now: the files have the times of the system
	}
	if r.cache, err = openCache(r.dir.path); err != nil {
		return nil, fmt.Errorf("wasm: cache directory: %w", errors.Join(err, r.dir.remove()))
	}
	ctx := context.Background()
	r.engine = wazero.NewRuntimeWithConfig(ctx, engineConfig(r.cache))
	err = errors.Join(
		instantiateHost(ctx, r.engine, abi.HostModule, hostFunctions),
		instantiateHost(ctx, r.engine, wasiModule, wasiFunctions))
	if err != nil {
		return nil, fmt.Errorf("wasm: %w", errors.Join(err, r.Close()))
	}
	return r, nil
}

// engineConfig is the same in the child that compiles, or the cache would not be shared. Debug information is left out: reading it
// takes longer than reading the code, and functions keep their names without it.
func engineConfig(cache wazero.CompilationCache) wazero.RuntimeConfig {
	return wazero.NewRuntimeConfig().WithCoreFeatures(api.CoreFeaturesV2).WithCompilationCache(cache).WithDebugInfoEnabled(false)
}

func openCache(dir string) (wazero.CompilationCache, error) {
	if dir == "" {
		return wazero.NewCompilationCache(), nil
	}
	return wazero.NewCompilationCacheWithDir(dir)
}

// CacheDir is the directory that compiled modules are kept in, empty when there is none, and whether it goes with the runtime.
func (r *Runtime) CacheDir() (path string, temporary bool) { return r.dir.path, r.dir.temporary }

// Run replaces the instances that faults took, off the way of queries, until ctx is done. It returns after the last of its goroutines has ended.
// Without it, filters work until they have no instance left.
func (r *Runtime) Run(ctx context.Context) {
	var making sync.WaitGroup
	defer making.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case f := <-r.wanted:
			// A goroutine each, since a hostile filter can make this take a second: others shall not wait for it. Of one filter there is at
			// most one, with one more waiting for it.
			making.Go(func() { r.guard.Survive(f.replenish) })
		}
	}
}

// replenish has f filled up, or notes why not.
func (f *Filter) replenish() {
	if err := f.fill(); err != nil {
		f.quarantine.fault(err) // trying again and again costs more than calls do
		f.lines.problem("filter gets no new instance", err)
	}
}

// Close releases what the runtime has. All filters are closed, and Run has returned.
func (r *Runtime) Close() error {
	ctx := context.Background()
	return errors.Join(r.engine.Close(ctx), r.cache.Close(ctx), r.dir.remove())
}

// code is a compiled module, shared by the filters that run it under the same limits: those of several chains, and of two generations of a
// configuration during a reload.
type code struct {
	name     string // of the module
	compiled wazero.CompiledModule
	stack    int64 // what a call may take, for the global of the metered module
	err      error

	runtime *Runtime
	key     codeKey
	refs    int // guarded by the runtime's mu
	once    sync.Once
}

type codeKey struct {
	module  identity
	limits  limits
	bundled bool
}

// identity tells modules apart.
type identity [sha256.Size]byte

// identify hashes a module. One from outside must not pass for another, which takes a cryptographic hash; with one that came with weir nobody has
// tampered, and for three of 2.4 MB SHA-256 takes 25 ms of a start where the processor does not do it in hardware.
func identify(module []byte, bundled bool) (id identity) {
	if !bundled {
		return sha256.Sum256(module)
	}
	binary.LittleEndian.PutUint64(id[:], xxhash.Sum64(module))
	binary.LittleEndian.PutUint64(id[8:], uint64(len(module)))
	return id
}

// rescue is deferred: a panic, such as of the engine that compiles a module, is an error.
func (r *Runtime) rescue(err *error) {
	if v := recover(); v != nil {
		r.guard.Panicked(v)
		*err = errPanic
	}
}

// codeOf compiles a module, unless that was done already. Whoever gets it releases it.
func (r *Runtime) codeOf(ctx context.Context, name string, module []byte, tables int, l limits, bundled bool) (*code, error) {
	key := codeKey{identify(module, bundled), l, bundled}
	r.mu.Lock()
	c := r.codes[key]
	if c == nil {
		c = &code{name: name, runtime: r, key: key}
		r.codes[key] = c
	}
	c.refs++
	r.mu.Unlock()
	c.once.Do(func() { c.compile(ctx, module, tables) })
	if c.err != nil {
		c.release()
		return nil, c.err
	}
	return c, nil
}

func (c *code) release() {
	r := c.runtime
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.refs--; c.refs == 0 {
		delete(r.codes, c.key)
		if c.compiled != nil {
			_ = c.compiled.Close(context.Background())
		}
	}
}

// compile meters the module and compiles it.
func (c *code) compile(ctx context.Context, module []byte, tables int) {
	defer c.runtime.rescue(&c.err)
	r, l := c.runtime, c.key.limits
	if l.off&offMeter == 0 {
		if module, c.err = c.meter(module, tables); c.err != nil {
			return
		}
	}
	if !c.key.bundled && l.off&offChild == 0 {
		if c.err = r.compileInChild(ctx, module); c.err != nil {
			return
		}
	}
	ctx = experimental.WithCompilationWorkers(ctx, runtime.GOMAXPROCS(0))
	if c.compiled, c.err = r.engine.CompileModule(ctx, module); c.err != nil {
		c.err = fmt.Errorf("does not compile: %w", c.err)
	}
}
