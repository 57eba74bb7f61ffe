package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/go-viper/mapstructure/v2"
	"github.com/knadh/koanf/parsers/toml/v2"
	"github.com/knadh/koanf/providers/rawbytes"
	"github.com/knadh/koanf/v2"
	gotoml "github.com/pelletier/go-toml/v2"

	"github.com/weirdns/weir/host/admin"
	"github.com/weirdns/weir/host/cache"
	"github.com/weirdns/weir/host/chain"
	"github.com/weirdns/weir/host/listener"
	"github.com/weirdns/weir/host/querylog"
	"github.com/weirdns/weir/host/table"
	"github.com/weirdns/weir/host/upstream"
	"github.com/weirdns/weir/host/wasm"
)

// Defaults and bounds of the top level.
const (
	// DefaultBudget is below the 2 s after which resolvers on cloud images ask again (options timeout:2), with some time for the way back.
	DefaultBudget = 1800 * time.Millisecond
	maxBudget     = 30 * time.Second
	// DefaultDrain is a little more than the budget: after it, no query can still be on its way.
	DefaultDrain = 2 * time.Second
	maxDrain     = 5 * time.Minute
)

// DefaultCache is the name of the cache that upstreams have which name none. The file may define it.
const DefaultCache = "default"

// layout is what a file may have in it.
type layout struct {
	Log          Log                        `koanf:"log"`
	Admin        admin.Config               `koanf:"admin"`
	Budget       time.Duration              `koanf:"budget"`
	Drain        time.Duration              `koanf:"drain"`
	Lameduck     time.Duration              `koanf:"lameduck"`
	Watch        bool                       `koanf:"watch"`
	Process      Process                    `koanf:"process"`
	Wasm         Wasm                       `koanf:"wasm"`
	Policy       policy                     `koanf:"policy"`
	PrivateZones []string                   `koanf:"private_zones"`
	Listener     []listener.Config          `koanf:"listener"`
	Table        map[string]table.Config    `koanf:"table"`
	Cache        map[string]cache.Config    `koanf:"cache"`
	Upstream     map[string]upstream.Config `koanf:"upstream"`
	Chain        map[string]chain.Config    `koanf:"chain"`
	Filter       map[string]wasm.Config     `koanf:"filter"`
}

// File is a configuration that was read and checked. What only the manifests and schemas of filters can tell is not checked yet; see
// [File.CheckChain], [File.CheckUnique] and [File.Error].
//
// The parts are as the operator wrote them: a zero stands for the default of the part (its WithDefaults). The exceptions: caches have
// what their presets say, an upstream always names a cache that is in Caches, a filter always names a module, and paths are joined
// with Dir.
type File struct {
	Log    Log
	Admin  admin.Config
	Budget time.Duration // how long a query may take in all
	Drain  time.Duration // how long a stop waits for the queries that are on their way; 0 for not at all
	// Lameduck is how long weir serves on after it is told to stop, so that whoever balances load sees it and goes elsewhere.
	Lameduck time.Duration
	// Watch has weir reload when the file, or the module of a filter, changes.
	Watch   bool
	Process Process
	Wasm    Wasm
	Policy  upstream.Policy // with the addresses of the listeners
	// PrivateZones are canonical names in wire format: only upstreams with Private may be asked for what is in them.
	PrivateZones [][]byte

	Listeners []listener.Config
	// The others are in the order of the file.
	Tables    []Named[table.Config]
	Caches    []Named[cache.Config]
	Upstreams []Named[upstream.Config]
	Chains    []Named[chain.Config]
	// Filters have in Module the path of a file if it ends in ".wasm", and else the name of a module that comes with weir.
	Filters []Named[wasm.Config]

	// Warnings are not mistakes, but probably not meant: what is defined and never used.
	Warnings Errors
	// Path is that of the file, as it was given, and Dir its directory.
	Path, Dir string

	root  *place
	paths []string
}

// Named is one table of a kind of which there may be several, such as [upstream.corp].
type Named[T any] struct {
	Name   string // "corp"
	Config T
}

// Log is the table [log].
type Log struct {
	// Level is "debug", "info" (the default), "warn" or "error": what is below is not logged.
	Level string `koanf:"level"`
	// Format is "text", "json", or "auto" (the default): text in color on a terminal, and else JSON.
	Format string `koanf:"format"`
	// Queries has every query logged, a line each, apart from the rest of the log.
	Queries bool `koanf:"queries"`
	// QueryFormat is "json" (the default), or "coredns" for the lines of CoreDNS's plugin log.
	QueryFormat string `koanf:"query_format"`
	// QueryFile is the file that queries are logged to, begun anew on SIGHUP. Empty: standard output.
	QueryFile string `koanf:"query_file"`
}

