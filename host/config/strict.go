package config

import (
	"encoding"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// examples are good values for keys whose type doesn't say enough, by section and last key.
var examples = map[string]string{
	"admin.address":          `"127.0.0.1:9153"`,
	"chain.filters":          `["authority", "rules"]`,
	"filter.grants":          `["forward"]`,
	"filter.memory":          `"32MiB"`,
	"filter.module":          `"rules" or "my.wasm"`,
	"listener.address":       `"127.0.0.1:53"`,
	"listener.clients":       `["10.0.0.0/8"]`,
	"listener.protocols":     `["udp", "tcp"]`,
	"log.format":             `"json"`,
	"log.level":              `"info"`,
	"policy.refuse_servers":  `["192.0.2.0/24"]`,
	"private_zones":          `["corp.example"]`,
	"table.hosts":            `["192.0.2.1 router.home.arpa router"]`,
	"table.hostsfile":        `"/etc/hosts"`,
	"table.names":            `"blocked.txt"`,
	"table.origin":           `"corp.example"`,
	"table.prefixes":         `"networks.txt"`,
	"table.zonefile":         `"home.zone"`,
	"upstream.bootstrap":     `["192.0.2.53"]`,
	"upstream.ca":            `"ca.pem"`,
	"upstream.certificate":   `"weir.pem"`,
	"upstream.client_subnet": `"set 192.0.2.0/24"`,
	"upstream.key":           `"weir.key"`,
	"upstream.pin":           `["sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="]`,
	"upstream.resolv_conf":   `"/etc/resolv.conf"`,
	"upstream.servers":       `["192.0.2.53", "[2001:db8::53]:5353"]`,
	"upstream.sources":       `["192.0.2.1", "192.0.2.2"]`,
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	textType     = reflect.TypeFor[encoding.TextUnmarshaler]()
	layoutType   = reflect.TypeFor[layout]()
)

// check compares what is in the file with the Go type that it will be decoded into, because a decoder would stop at types that don't
// fit with the words of a Go programmer. What is wrong is reported, and removed, so that the rest can be looked at too. It returns whether v may stay.
func (l *loader) check(path string, v any, t reflect.Type) bool {
	switch {
	case t == durationType:
		return l.duration(path, v)
	case reflect.PointerTo(t).Implements(textType):
		return l.text(path, v, t)
	case t.Kind() == reflect.Pointer:
		return l.check(path, v, t.Elem())
	}
	switch t.Kind() {
	case reflect.Struct:
		return l.table(path, v, t)
	case reflect.Map:
		return l.names(path, v, t.Elem())
	case reflect.Slice:
		return l.list(path, v, t.Elem())
	case reflect.String:
		if _, ok := v.(string); ok {
			return true
		}
		return l.mistyped(path, v, t, "a string")
	case reflect.Bool:
		if _, ok := v.(bool); ok {
			return true
		}
		return l.mistyped(path, v, t, "true or false")
	case reflect.Float32, reflect.Float64:
		switch v.(type) {
		case int64, float64:
			return true
		}
		return l.mistyped(path, v, t, "a number")
	default:
		n, ok := v.(int64)
		if !ok {
			return l.mistyped(path, v, t, "a whole number")
		}
		return l.fits(path, n, t)
	}
}

func (l *loader) fits(path string, n int64, t reflect.Type) bool {
	zero := reflect.Zero(t)
	if zero.CanUint() {
		if n < 0 {
			l.reject(path, "is %d: write a number that is not below 0", n)
			return false
		}
		if zero.OverflowUint(uint64(n)) {
			l.reject(path, "is %d: write a smaller number", n)
			return false
		}
	} else if zero.OverflowInt(n) {
		l.reject(path, "is %d: write a smaller number", n)
		return false
	}
	return true
}

func (l *loader) duration(path string, v any) bool {
	switch v := v.(type) {
	case string:
		if _, err := time.ParseDuration(v); err == nil {
			return true
		}
		if _, err := strconv.ParseUint(v, 10, 32); err == nil {
			l.reject(path, "%q has no unit: write %q, or ms, m, h", v, v+"s")
		} else {
			l.reject(path, "%q is not a duration: write a number and a unit, such as \"500ms\", \"10s\" or \"1h30m\"", v)
		}
		return false
	case int64:
		if 0 <= v && v < 1<<32 {
			l.reject(path, "is a whole number: write a duration with its unit, such as \"%ds\"", v)
			return false
		}
	}
	return l.mistyped(path, v, durationType, "a duration in quotes")
}

// text checks a value of a type that reads itself.
func (l *loader) text(path string, v any, t reflect.Type) bool {
	if n, ok := v.(int64); ok && (reflect.Zero(t).CanInt() || reflect.Zero(t).CanUint()) {
		return l.fits(path, n, t)
	}
	s, ok := v.(string)
	if !ok {
		return l.mistyped(path, v, t, "a string")
	}
	if err := reflect.New(t).Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(s)); err != nil {
		l.reject(path, "%s", err)
		return false
	}
	return true
}

