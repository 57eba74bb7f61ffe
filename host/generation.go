package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
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
//  1. build makes it. Nothing runs yet, but it can answer.
//  2. run does its background work, until the context is done.
//  3. close frees the filters. No query is in it any more.
type generation struct {
	tables  []*table.Table
	groups  []*upstream.Group
	caches  []*cache.Cache
	filters []*wasm.Filter
	chains  map[string]*chain.Chain
	doors   []*door // by listener
}

// maxModule is the size of the largest module that is read; abi/README.md section 9 allows less.
const maxModule = 32 << 20

// build makes a generation of f. What the operator can mend is returned as [config.Errors], all of it.
func (s *Server) build(ctx context.Context, f *config.File) (g *generation, err error) {
	g = &generation{chains: make(map[string]*chain.Chain)}
	defer func() {
		if err != nil {
			g.close()
			g = nil
		}
	}()
	tables, err := g.openTables(s, f)
	if err != nil {
		return g, err
	}
	endpoints, err := g.openUpstreams(s, f)
	if err != nil {
		return g, err
	}
	if err := g.openFilters(ctx, s, f, tables); err != nil {
		return g, err
	}
	if err := g.makeChains(s, f, endpoints); err != nil {
		return g, err
	}
	for _, l := range f.Listeners {
		d, err := newDoor(l, g.chains)
		if err != nil {
			return g, err
		}
		g.doors = append(g.doors, d)
	}
	return g, nil
}

func (g *generation) openTables(s *Server, f *config.File) (map[string]wasm.Table, error) {
	tables := make(map[string]wasm.Table)
	var errs config.Errors
	for _, t := range f.Tables {
		opened, err := table.Open(t.Name, t.Config, "", s.log)
		if err != nil {
			errs = append(errs, f.Error("table."+t.Name, err.Error()))
			continue
		}
		g.tables = append(g.tables, opened)
		tables[t.Name] = opened
	}
	return tables, errs.Err()
}

func (g *generation) openUpstreams(s *Server, f *config.File) ([]chain.Upstream, error) {
	caches := make(map[string]cache.Config)
	for _, c := range f.Caches {
		caches[c.Name] = c.Config
	}
	private := newZoneSet(f.PrivateZones)
	var endpoints []chain.Upstream
	var errs config.Errors
	for i, u := range f.Upstreams {
		group, err := upstream.New(u.Name, u.Config, upstream.Env{Policy: f.Policy, Index: uint16(i), Log: s.log, Metrics: s.metrics.upstream})
		if err != nil {
			errs = append(errs, f.Error("upstream."+u.Name, err.Error()))
			continue
		}
		g.groups = append(g.groups, group)
		c := cache.New(u.Name, caches[u.Config.Cache], group, cache.Env{Metrics: s.metrics.cache})
		g.caches = append(g.caches, c)
		e := &endpoint{name: u.Name, cache: c, snoop: u.Config.Norecurse == upstream.NorecurseForward}
		if !u.Config.Private {
			e.private = private
		}
		endpoints = append(endpoints, e)
	}
	return endpoints, errs.Err()
}

// openFilters opens the filters side by side: most of the time goes into compiling, or into reading what was compiled before.
func (g *generation) openFilters(ctx context.Context, s *Server, f *config.File, tables map[string]wasm.Table) error {
	var names []string
	for _, u := range f.Upstreams {
		names = append(names, u.Name)
	}
	var mu sync.Mutex // guards following
	var errs config.Errors
	opened := make([]*wasm.Filter, len(f.Filters))
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
			opened[i], err = s.runtime.Open(ctx, c.Name, c.Config, wasm.Environment{Module: module, Bundled: bundled, Upstreams: names, Tables: tables, Path: path})
			if err == nil {
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
	for _, filter := range opened {
		if filter != nil {
			g.filters = append(g.filters, filter)
		}
	}
	if err != nil {
		return err
	}
	return errs.Err()
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
		g.chains[c.Name] = chain.New(c.Name, walk, endpoints, fallback, c.Config.Precedence == chain.PrecedenceRules, s.now)
		if !s.metrics.off {
			g.chains[c.Name].Measure(s.metrics.chain)
		}
	}
	return errs.Err()
}

// run does the background work of the generation: it watches tables and resolv.conf files, probes servers, fetches answers anew. It returns when
// ctx is done and all of it has ended.
func (g *generation) run(ctx context.Context) error {
	work, ctx := errgroup.WithContext(ctx)
	for _, t := range g.tables {
		work.Go(func() error { return part("table "+t.Name(), t.Run(ctx)) })
	}
	for _, c := range g.caches {
		work.Go(func() error { c.Run(ctx); return nil })
	}
	for _, u := range g.groups {
		work.Go(func() error { return part("upstream "+u.Name(), u.Run(ctx)) })
	}
	return work.Wait()
}

// part names the part of weir whose background work failed.
func part(name string, err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return nil
	}
	return fmt.Errorf("%s: %w", name, err)
}

func (g *generation) close() {
	for _, f := range g.filters {
		f.Close()
	}
	for _, c := range g.caches {
		c.Close()
	}
}
