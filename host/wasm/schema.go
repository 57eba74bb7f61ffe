package wasm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"golang.org/x/text/language"
	text "golang.org/x/text/message"

	"github.com/weirdns/weir/host/message"
)

// The formats of abi/README.md section 8.
const (
	formatZone     = "weir-zone"
	formatUpstream = "weir-upstream"
	formatTable    = "weir-table"
	formatDuration = "weir-duration"
	keywordUnique  = "x-weir-unique"
)

// Bounds of a schema, which comes from a module that may be hostile: the same subschema, referred to twice by a subschema that is referred
// to twice and so on, would be applied 2^n times.
const (
	maxSchemaInPlace = 10_000  // subschemas that apply to one value
	maxSchemaSteps   = 100_000 // applications to one document
)

// Unique is a value that no other filter of the same module in a chain may have: x-weir-unique, abi/README.md section 8.
type Unique struct {
	Path  string // the key, from the top of the file
	Value string // the canonical name, in wire format
	Text  string // as the operator wrote it
}

// document is a checked configuration.
type document struct {
	json      []byte   // what the guest reads, abi/README.md section 4
	upstreams []uint16 // by the guest's index, the host's
	tables    []Table  // by the guest's index
	unique    []Unique
}

// configDocument is the JSON of abi/README.md section 4.
type configDocument struct {
	Filter    string         `json:"filter"`
	Config    map[string]any `json:"config"`
	Upstreams []string       `json:"upstreams"`
	Tables    []configTable  `json:"tables"`
}

type configTable struct {
	Name string `json:"name"`
	Kind string `json:"kind"`
}

var errSchemaSteps = errors.New("the schema is too expensive to check")

// found is a value at a place with a format that means something to the host.
type found struct {
	way    []string
	format string
	value  string
	unique bool
}

// checker validates one document. It sees each application of a subschema to a value, as an extension of it.
type checker struct {
	steps int
	found []found
	env   *Environment
}

// checkConfig checks config against the schema of a manifest, in which the filter's upstreams and tables are named. base is the path of config.
func checkConfig(name, base string, config map[string]any, schema json.RawMessage, env *Environment) (document, error) {
	if config == nil {
		config = map[string]any{}
	}
	raw, err := json.Marshal(config)
	if err != nil {
		return document{}, Mistakes{{Path: base, Text: fmt.Sprintf("is not possible in JSON, as which the filter gets it: %v", err)}}
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		return document{}, err
	}
	if len(schema) == 0 {
		if len(config) > 0 {
			return document{}, Mistakes{{Path: base, Text: "this filter has no configuration: delete the table"}}
		}
		schema = json.RawMessage("{}")
	}
	c := &checker{env: env}
	s, err := c.compile(schema)
	if err != nil {
		return document{}, fmt.Errorf("schema of the manifest: %w", err)
	}
	if err := c.validate(s, value, base); err != nil {
		return document{}, err
	}
	return c.document(name, base, config, value)
}

// refuse is a loader that loads nothing: a schema must not make weir read files.
type refuse struct{}

func (refuse) Load(url string) (any, error) {
	return nil, fmt.Errorf("%s: a schema may not refer to other documents", url)
}

func (c *checker) compile(schema json.RawMessage) (*jsonschema.Schema, error) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	if err != nil {
		return nil, err
	}
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft2020)
	compiler.UseLoader(refuse{})
	compiler.AssertFormat()
	compiler.AssertVocabs()
	for name, valid := range map[string]func(string) error{
		formatZone:     func(s string) error { _, err := message.ParseName(s); return err },
		formatDuration: validDuration,
		formatUpstream: func(s string) error { return known("upstream", s, c.env.Upstreams) },
		formatTable: func(s string) error {
			if _, ok := c.env.Tables[s]; ok { // there may be thousands
				return nil
			}
			return known("table", s, slices.Sorted(maps.Keys(c.env.Tables)))
		},
	} {
		compiler.RegisterFormat(&jsonschema.Format{Name: name, Validate: func(v any) error {
			if s, ok := v.(string); ok {
				return valid(s)
			}
			return nil // another keyword's business
		}})
	}
	compiler.RegisterVocabulary(&jsonschema.Vocabulary{URL: "weir:vocabulary", Compile: func(_ *jsonschema.CompilerContext, obj map[string]any) (jsonschema.SchemaExt, error) {
		format, _ := obj["format"].(string)
		unique, _ := obj[keywordUnique].(string)
		if unique != "" && (unique != "chain" || format != formatZone) {
			return nil, fmt.Errorf("%s: want \"chain\", on a string of format %s", keywordUnique, formatZone)
		}
		return &seen{c, format, unique != ""}, nil
	}})
	const url = "weir:schema"
	if err := compiler.AddResource(url, doc); err != nil {
		return nil, err
	}
	s, err := compiler.Compile(url)
	if err != nil {
		return nil, err
	}
	if inPlace(s, make(map[*jsonschema.Schema]int)) > maxSchemaInPlace {
		return nil, errSchemaSteps
	}
	return s, nil
}