// table checks the keys of a struct.
func (l *loader) table(path string, v any, t reflect.Type) bool {
	m, ok := v.(map[string]any)
	if !ok {
		switch v.(type) {
		case []any:
			l.reject(path, "is a list: write the table [%s], with single brackets", path)
		default:
			l.reject(path, "is %s: write the table [%s]", describe(v), path)
		}
		return false
	}
	fields := make(map[string]reflect.Type)
	var known []string
	for f := range t.Fields() {
		if key := f.Tag.Get("koanf"); key != "" && key != "-" {
			fields[key] = f.Type
			known = append(known, key)
		}
	}
	for key, value := range m {
		ft, ok := fields[key]
		if !ok {
			l.unknown(path, key, known)
		}
		if !ok || !l.check(joinKey(path, key), value, ft) {
			delete(m, key)
		}
	}
	return true
}

// unknown reports a key that nothing reads, with what was probably meant.
func (l *loader) unknown(path, key string, known []string) {
	full := joinKey(path, key)
	section, _, _ := strings.Cut(path, ".")
	switch best := closest(key, known); {
	case best != "":
		l.reject(full, "is not a key: did you mean `%s`?", best)
	case path != "" && (key == "budget" || key == "drain" || key == "lameduck" || key == "watch" || key == "private_zones"):
		l.reject(full, "is not a key of a table: write `%s` at the top of the file, before the first [table]", key)
	case section == "filter":
		l.reject(full, "is not a key: settings of the filter itself go into [%s.config], and [%s] has %s", path, path, list(known))
	case path == "":
		l.reject(full, "is not a key: write one of %s", list(known))
	default:
		l.reject(full, "is not a key: [%s] has %s", path, list(known))
	}
}

// names checks a table of tables, whose keys the operator chooses, or one that is checked elsewhere.
func (l *loader) names(path string, v any, elem reflect.Type) bool {
	m, ok := v.(map[string]any)
	if !ok {
		if elem.Kind() == reflect.Interface {
			l.reject(path, "is %s: write the table [%s]", describe(v), path)
		} else {
			l.reject(path, "is %s: write [%s.NAME], a table for each", describe(v), path)
		}
		return false
	}
	if elem.Kind() == reflect.Interface {
		return true // a filter's own, for which its manifest has a schema
	}
	for name, value := range m {
		full := joinKey(path, name)
		if !goodName(name) {
			l.reject(full, "%q can't be a name: write at most %d letters, digits, - and _", name, maxName)
			delete(m, name)
			continue
		}
		if _, ok := value.(map[string]any); !ok && describe(value) != "a list" {
			l.reject(full, "is %s: write [%s.NAME] above it, with a name of your choice", describe(value), path)
			delete(m, name)
			continue
		}
		l.declared[full] = true
		if !l.check(full, value, elem) {
			delete(m, name)
		}
	}
	return true
}

const maxName = 63

// goodName reports whether the operator may use the name. It shows up in paths, environment variables, logs and metrics.
func goodName(name string) bool { return isBare(name) && len(name) <= maxName }

