package host

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/weirdns/weir/filters"
	"github.com/weirdns/weir/host/cache"
	"github.com/weirdns/weir/host/chain"
	"github.com/weirdns/weir/host/config"
	"github.com/weirdns/weir/host/table"
	"github.com/weirdns/weir/host/upstream"
	"github.com/weirdns/weir/host/wasm"
)

// generation is everything that one configuration makes, but for the listeners: tables, upstreams, filters and chains that belong together. It is built
// and checked as a whole before any query sees it.
//
//  1. build makes it, with the parts of the one before that stay as they are. Nothing that is new runs yet, but it can answer.
//  2. hold takes its parts; they are started when weir serves.
//  3. release ends those that no other generation has. No query is in it any more.
type generation struct {
	number  uint64
	file    *config.File
	parts   []*part // in the order in which they were made
	tables  map[string]*tablePart
	groups  map[string]*groupPart
	caches  map[string]*cachePart // by upstream
	made    map[string]*filterPart
	filters []*wasm.Filter
	chains  map[string]*chain.Chain
	doors   []*door // by listener
	users   users
}

type tablePart struct {
	part
	config table.Config
	table  *table.Table
}

type groupPart struct {
	part
	config upstream.Config
	policy upstream.Policy
	group  *upstream.Group
}

type cachePart struct {
	part
	config cache.Config
	group  *upstream.Group
	cache  *cache.Cache
}

type filterPart struct {
	part
	config    wasm.Config
	module    [sha256.Size]byte
	upstreams []string
	tables    map[string]wasm.Table
	filter    *wasm.Filter
}

// maxModule is the size of the largest module that is read; abi/README.md section 9 allows less.
const maxModule = 32 << 20

// build makes a generation of f, that follows old, which may be nil. What the operator can mend is returned as [config.Errors], all of it.
func (s *Server) build(ctx context.Context, f *config.File, old *generation) (g *generation, err error) {
	g = &generation{
		number: 1, file: f, tables: make(map[string]*tablePart), groups: make(map[string]*groupPart), caches: make(map[string]*cachePart),
		made: make(map[string]*filterPart), chains: make(map[string]*chain.Chain),
	}
	if old == nil {
		old = &generation{}
	}
	g.number = old.number + 1
	defer func() {
		if err != nil {
			g.discard()
			g.forget(old)
			g = nil
		}
	}()
	if err := checkFiles(f); err != nil {
		return g, err
	}
	tables, err := g.openTables(s, f, old)
	if err != nil {
		return g, err
	}
	endpoints, err := g.openUpstreams(s, f, old)
	if err != nil {
		return g, err
	}
	if err := g.openFilters(ctx, s, f, tables, old); err != nil {
		return g, err
	}
	if err := g.makeChains(s, f, endpoints); err != nil {
		return g, err
	}
	for i, l := range f.Listeners {
		d, err := newDoor(l, uint16(i), g.chains)
		if err != nil {
			return g, err
		}
		g.doors = append(g.doors, d)
	}
	return g, nil
}

// checkFiles reads the certificates and cookie secrets of listeners, which a listener does again when it is bound: who checks a configuration hears of
// them, too.
func checkFiles(f *config.File) error {
	var errs config.Errors
	for i, l := range f.Listeners {
		if err := l.CheckFiles(); err != nil {
			key, text, _ := strings.Cut(err.Error(), ": ")
			errs = append(errs, f.Error(fmt.Sprintf("listener[%d].%s", i, key), text))
		}
	}
	return errs.Err()
}

// openTables opens the tables. One that stays is the same table, which follows its files; it is read anew if they changed a moment ago, so that
// what is wrong in them is told now.
func (g *generation) openTables(s *Server, f *config.File, old *generation) (map[string]wasm.Table, error) {
	tables := make(map[string]wasm.Table)
	var errs config.Errors
	for _, t := range f.Tables {
		p := old.tables[t.Name]
		var err error
		if p != nil && reflect.DeepEqual(p.config, t.Config) {
			err = p.table.Refresh()
		} else {
			p = &tablePart{config: t.Config}
			if p.table, err = table.Open(t.Name, t.Config, "", s.log); err == nil {
				p.part = part{name: "table " + t.Name, run: p.table.Run}
			}
		}
		if err != nil {
			errs = append(errs, f.Error("table."+t.Name, err.Error()))
			continue
		}
		g.tables[t.Name] = p
		g.parts = append(g.parts, &p.part)
		tables[t.Name] = p.table
	}
	return tables, errs.Err()
}

