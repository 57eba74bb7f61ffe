// Package trial runs files of cases (package sdktest) against a module as weir runs it: admitted, metered and compiled by package wasm, with its
// schema checked, its grants in force, and tables that the host indexes. What an author sees here is what happens in a chain.
//
// It is for tools and tests. The frame that sdktest makes by the contract is taken apart, and made again by the host; so cases that pass here
// and natively show that both understand the contract alike.
package trial

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/weirdns/weir/abi"
	"github.com/weirdns/weir/host/table"
	"github.com/weirdns/weir/host/wasm"
	"github.com/weirdns/weir/sdk/sdktest"
)

// Trial is a module that is tried. It is used by one goroutine at a time.
type Trial struct {
	module   []byte
	manifest abi.Manifest
	runtime  *wasm.Runtime
	log      *lines
	temp     string // for the sources of tables
	filters  []*wasm.Filter
	fuel     uint64
	clock    time.Time
}

// New makes a trial of a module, which is compiled at the first case. cacheDir keeps compiled modules; empty, it is that of weir run. The caller
// closes the trial.
func New(module []byte, cacheDir string) (*Trial, error) {
	m, err := abi.ReadManifest(module)
	if err != nil {
		return nil, err
	}
	t := &Trial{module: module, manifest: m, log: &lines{}, clock: time.Unix(1e9, 0)}
	if t.temp, err = os.MkdirTemp("", "weir-trial-"); err != nil {
		return nil, err
	}
	// Each look at the clock is a second later, so that no line of the log is one too many.
	now := func() time.Time { t.clock = t.clock.Add(time.Second); return t.clock }
	if t.runtime, err = wasm.NewRuntime(wasm.RuntimeConfig{CacheDir: cacheDir, Log: slog.New(t.log), Now: now}); err != nil {
		return nil, errors.Join(err, os.RemoveAll(t.temp))
	}
	return t, nil
}

// Close ends the trial and the instances that it opened.
func (t *Trial) Close() error {
	for _, f := range t.filters {
		f.Close()
	}
	return errors.Join(t.runtime.Close(), os.RemoveAll(t.temp))
}

// Manifest is that of the module.
func (t *Trial) Manifest() abi.Manifest { return t.manifest }

// Fuel is the most that one call used, of [wasm.DefaultFuel] that it may.
func (t *Trial) Fuel() uint64 { return t.fuel }

// Open returns what runs files of cases against the module. ctx ends waiting for the compiler.
func (t *Trial) Open(ctx context.Context) sdktest.Open {
	return sdktest.With(sdktest.Inside, func(h *sdktest.Host) (sdktest.Instance, error) {
		f, err := t.open(ctx, h)
		if mistakes, ok := errors.AsType[wasm.Mistakes](err); ok {
			return nil, refusal(mistakes)
		}
		if err != nil {
			return nil, err
		}
		return &instance{trial: t, host: h, filter: f, again: func() (*wasm.Filter, error) { return t.open(ctx, h) }}, nil
	})
}

// filterName is the name of the filter in the configuration, as in the document that sdktest makes.
const filterName = "test"

// base is the path of the filter's configuration, which mistakes begin with.
const base = "filter." + filterName + ".config"

func (t *Trial) open(ctx context.Context, h *sdktest.Host) (*wasm.Filter, error) {
	tables, err := t.tables(h.File)
	if err != nil {
		return nil, err
	}
	var config map[string]any
	d := json.NewDecoder(bytes.NewReader(h.File.Config))
	d.UseNumber() // 3 and 3.0 go to the filter as they are in the file
	if err := d.Decode(&config); err != nil {
		return nil, fmt.Errorf("%s: config.json: %w", h.File.Name, err)
	}
	var grants []string // as an operator would who trusts the module
	for _, g := range t.manifest.Grants {
		if g != abi.GrantLog && g != abi.GrantMetrics {
			grants = append(grants, g)
		}
	}
	f, err := t.runtime.Open(ctx, filterName, wasm.Config{Config: config, Grants: grants},
		wasm.Environment{Module: t.module, Upstreams: h.File.Upstreams, Tables: tables})
	if err == nil {
		t.filters = append(t.filters, f)
	}
	return f, err
}

// tables opens the tables of a file of cases. Each is a file for as long as it is read.
func (t *Trial) tables(f *sdktest.File) (map[string]wasm.Table, error) {
	tables := map[string]wasm.Table{}
	var errs []error
	f.Tables(func(name, kind, text string) {
		path := filepath.Join(t.temp, "source")
		c := table.Config{}
		switch kind {
		case abi.TableZone:
			c.Zonefile, c.Origin = path, "."
		case abi.TableNames:
			c.Names = path
		case abi.TablePrefixes:
			c.Prefixes = path
		case abi.TableHosts:
			c.Hostsfile = path
		default:
			errs = append(errs, fmt.Errorf("%s: table %s: there is no kind %q", f.Name, name, kind))
			return
		}
		err := os.WriteFile(path, []byte(text), 0o600)
		if err == nil {
			tables[name], err = table.Open(name, c, "", nil)
		}
		if err != nil {
			errs = append(errs, errors.New(strings.ReplaceAll(err.Error(), path, f.Name+": table "+name)))
		}
	})
	return tables, errors.Join(errs...)
}

// refusal is what the host says of a configuration: mistakes that it found itself by the schema, or that configure told it.
type refusal wasm.Mistakes

// Error gives the lines as configure writes them, with keys that are relative to the configuration.
func (r refusal) Error() string {
	lines := make([]string, len(r))
	for i, m := range r {
		lines[i] = key(m) + ": " + m.Text
	}
	return strings.Join(lines, "\n")
}

// Keys implements sdktest.Refusal.
func (r refusal) Keys() []string {
	keys := make([]string, len(r))
	for i, m := range r {
		keys[i] = key(m)
	}
	return keys
}

var _ sdktest.Refusal = refusal(nil)

func key(m wasm.Mistake) string {
	return strings.TrimPrefix(strings.TrimPrefix(m.Path, base), ".")
}

// lines is a handler of a log that keeps what filters say.
type lines struct{ host *sdktest.Host }

// Enabled implements slog.Handler: all levels are.
func (*lines) Enabled(context.Context, slog.Level) bool { return true }

// Handle implements slog.Handler.
func (l *lines) Handle(_ context.Context, r slog.Record) error {
	if l.host != nil {
		l.host.Log(map[slog.Level]uint32{slog.LevelDebug: 0, slog.LevelInfo: 1, slog.LevelWarn: 2, slog.LevelError: 3}[r.Level], []byte(r.Message))
	}
	return nil
}

// WithAttrs implements slog.Handler: there is one filter, so its name is of no interest.
func (l *lines) WithAttrs([]slog.Attr) slog.Handler { return l }

// WithGroup implements slog.Handler.
func (l *lines) WithGroup(string) slog.Handler { return l }