// inPlace counts the subschemas that apply to the same value as s.
func inPlace(s *jsonschema.Schema, known map[*jsonschema.Schema]int) int {
	if s == nil {
		return 0
	}
	if n, ok := known[s]; ok {
		return n
	}
	known[s] = maxSchemaInPlace + 1 // until it is known: a schema that applies itself to the same value never ends
	n := 1
	for _, sub := range slices.Concat([]*jsonschema.Schema{s.Ref, s.RecursiveRef, s.Not, s.If, s.Then, s.Else}, s.AllOf, s.AnyOf, s.OneOf,
		slices.Collect(maps.Values(s.DependentSchemas))) {
		n = min(n+inPlace(sub, known), maxSchemaInPlace+1)
	}
	known[s] = n
	return n
}

// seen is the part of a subschema that the host knows.
type seen struct {
	*checker
	format string
	unique bool
}

// Validate implements jsonschema.SchemaExt: it only looks.
func (s *seen) Validate(ctx *jsonschema.ValidatorContext, v any) {
	if s.steps++; s.steps > maxSchemaSteps {
		panic(errSchemaSteps)
	}
	if text, ok := v.(string); ok && strings.HasPrefix(s.format, "weir-") {
		s.found = append(s.found, found{slices.Clone(ctx.ValueLocation()), s.format, text, s.unique})
	}
}

func validDuration(s string) error {
	if d, err := time.ParseDuration(s); err != nil || d < 0 {
		return errors.New(`write a number and a unit, such as "500ms", "30s" or "1h30m"`)
	}
	return nil
}

func known(what, name string, all []string) error {
	if slices.Contains(all, name) {
		return nil
	}
	if len(all) == 0 {
		return fmt.Errorf("there is no %s at all: define it as [%s.%s]", what, what, name)
	}
	return fmt.Errorf("there is no such %s: define it as [%s.%s], or write one of %s", what, what, name, some(all))
}

// some lists names, not too many.
func some(names []string) string {
	const most = 12
	if len(names) > most {
		return strings.Join(names[:most], ", ") + ", ..."
	}
	return strings.Join(names, ", ")
}

func (c *checker) validate(s *jsonschema.Schema, value any, base string) (err error) {
	defer func() {
		if r := recover(); r != nil {
			if r != errSchemaSteps { //nolint:errorlint // it is the very value that Validate throws
				panic(r)
			}
			err = fmt.Errorf("schema of the manifest: %w", errSchemaSteps)
		}
	}()
	err = s.Validate(value)
	if err == nil {
		return nil
	}
	invalid, ok := errors.AsType[*jsonschema.ValidationError](err)
	if !ok {
		return err
	}
	var all Mistakes
	explain(invalid, s, value, base, &all)
	slices.SortStableFunc(all, func(a, b Mistake) int { return comparePaths(a.Path, b.Path) })
	return slices.Compact(all)
}

// explain adds what is wrong with a value by schema s: the leaves of the tree of causes.
func explain(e *jsonschema.ValidationError, s *jsonschema.Schema, value any, base string, all *Mistakes) {
	if len(e.Causes) > 0 {
		for _, cause := range e.Causes {
			explain(cause, s, value, base, all)
		}
		return
	}
	at := func(more ...string) string {
		return join(base, keyPath(value, slices.Concat(e.InstanceLocation, more)))
	}
	add := func(path, format string, args ...any) {
		*all = append(*all, Mistake{Path: path, Text: fmt.Sprintf(format, args...), Base: base})
	}
	switch k := e.ErrorKind.(type) {
	case *kind.Required:
		for _, key := range k.Missing {
			add(at(key), "is missing")
		}
	case *kind.AdditionalProperties:
		text := "is not a key of this filter"
		if keys := keysAt(s, e.InstanceLocation); len(keys) > 0 {
			text += ": write one of " + some(keys)
		}
		for _, key := range k.Properties {
			add(at(key), "%s", text)
		}
	case *kind.Type:
		add(at(), "is %s: write %s", article(k.Got), article(strings.Join(k.Want, " or ")))
	case *kind.Format:
		add(at(), "%s: %s", quoted(k.Got), k.Err)
	case *kind.Enum:
		want := make([]string, len(k.Want))
		for i, v := range k.Want {
			want[i] = quoted(v)
		}
		add(at(), "is %s: write one of %s", quoted(k.Got), some(want))
	case *kind.FalseSchema:
		add(at(), "is not a key of this filter")
	default:
		add(at(), "%s", k.LocalizedString(english))
	}
}

