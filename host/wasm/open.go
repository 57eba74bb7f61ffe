package wasm

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/weirdns/weir/abi"
)

// grantBits are the grants by name. log and metrics are granted unasked.
var grantBits = map[string]grants{
	abi.GrantForward: grantForward, abi.GrantAsk: grantAsk, abi.GrantRewrite: grantRewrite,
	abi.GrantTables: grantTables, abi.GrantLog: grantLog, abi.GrantMetrics: grantMetrics,
}

const unasked = grantLog | grantMetrics

// whatFor says what a grant lets a filter do.
var whatFor = map[string]string{
	abi.GrantForward: "choose upstreams", abi.GrantAsk: "ask questions of its own", abi.GrantRewrite: "change the question",
	abi.GrantTables: "read the tables that its configuration names",
}

// Open loads a filter: it checks the module and the configuration, compiles, and makes as many instances as there are processors. Everything that
// could go wrong at the first query goes wrong here. What the operator can mend is returned as [Mistakes], all at once. c has been
// validated. Several filters may be opened at the same time, which is faster. ctx ends waiting for the compiler.
func (r *Runtime) Open(ctx context.Context, name string, c Config, env Environment) (opened *Filter, err error) {
	defer r.rescue(&err) // a module from outside may be what finds a mistake of the engine
	c = c.WithDefaults()
	path := env.Path
	if path == "" {
		path = join("filter", keyPath(nil, []string{name}))
	}
	at := func(key string, err error) error {
		if _, ok := errors.AsType[Mistakes](err); ok || ctx.Err() != nil {
			return err
		}
		return Mistakes{{Path: join(path, key), Text: err.Error()}}
	}
	l := limits{fuel: c.Fuel, pages: uint32(min(c.Memory/pageSize, 1<<16)), off: r.off}
	m, err := admission{pages: l.pages, bodies: !env.Bundled, skipped: r.off}.admit(env.Module)
	if err != nil {
		return nil, at("module", fmt.Errorf("the module %w", err))
	}
	manifest, err := abi.ReadManifest(env.Module)
	if err != nil {
		return nil, at("module", err)
	}
	f := &Filter{
		name: name, base: join(path, "config"), role: manifest.Role, version: manifest.Version, skip: c.OnError == OnErrorSkip,
		limits: l, runtime: r, pool: newPool(), logger: r.log.With("filter", name),
	}
	f.target.Store(int32(runtime.GOMAXPROCS(0)))
	f.quarantine = quarantine{now: r.now, logger: f.logger, off: r.off}
	f.lines = lines{logger: f.logger, now: r.now, off: r.off}

	var all Mistakes
	for _, err := range []error{f.grant(path, manifest, m, c.Grants, env.Bundled), f.configure(manifest, m, c, &env)} {
		mistakes, ok := errors.AsType[Mistakes](err)
		if err != nil && !ok {
			return nil, at("module", err)
		}
		all = append(all, mistakes...)
	}
	if len(all) > 0 {
		return nil, all
	}
	if f.code, err = r.codeOf(ctx, manifest.Name, env.Module, m.tables, l, env.Bundled); err != nil {
		return nil, at("module", err)
	}
	f.guests = make([]uint16, len(env.Upstreams))
	for i := range f.guests {
		f.guests[i] = abi.None
	}
	for guest, host := range f.document.upstreams {
		f.guests[host] = uint16(guest)
	}
	f.metrics.all, f.metrics.filter = r.metrics, name
	for i := range f.faults {
		f.faults[i] = r.metrics.faults.WithLabelValues(name, causeNames[i])
	}
	r.metrics.open(f)
	if err := f.try(); err != nil {
		f.Close()
		return nil, at("module", err)
	}
	return f, nil
}

// try makes the first instance, which may say that its configuration is wrong, and then the others.
func (f *Filter) try() error {
	f.names.begin()
	i, interest, err := f.newInstance()
	if err != nil {
		return err
	}
	f.names.end()
	f.interest = interest
	f.pool.settle(i)
	if err := f.checkInterest(i); err != nil {
		return err
	}
	return f.fill()
}

// checkInterest refuses an interest that the module can't mean.
func (f *Filter) checkInterest(i *instance) error {
	const known = abi.InterestClasses | abi.InterestQuery | abi.InterestFinal | abi.InterestLookup
	switch {
	case f.interest&^known != 0:
		return fmt.Errorf("configure returns the bits %#x, which ABI %d does not have", f.interest&^known, abi.Version)
	case f.interest&abi.InterestQuery != 0 && i.query == nil:
		return errors.New("configure says that the filter wants queries, but the module does not export query")
	case f.interest&abi.InterestClasses != 0 && i.response == nil:
		return errors.New("configure says that the filter wants responses, but the module does not export response")
	case f.interest&abi.InterestLookup == 0:
		return nil
	case f.interest&abi.InterestQuery == 0:
		return errors.New("configure asks for the look-up before query, but does not say that the filter wants queries")
	}
	tables := f.document.tables
	if f.may&grantTables == 0 {
		tables = nil
	}
	if f.lookup = newLookup(tables, uint16(len(f.document.tables)), f.names.table); f.lookup == nil {
		return errors.New("configure asks for the look-up before query, but there is nothing to look in: its configuration names no zone and no list of names, " +
			"or its manifest lacks the grant \"tables\", which its author has to add, and it has no names of its own")
	}
	return nil
}

// grant compares what the module needs, what its manifest names and what the operator allows.
func (f *Filter) grant(path string, manifest abi.Manifest, m *module, operator []string, bundled bool) error {
	var all Mistakes
	for _, g := range manifest.Grants {
		f.may |= grantBits[g]
		if !bundled && grantBits[g]&unasked == 0 && !slices.Contains(operator, g) {
			all = append(all, Mistake{Path: join(path, "grants"), Text: fmt.Sprintf(
				"the module %s wants to %s: if it may, add %q to grants", manifest.Name, whatFor[g], g)})
		}
	}
	for i, g := range operator {
		if grantBits[g]&unasked == 0 && !slices.Contains(manifest.Grants, g) {
			all = append(all, Mistake{Path: fmt.Sprintf("%s[%d]", join(path, "grants"), i), Text: fmt.Sprintf(
				"the module %s does not want %q: delete it", manifest.Name, g)})
		}
	}
	if len(all) > 0 {
		return all
	}
	for _, h := range hostFunctions {
		if m.imports[h.name] && h.grant&^f.may != 0 && f.limits.off&offImports == 0 {
			return fmt.Errorf("the module imports %s, for which its manifest has to name the grant %q: its author has to add it", h.name, grantName(h.grant))
		}
	}
	return nil
}

func grantName(g grants) string {
	var names []string
	for name, bit := range grantBits {
		if g&bit != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// configure checks the filter's own configuration.
func (f *Filter) configure(manifest abi.Manifest, m *module, c Config, env *Environment) error {
	if _, ok := m.exports[abi.ExportConfigure]; !ok && len(c.Config) > 0 {
		return Mistakes{{Path: f.base, Text: "this filter has no configuration: delete the table"}}
	}
	var err error
	f.document, err = checkConfig(f.name, f.base, c.Config, manifest.Schema, env)
	return err
}