var logLevels = map[string]slog.Level{"": slog.LevelInfo, "debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}

// SlogLevel returns the level for log/slog.
func (l Log) SlogLevel() slog.Level { return logLevels[l.Level] }

// Validate returns all that is wrong. Each of the joined errors begins with the key at fault.
func (l Log) Validate() error {
	var errs []error
	if _, ok := logLevels[l.Level]; !ok {
		errs = append(errs, fmt.Errorf("level: %q is not a level: write \"debug\", \"info\", \"warn\" or \"error\"", l.Level))
	}
	switch l.Format {
	case "", "auto", "text", "json":
	default:
		errs = append(errs, fmt.Errorf("format: %q is not a format: write \"auto\", \"text\" or \"json\"", l.Format))
	}
	switch l.QueryFormat {
	case "", querylog.JSON, querylog.CoreDNS:
	default:
		errs = append(errs, fmt.Errorf("query_format: %q is not a format: write \"json\" or \"coredns\"", l.QueryFormat))
	}
	if !l.Queries && l.QueryFile != "" {
		errs = append(errs, errors.New("query_file: nothing is written to it without queries = true: add that, or delete this"))
	}
	return errors.Join(errs...)
}

// Process is the table [process].
type Process struct {
	// Sandbox has weir give up, once it serves, what it does not need of the system: see package sandbox. It is on unless this is false.
	Sandbox bool `koanf:"sandbox"`
	// Handover is the absolute path of a Unix-domain socket at which a new weir asks this one for its sockets: see package handover. Empty: none can.
	Handover string `koanf:"handover"`
}

// maxSocketPath is what struct sockaddr_un has room for on Linux, without the zero behind it.
const maxSocketPath = 107

// Validate returns what is wrong. The error begins with the key at fault.
func (p Process) Validate() error {
	switch {
	case p.Handover == "":
		return nil
	case !filepath.IsAbs(p.Handover) || filepath.Clean(p.Handover) != p.Handover:
		return fmt.Errorf("handover: %q does not name a file: write an absolute path, such as \"/run/weir/handover.sock\"", p.Handover)
	case len(p.Handover) > maxSocketPath:
		return fmt.Errorf("handover: the path has %d octets: sockets have room for %d", len(p.Handover), maxSocketPath)
	}
	return nil
}

// Wasm is the table [wasm].
type Wasm struct {
	// CacheDir is the directory that compiled modules are kept in, so that the next start is faster. Empty: "weir" in
	// the user's cache directory, or a temporary one where that can't be written.
	CacheDir string `koanf:"cache_dir"`
}

// Load reads and checks the configuration at path. environ is the environment, as [os.Environ] gives it, whose variables that begin with
// WEIR_ override what is in the file; see the package comment.
//
// What is wrong in the configuration is returned as [Errors], all of it. Other errors are about reading the file.
func Load(path string, environ []string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return Parse(path, data, environ)
}

// Parse is Load for a file that is in memory. path is its name in errors, and what paths in it are relative to.
func Parse(path string, data []byte, environ []string) (*File, error) {
	if len(data) > maxFileSize {
		return nil, Errors{{Position: path + ":1", Line: 1, Column: 1,
			Text: fmt.Sprintf("the file has more than %d MiB: put large lists into a [table.NAME]", maxFileSize>>20)}}
	}
	data = bytes.TrimPrefix(data, []byte("\xEF\xBB\xBF")) // the byte order mark of some editors, which TOML has no use for
	root, errs := newSurvey(path, data)
	if len(errs) > 0 {
		return nil, errs.sorted()
	}
	l := &loader{
		file:     &File{Path: path, Dir: filepath.Dir(path), root: root},
		root:     root,
		broken:   make(map[string]bool),
		declared: make(map[string]bool),
		koanf:    koanf.New("."),
	}
	if err := l.koanf.Load(rawbytes.Provider(data), toml.Parser()); err != nil {
		return nil, Errors{decodeError(path, data, err)}
	}
	if err := l.koanf.Load(environment(environ), nil, koanf.WithMergeFunc(l.merge)); err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	if err := l.decode(); err != nil {
		return nil, err
	}
	l.checkAll()
	if len(l.errs) > 0 {
		return nil, l.errs.sorted()
	}
	l.warn()
	l.file.Warnings = l.file.Warnings.sorted()
	return l.file, nil
}

// decodeError is an error that the parser of the values found.
func decodeError(path string, data []byte, err error) Error {
	e := Error{Position: path + ":1", Line: 1, Column: 1, Text: err.Error()}
	derr, ok := errors.AsType[*gotoml.DecodeError](err)
	if !ok {
		return e
	}
	s := survey{name: path, data: data, lines: lineStarts(data)}
	line, column := derr.Position()
	return s.broken(s.lines[line-1]+column-1, derr.Error()[len("toml: "):])
}

// loader makes a File.
type loader struct {
	file     *File
	root     *place
	koanf    *koanf.Koanf
	raw      map[string]any  // the document without what the form check rejected
	broken   map[string]bool // paths with something rejected in them
	declared map[string]bool // paths such as upstream.corp, broken or not
	errs     Errors
}

// merge overrides the document with the environment, and checks its form.
func (l *loader) merge(vars, document map[string]any) error {
	l.override(vars, document)
	l.check("", document, layoutType)
	return nil
}

// decode fills the parts of the File.
func (l *loader) decode() error {
	l.raw = l.koanf.Raw()
	f := l.file
	f.Budget, f.Drain = DefaultBudget, DefaultDrain
	f.Process.Sandbox = true
	p := policy{MaxServers: upstream.DefaultPolicy.MaxServers, MinSources: upstream.DefaultPolicy.MinSources, MaxSources: upstream.DefaultPolicy.MaxSources}
	var zones []string
	err := errors.Join(
		l.unmarshal("log", &f.Log),
		l.unmarshal("admin", &f.Admin),
		l.unmarshal("budget", &f.Budget),
		l.unmarshal("drain", &f.Drain),
		l.unmarshal("lameduck", &f.Lameduck),
		l.unmarshal("watch", &f.Watch),
		l.unmarshal("process", &f.Process),
		l.unmarshal("wasm", &f.Wasm),
		l.unmarshal("policy", &p),
		l.unmarshal("private_zones", &zones),
		l.unmarshal("listener", &f.Listeners),
		named(l, "table", &f.Tables, nil),
		named(l, "cache", &f.Caches, l.preset),
		named(l, "upstream", &f.Upstreams, nil),
		named(l, "chain", &f.Chains, nil),
		named(l, "filter", &f.Filters, nil),
	)
	if err != nil {
		return fmt.Errorf("%s: %w", f.Path, err)
	}
	f.Policy = l.policy(p)
	f.PrivateZones = l.privateZones(zones)
	f.Wasm.CacheDir = f.path(f.Wasm.CacheDir)
	f.Log.QueryFile = f.path(f.Log.QueryFile)
	return nil
}

// unmarshal decodes the part of the document at a path, if there is one, on top of what is in v.
func (l *loader) unmarshal(path string, v any) error {
	if _, ok := lookup(l.raw, path); !ok {
		return nil
	}
	err := l.koanf.UnmarshalWithConf(path, v, koanf.UnmarshalConf{DecoderConfig: &mapstructure.DecoderConfig{
		TagName:     "koanf",
		ErrorUnused: true,
		Result:      v,
		DecodeHook:  mapstructure.ComposeDecodeHookFunc(mapstructure.StringToTimeDurationHookFunc(), mapstructure.TextUnmarshallerHookFunc()),
	}})
	if err != nil {
		return fmt.Errorf("decode %s: %w", path, err)
	}
	return nil
}

// named decodes the tables of a section, in the order of the file. initial gives what is in a table before, nil for the zero value.
func named[T any](l *loader, section string, tables *[]Named[T], initial func(name string) T) error {
	values, _ := lookup(l.raw, section)
	m, _ := values.(map[string]any)
	for _, name := range l.root.find(section).names() {
		if _, ok := m[name]; !ok {
			continue
		}
		t := Named[T]{Name: name}
		if initial != nil {
			t.Config = initial(name)
		}
		if err := l.unmarshal(section+"."+name, &t.Config); err != nil {
			return err
		}
		*tables = append(*tables, t)
	}
	return nil
}

// preset returns the configuration that the keys of a cache are decoded on top of. An unknown preset is reported later.
func (l *loader) preset(name string) cache.Config {
	v, _ := lookup(l.raw, "cache."+name+".preset")
	text, _ := v.(string)
	c, ok := cache.Preset(text)
	if !ok {
		c, _ = cache.Preset("")
	}
	return c
}

// Position returns where the key of a path is, such as "weir.toml:12" for "upstream.corp.servers[1]", or the name of the environment variable
// that set it. If there is no such key, it is where the longest part of the path is that exists.
//
// A path is written as in TOML, keys quoted where TOML would want that; indexes of arrays are in brackets and count from 0.
func (f *File) Position(path string) string { return f.root.find(path).position(f.Path) }

// Error makes an error about the key of a path, for what only the host can find out: that a filter's configuration names a table which does not
// exist (for the text, see [Unknown]), or what a filter itself says about its configuration.
func (f *File) Error(path, text string) Error {
	p := f.root.find(path)
	return Error{Position: p.position(f.Path), Line: p.line, Column: p.column, Key: path, Text: text}
}

func (p *place) position(file string) string {
	if p.env != "" {
		return p.env
	}
	return fmt.Sprintf("%s:%d", file, p.line)
}

// path returns a path of the file as seen from the working directory.
func (f *File) path(p string) string {
	if p == "" {
		return p
	}
	if !filepath.IsAbs(p) {
		p = filepath.Join(f.Dir, p)
	}
	f.paths = append(f.paths, p)
	return p
}

// Paths are all files and directories that the configuration names, as seen from the working directory, and the file itself.
func (f *File) Paths() []string { return append([]string{f.Path}, f.paths...) }

func (l *loader) position(path string) string { return l.file.Position(path) }

func (l *loader) add(path, text string) { l.errs = append(l.errs, l.file.Error(path, text)) }
