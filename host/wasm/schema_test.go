package wasm

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/weirdns/weir/host/message"
)

const rulesSchema = `{
	"type": "object", "additionalProperties": false, "required": ["rule"],
	"properties": {
		"rule": {"type": "array", "items": {"$ref": "#/$defs/rule"}},
		"default": {"type": "string", "format": "weir-upstream"},
		"zones": {"type": "array", "items": {"type": "string", "format": "weir-table"}},
		"every": {"type": "string", "format": "weir-duration"},
		"mode": {"enum": ["first", "best"]}
	},
	"$defs": {"rule": {
		"type": "object", "additionalProperties": false, "required": ["zone"],
		"properties": {
			"zone": {"type": "string", "format": "weir-zone", "x-weir-unique": "chain"},
			"upstream": {"type": "string", "format": "weir-upstream"},
			"pass": {"type": "boolean"},
			"max": {"type": "integer", "minimum": 1}
		}
	}}
}`

func rule(pairs ...any) map[string]any {
	m := map[string]any{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i].(string)] = pairs[i+1]
	}
	return m
}

func TestCheckConfig(t *testing.T) {
	env := &Environment{Upstreams: []string{"a", "b", "c"}, Tables: map[string]Table{"cluster": fakeTable{}, "lab": fakeTable{}}}
	for _, tt := range []struct {
		name   string
		config map[string]any
		want   []string // the mistakes
		json   string
	}{
		{
			name:   "in order of appearance, each once",
			config: rule("rule", []any{rule("zone", "corp.test", "upstream", "c"), rule("zone", "lab.test", "upstream", "a"), rule("zone", "x.test", "upstream", "c")}, "zones", []any{"lab", "cluster"}, "default", "b"),
			json:   `"upstreams":["b","c","a"],"tables":[{"name":"lab","kind":"zone"},{"name":"cluster","kind":"zone"}]}`,
		},
		{
			name: "more than ten stay in order", json: `"upstreams":["a","b"],"tables":[]}`,
			config: rule("rule", func() (all []any) {
				for i := range 12 {
					up := "a"
					if i > 9 {
						up = "b"
					}
					all = append(all, rule("zone", fmt.Sprintf("z%d.test", i), "upstream", up))
				}
				return all
			}()),
		},
		{name: "a missing key", config: rule(), want: []string{"filter.f.config.rule: is missing"}},
		{
			name: "all mistakes at once",
			config: rule("rule", []any{rule("zone", "corp.test", "upstream", "d"), rule("zone", "bad..test"), rule("upstream", 7, "pass", "yes", "max", 0, "zoen", "a.test")},
				"zones", []any{"luster"}, "every", "5", "mode", "worst"),
			want: []string{
				`filter.f.config.every: "5": write a number and a unit, such as "500ms", "30s" or "1h30m"`,
				`filter.f.config.mode: is "worst": write one of "first", "best"`,
				`filter.f.config.rule[0].upstream: "d": there is no such upstream: define it as [upstream.d], or write one of a, b, c`,
				`filter.f.config.rule[1].zone: "bad..test": "bad..test" has an empty label`,
				`filter.f.config.rule[2].max: minimum: got 0, want 1`,
				`filter.f.config.rule[2].pass: is a string: write true or false`,
				`filter.f.config.rule[2].upstream: is a number: write a string`,
				`filter.f.config.rule[2].zoen: is not a key of this filter: write one of max, pass, upstream, zone`,
				`filter.f.config.rule[2].zone: is missing`,
				`filter.f.config.zones[0]: "luster": there is no such table: define it as [table.luster], or write one of cluster, lab`,
			},
		},
		{
			name:   "a zone twice",
			config: rule("rule", []any{rule("zone", "corp.test"), rule("zone", "lab.test"), rule("zone", "CORP.test.")}),
			want:   []string{`filter.f.config.rule[2].zone: "CORP.test." is there twice, here and at filter.f.config.rule[0].zone: keep one`},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, err := checkConfig("f", "filter.f.config", tt.config, []byte(rulesSchema), env)
			var got []string
			if err != nil {
				got = strings.Split(err.Error(), "\n")
			}
			if strings.Join(got, "\n") != strings.Join(tt.want, "\n") {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
			}
			if !strings.HasSuffix(string(d.json), tt.json) {
				t.Errorf("the document is %s, want it to end with %s", d.json, tt.json)
			}
		})
	}
}

// An index of a table has 16 bits in the frame, and one is for the filter's own names.
func TestTooManyTables(t *testing.T) {
	tables, zones := make(map[string]Table), []any{}
	table := zoneTable(t, "test.")
	for i := range maxNamedTables + 1 {
		name := fmt.Sprintf("t%d", i)
		tables[name] = table
		zones = append(zones, name)
	}
	env, schema := &Environment{Tables: tables}, []byte(`{"properties": {"zones": {"items": {"type": "string", "format": "weir-table"}}}}`)
	if d, err := checkConfig("f", "filter.f.config", map[string]any{"zones": zones[:maxNamedTables]}, schema, env); err != nil || len(d.tables) != maxNamedTables {
		t.Errorf("%d tables, %v", len(d.tables), err)
	}
	_, err := checkConfig("f", "filter.f.config", map[string]any{"zones": zones}, schema, env)
	if want := "filter.f.config.zones[65535]: the filter names more than 65535 tables: give some of them to another filter"; err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
}