func (g *generation) openUpstreams(s *Server, f *config.File, old *generation) ([]chain.Upstream, error) {
	caches := make(map[string]cache.Config)
	for _, c := range f.Caches {
		caches[c.Name] = c.Config
	}
	private := newZoneSet(f.PrivateZones)
	var endpoints []chain.Upstream
	var errs config.Errors
	for _, u := range f.Upstreams {
		p := old.groups[u.Name]
		if p == nil || !reflect.DeepEqual(p.config, u.Config) || !reflect.DeepEqual(p.policy, f.Policy) || p.group.Changed() {
			group, err := upstream.New(u.Name, u.Config, upstream.Env{Policy: f.Policy, Log: s.log, Metrics: s.metrics.upstream})
			if err != nil {
				if wrong, ok := errors.AsType[*upstream.KeyError](err); ok {
					errs = append(errs, f.Error("upstream."+u.Name+"."+wrong.Key, wrong.Err.Error()))
				} else {
					errs = append(errs, f.Error("upstream."+u.Name, err.Error()))
				}
				continue
			}
			p = &groupPart{part: part{name: "upstream " + u.Name, run: group.Run}, config: u.Config, policy: f.Policy, group: group}
		}
		g.groups[u.Name] = p
		g.parts = append(g.parts, &p.part)
		c := old.caches[u.Name]
		if config := caches[u.Config.Cache]; c == nil || c.group != p.group || !reflect.DeepEqual(c.config, config) {
			made := cache.New(u.Name, config, p.group, cache.Env{Metrics: s.metrics.cache, Log: s.log, Identity: identify(u.Config, config), Subnets: u.Config.Subnets()})
			run := func(ctx context.Context) error { made.Run(ctx); return nil }
			c = &cachePart{part: part{name: "cache of " + u.Name, run: run, close: made.Close}, config: config, group: p.group, cache: made}
		}
		g.caches[u.Name] = c
		g.parts = append(g.parts, &c.part)
		e := &endpoint{name: u.Name, cache: c.cache, snoop: u.Config.Norecurse == upstream.NorecurseForward, minimal: u.Config.ANY == upstream.ANYMinimal, ours: ours(&u.Config)}
		if !u.Config.Private {
			e.private = private
		}
		endpoints = append(endpoints, e)
	}
	return endpoints, errs.Err()
}

// openFilters opens the filters side by side: most of the time goes into compiling, or into reading what was compiled before.
func (g *generation) openFilters(ctx context.Context, s *Server, f *config.File, tables map[string]wasm.Table, old *generation) error {
	var names []string
	for _, u := range f.Upstreams {
		names = append(names, u.Name)
	}
	var mu sync.Mutex // guards following
	var errs config.Errors
	opened := make([]*filterPart, len(f.Filters))
	work, ctx := errgroup.WithContext(ctx)
	for i, c := range f.Filters {
		work.Go(func() error {
			path := "filter." + c.Name
			module, bundled, err := s.module(c.Config.Module)
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				if c.Config.Module != c.Name {
					path += ".module"
				}
				errs = append(errs, f.Error(path, err.Error()))
				return nil
			}
			p := &filterPart{config: c.Config, module: sha256.Sum256(module), upstreams: names, tables: tables}
			if before := old.made[c.Name]; before != nil && before.same(p) {
				opened[i] = before
				return nil
			}
			p.filter, err = s.runtime.Open(ctx, c.Name, c.Config, wasm.Environment{Module: module, Bundled: bundled, Upstreams: names, Tables: tables, Path: path})
			if err == nil {
				p.part = part{name: "filter " + c.Name, close: p.filter.Close}
				opened[i] = p
				return nil
			}
			if ctx.Err() != nil { // weir was told to stop: that is no mistake of the filter
				return ctx.Err()
			}
			mu.Lock()
			defer mu.Unlock()
			if mistakes, ok := errors.AsType[wasm.Mistakes](err); ok {
				for _, m := range mistakes {
					errs = append(errs, f.Error(m.Path, m.Expand(f.Position)))
				}
				return nil
			}
			errs = append(errs, f.Error(path, err.Error()))
			return nil
		})
	}
	err := work.Wait()
	for i, p := range opened {
		if p != nil {
			g.made[f.Filters[i].Name] = p
			g.parts = append(g.parts, &p.part)
			g.filters = append(g.filters, p.filter)
		}
	}
	if err != nil {
		return err
	}
	return errs.Err()
}

// same reports whether a filter made of p would be the one that there is.
func (p *filterPart) same(q *filterPart) bool {
	return p.module == q.module && slices.Equal(p.upstreams, q.upstreams) && maps.Equal(p.tables, q.tables) && reflect.DeepEqual(p.config, q.config)
}

// module reads the module of a filter: one that came with weir, by its name, or a file.
func (s *Server) module(name string) (module []byte, bundled bool, err error) {
	if !strings.HasSuffix(name, ".wasm") {
		module, ok := filters.Module(name)
		if !ok {
			return nil, false, filters.Built()
		}
		return module, true, nil
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, false, err
	}
	defer file.Close()
	module, err = io.ReadAll(io.LimitReader(file, maxModule))
	return module, false, err
}

func (g *generation) makeChains(s *Server, f *config.File, endpoints []chain.Upstream) error {
	byName := make(map[string]*wasm.Filter)
	for _, filter := range g.filters {
		byName[filter.Name()] = filter
	}
	modules := make(map[string]string)
	for _, c := range f.Filters {
		modules[c.Name] = c.Config.Module
	}
	var errs config.Errors
	for _, c := range f.Chains {
		var walk []chain.Filter
		var members []config.Member
		var unique []config.Unique
		for _, name := range c.Config.Filters {
			filter := byName[name]
			walk = append(walk, filter)
			members = append(members, config.Member{Role: filter.Role(), Final: filter.Interest().Final})
			for _, u := range filter.Unique() {
				unique = append(unique, config.Unique{Module: modules[name], Path: u.Path, Value: u.Value, Text: u.Text})
			}
		}
		errs = append(errs, f.CheckChain(c, members)...)
		errs = append(errs, f.CheckUnique(unique)...)
		fallback := -1
		for i, e := range endpoints {
			if e.Name() == c.Config.Upstream {
				fallback = i
			}
		}
		g.chains[c.Name] = chain.New(c.Name, walk, endpoints, fallback, c.Config.Precedence == chain.PrecedenceRules, nil)
		if !s.metrics.off {
			g.chains[c.Name].Measure(s.metrics.chain)
		}
	}
	return errs.Err()
}