// keysAt returns the keys that schema s has for a table within a value, nil where it isn't as simple as that.
func keysAt(s *jsonschema.Schema, way []string) []string {
	for _, step := range way {
		if s = reference(s); s == nil {
			return nil
		}
		items, _ := s.Items.(*jsonschema.Schema) // before 2020-12
		switch p, ok := s.Properties[step]; {
		case ok:
			s = p
		case s.Items2020 != nil:
			s = s.Items2020
		default:
			s = items
		}
	}
	if s = reference(s); s == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(s.Properties))
}

// reference returns what s refers to, or s.
func reference(s *jsonschema.Schema) *jsonschema.Schema {
	for range 8 { // bounded: a schema may refer to itself
		if s == nil || s.Ref == nil {
			break
		}
		s = s.Ref
	}
	return s
}

var english = text.NewPrinter(language.English)

// article names a JSON type as TOML does.
func article(t string) string {
	for _, r := range [][2]string{{"object", "a table"}, {"array", "an array"}, {"string", "a string"}, {"boolean", "true or false"},
		{"integer", "a whole number"}, {"number", "a number"}} {
		t = strings.ReplaceAll(t, r[0], r[1])
	}
	return t
}

// quoted writes a value as the operator did.
func quoted(v any) string {
	b, err := json.Marshal(v)
	if err != nil || len(b) > 100 {
		return "the value"
	}
	return string(b)
}

// comparePaths orders paths as they come in a document: indexes by number.
func comparePaths(a, b string) int {
	split := func(s string) []string {
		return strings.FieldsFunc(s, func(r rune) bool { return r == '.' || r == '[' || r == ']' })
	}
	return slices.CompareFunc(split(a), split(b), func(a, b string) int {
		i, errA := strconv.Atoi(a)
		j, errB := strconv.Atoi(b)
		if errA == nil && errB == nil {
			return i - j
		}
		return strings.Compare(a, b)
	})
}

// maxNamedTables is how many tables a filter may name: an index has 16 bits in the frame, and the last one is for its own names.
const maxNamedTables = 1<<16 - 1 // 65,535

// document writes what the guest reads. Upstreams and tables are in order of appearance, which is that of the JSON document: keys in
// alphabetical order, elements of arrays in theirs.
func (c *checker) document(name, base string, config map[string]any, value any) (document, error) {
	d := document{}
	out := configDocument{Filter: name, Config: config, Upstreams: []string{}, Tables: []configTable{}}
	paths := make(map[string]found)
	named := make(map[string]bool) // tables
	for _, f := range c.found {
		p := join(base, keyPath(value, f.way))
		f.unique = f.unique || paths[p+f.format].unique
		paths[p+f.format] = f // several subschemas may apply to one value
	}
	// The format is behind the path, so it does not disturb the order.
	for _, p := range slices.SortedFunc(maps.Keys(paths), comparePaths) {
		f := paths[p]
		switch f.format {
		case formatUpstream:
			if i := slices.Index(c.env.Upstreams, f.value); i >= 0 && !slices.Contains(out.Upstreams, f.value) {
				out.Upstreams = append(out.Upstreams, f.value)
				d.upstreams = append(d.upstreams, uint16(i))
			}
		case formatTable:
			t, ok := c.env.Tables[f.value]
			if !ok || named[f.value] {
				continue
			}
			if len(named) == maxNamedTables {
				return d, Mistakes{{Path: strings.TrimSuffix(p, formatTable), Base: base,
					Text: fmt.Sprintf("the filter names more than %d tables: give some of them to another filter", maxNamedTables)}}
			}
			named[f.value] = true
			out.Tables = append(out.Tables, configTable{f.value, t.Kind()})
			d.tables = append(d.tables, t)
		case formatZone:
			if wire, err := message.ParseName(f.value); err == nil && f.unique {
				d.unique = append(d.unique, Unique{strings.TrimSuffix(p, formatZone), string(wire), f.value})
			}
		}
	}
	// Within one filter, weir can say so at once; across filters, whoever builds a chain compares.
	first := make(map[string]string)
	var twice Mistakes
	for _, u := range d.unique {
		if p, ok := first[u.Value]; ok {
			twice = append(twice, Mistake{Path: u.Path, Base: base,
				Text: fmt.Sprintf("%q is there twice, here and at {%s}: keep one", u.Text, strings.TrimPrefix(p, base+"."))})
			continue
		}
		first[u.Value] = u.Path
	}
	if len(twice) > 0 {
		return d, twice
	}
	var err error
	d.json, err = json.Marshal(out)
	return d, err
}