func TestUnique(t *testing.T) {
	d, err := checkConfig("f", "filter.f.config", rule("rule", []any{rule("zone", "Corp.test"), rule("zone", "lab.test.")}), []byte(rulesSchema), &Environment{})
	if err != nil {
		t.Fatal(err)
	}
	want := []Unique{{"filter.f.config.rule[0].zone", "\x04corp\x04test\x00", "Corp.test"}, {"filter.f.config.rule[1].zone", "\x03lab\x04test\x00", "lab.test."}}
	if fmt.Sprint(d.unique) != fmt.Sprint(want) {
		t.Errorf("unique are %+v, want %+v", d.unique, want)
	}
}

// A schema comes from the module, which may be hostile: it reads no files, and it ends.
func TestHostileSchemas(t *testing.T) {
	var double strings.Builder // $defs of which each applies the one before it twice
	double.WriteString(`{"$ref": "#/$defs/d40", "$defs": {"d0": {"type": "object"}`)
	for i := 1; i <= 40; i++ {
		fmt.Fprintf(&double, `, "d%d": {"allOf": [{"$ref": "#/$defs/d%d"}, {"$ref": "#/$defs/d%d"}]}`, i, i-1, i-1)
	}
	double.WriteString("}}")
	deep := map[string]any{}
	for range 40 {
		deep = map[string]any{"a": deep}
	}
	for _, tt := range []struct{ name, schema, want string }{
		{"a file", `{"$ref": "file:///etc/passwd"}`, "may not refer to other documents"},
		{"the network", `{"$ref": "https://example.com/schema"}`, "may not refer to other documents"},
		{"twice the one before", double.String(), "too expensive"},
		{"itself", `{"$ref": "#"}`, "too expensive"},
		{"twice for each level", `{"allOf": [{"properties": {"a": {"$ref": "#"}}}, {"properties": {"a": {"$ref": "#"}}}]}`, "too expensive"},
		{"unique that is no zone", `{"properties": {"b": {"type": "string", "x-weir-unique": "chain"}}}`, "x-weir-unique"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := checkConfig("f", "filter.f.config", deep, []byte(tt.schema), &Environment{})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("checkConfig: %v, want an error with %q", err, tt.want)
			}
		})
	}
}

// What configure returns as an error becomes mistakes with the keys, and other keys in the text can be replaced by their places.
func TestConfigureMistakes(t *testing.T) {
	const text = `rule[3].zone: is inside {rule[1].zone}\nand more: \1b[31mred\n`
	module := guest(t, `(data (i32.const 80000) "`+strings.ReplaceAll(text, `\n`, `\0a`)+`")
		(func (export "configure") (param i32) (result i64) (i64.const `+fmt.Sprint(int64(-1<<63|int64(strings.Count(text, "")-1-2-2)<<32|80000))+`))
		(func (export "query") (result i64) (i64.const 0))`)
	_, err := newRig(t, 0).Open(t.Context(), "f", Config{}, Environment{Module: module, Bundled: true})
	mistakes, ok := errors.AsType[Mistakes](err)
	if !ok || len(mistakes) != 2 {
		t.Fatalf("Open: %v, want two mistakes", err)
	}
	if got, want := mistakes[0].Path, "filter.f.config.rule[3].zone"; got != want {
		t.Errorf("the path is %q, want %q", got, want)
	}
	place := func(path string) string {
		if path != "filter.f.config.rule[1].zone" {
			t.Errorf("the place of %q is asked for", path)
		}
		return "weir.toml:31"
	}
	if got, want := mistakes[0].Expand(place), "is inside weir.toml:31"; got != want {
		t.Errorf("the text is %q, want %q", got, want)
	}
	if got := mistakes[1]; got.Path != "filter.f.config" || strings.Contains(got.Text, "\x1b") || !strings.Contains(got.Text, "red") {
		t.Errorf("the line without a key is %q", got)
	}
}

func TestGrants(t *testing.T) {
	module := guest(t, `(func (export "query") (result i64) (i64.const 0))`)
	_, err := newRig(t, 0).Open(t.Context(), "f", Config{Grants: []string{"forward", "ask", "rewrite"}}, Environment{Module: module})
	if want := `filter.f.grants: the module test wants to read the tables that its configuration names: if it may, add "tables" to grants`; err == nil || err.Error() != want {
		t.Errorf("Open: %v, want %s", err, want)
	}
	none := assemble(t, `(memory (export "memory") 2) (func (export "weir_abi_1") (result i32) (i32.const 1024)) (func (export "query") (result i64) (i64.const 0))
		(@custom "weir" "{\"name\":\"test\",\"version\":\"1.0.0\",\"abi\":1}")`)
	_, err = newRig(t, 0).Open(t.Context(), "f", Config{Grants: []string{"ask"}, Config: map[string]any{"a": 1}}, Environment{Module: none})
	want := "filter.f.grants[0]: the module test does not want \"ask\": delete it\nfilter.f.config: this filter has no configuration: delete the table"
	if err == nil || err.Error() != want {
		t.Errorf("Open: %v, want %s", err, want)
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"plain text": "plain text", "zwei Wörter": "zwei Wörter", "a\nb": `a\nb`, "\x1b[31m": `\x1b[31m`, "\xff\xfe": `\xff\xfe`, "\u202e": `\u202e`, "": "",
	} {
		if got := printable([]byte(in)); got != want {
			t.Errorf("printable(%q) = %q, want %q", in, got, want)
		}
	}
	if got := printable([]byte(message.NameString([]byte("\x01\n\x00")))); strings.ContainsRune(got, '\n') {
		t.Errorf("printable gives %q", got)
	}
}