func (l *loader) list(path string, v any, elem reflect.Type) bool {
	values, ok := v.([]any)
	if !ok {
		if elem.Kind() == reflect.Struct {
			if _, ok := v.(map[string]any); ok {
				l.reject(path, "is a table: write [[%s]], with two brackets, for each", path)
			} else {
				l.reject(path, "is %s: write [[%s]], a table for each", describe(v), path)
			}
			return false
		}
		if s, ok := v.(string); ok && len(s) <= 100 {
			l.reject(path, "is a string: write a list, as in [%q]", s)
			return false
		}
		return l.mistyped(path, v, reflect.SliceOf(elem), "a list")
	}
	good := true
	for i, value := range values {
		good = l.check(joinIndex(path, i), value, elem) && good
	}
	// Taking one element out would give the others wrong numbers.
	return good
}

func (l *loader) mistyped(path string, v any, t reflect.Type, want string) bool {
	example := ""
	steps := parsePath(path)
	inList := steps[len(steps)-1].index >= 0
	for inList && steps[len(steps)-1].index >= 0 {
		steps = steps[:len(steps)-1]
	}
	section := steps[0].key
	if len(steps) > 1 {
		section += "." + steps[len(steps)-1].key
	}
	if e, ok := examples[section]; ok {
		example = e
		if inList {
			example, _, _ = strings.Cut(strings.Trim(e, "[]"), ", ")
		}
	} else {
		switch {
		case t == durationType:
			example = `"10s"`
		case t.Kind() == reflect.Slice:
			example = `["a", "b"]`
		}
	}
	if example != "" {
		example = ", such as " + example
	}
	l.reject(path, "is %s: write %s%s", describe(v), want, example)
	return false
}

// describe names the type of a value in TOML.
func describe(v any) string {
	switch v := v.(type) {
	case string:
		return "a string"
	case bool:
		return strconv.FormatBool(v)
	case int64:
		return "a whole number"
	case float64:
		return "a fraction"
	case []any:
		return "a list"
	case map[string]any:
		return "a table"
	default:
		return "a date or time"
	}
}

// reject reports a mistake in the form of the file, and remembers it: what follows from it is not reported.
func (l *loader) reject(path, format string, args ...any) {
	l.add(path, fmt.Sprintf(format, args...))
	for p := path; p != ""; p = parent(p) {
		l.broken[p] = true
	}
}

// parent returns the path without its last step.
func parent(path string) string {
	steps := parsePath(path)
	if len(steps) == 0 {
		return ""
	}
	short := ""
	for _, s := range steps[:len(steps)-1] {
		if s.index >= 0 {
			short = joinIndex(short, s.index)
		} else {
			short = joinKey(short, s.key)
		}
	}
	return short
}

// invalid reports what the Validate of a part says about the table at path: joined errors, each with the key at fault in front. A
// place in braces, such as {scope[0].clients[1]}, is another key of that table, and is replaced by its position.
func (l *loader) invalid(path string, err error) {
	if err == nil {
		return
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, err := range joined.Unwrap() {
			l.invalid(path, err)
		}
		return
	}
	key, text, ok := strings.Cut(err.Error(), ": ")
	if !ok || strings.ContainsAny(key, " \"") {
		l.add(path, err.Error())
		return
	}
	full := path + "." + key
	if _, set := lookup(l.raw, full); !set && l.broken[path] {
		return // probably it is missing because something else is wrong
	}
	l.add(full, l.expand(path, text))
}

// expand replaces the places in braces.
func (l *loader) expand(path, text string) string {
	var b strings.Builder
	for {
		before, rest, ok := strings.Cut(text, "{")
		place, after, closed := strings.Cut(rest, "}")
		if !ok || !closed {
			return b.String() + text
		}
		b.WriteString(before)
		if _, known := lookup(l.raw, path+"."+place); known {
			b.WriteString(l.position(path + "." + place))
		} else {
			b.WriteString("{" + place + "}")
		}
		text = after
	}
}
