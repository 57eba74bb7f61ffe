package config

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const envPrefix = "WEIR_"

// serviceLink matches the variables that Kubernetes and Docker set in every container for a service called weir or weir-something.
// They look like ours, but nobody wrote them.
var serviceLink = regexp.MustCompile(`^WEIR_([A-Z0-9]+_)*(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9]+)*|PORT|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?|NAME|ENV_.*)$`)

// environment gives koanf the variables of the environment that are ours: name to value.
type environment []string

// Read implements koanf.Provider.
func (e environment) Read() (map[string]any, error) {
	vars := make(map[string]any)
	for _, entry := range e {
		name, value, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, envPrefix) && (strings.Contains(name, "__") || !serviceLink.MatchString(name)) {
			vars[name] = value
		}
	}
	return vars, nil
}

// ReadBytes implements koanf.Provider.
func (environment) ReadBytes() ([]byte, error) { return nil, fmt.Errorf("environment: has no octets") }

// override puts the variables into the document.
func (l *loader) override(vars, document map[string]any) {
	setBy := make(map[string]string)
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		value, _ := vars[name].(string)
		t := &target{variable: name, value: value}
		text := t.set(document, layoutType, strings.Split(strings.TrimPrefix(name, envPrefix), "__"))
		if text == "" && setBy[t.path] != "" {
			text = "sets what " + setBy[t.path] + " sets: delete one of them"
		}
		if text != "" {
			l.errs = append(l.errs, Error{Position: name, Key: cmp.Or(t.path, l.file.Path), Text: text})
			continue
		}
		setBy[t.path] = name
		l.root.override(t.path, name)
	}
}

// target is what one variable is about.
type target struct {
	variable, value string
	path            string // as far as it was found
}

// set changes v, the table or list of type t at t.path, where words lead. It returns what is wrong.
func (t *target) set(v any, typ reflect.Type, words []string) string {
	kind := typ.Kind()
	switch v := v.(type) {
	case map[string]any:
		if kind == reflect.Slice {
			return "is a table in the file, and should be a list"
		}
		return t.inTable(v, typ, words)
	case []any:
		if kind != reflect.Slice && kind != reflect.Interface {
			return "is a list in the file, and should not be"
		}
		i, err := strconv.Atoi(words[0])
		if err != nil || i < 0 || i >= len(v) {
			return fmt.Sprintf("has no element %s: there are %d, counted from 0", words[0], len(v))
		}
		t.path = joinIndex(t.path, i)
		return t.enter(v[i], element(typ), words[1:], func(value any) { v[i] = value })
	default:
		return "is not a table, so that nothing can be set in it"
	}
}

func (t *target) inTable(m map[string]any, typ reflect.Type, words []string) string {
	word := words[0]
	if typ.Kind() == reflect.Struct {
		var known []string
		for f := range typ.Fields() {
			key := f.Tag.Get("koanf")
			if key == "" || key == "-" {
				continue
			}
			known = append(known, key)
			if !sameKey(key, word) {
				continue
			}
			t.path = joinKey(t.path, key)
			v, ok := m[key]
			if !ok && len(words) > 1 && f.Type.Kind() == reflect.Struct { // a table such as [log], which has defaults for all its keys
				v = make(map[string]any)
				m[key] = v
			}
			return t.enter(v, f.Type, words[1:], func(value any) { m[key] = value })
		}
		return t.unknown(word, known)
	}
	var matches []string
	for key := range m {
		if sameKey(key, word) {
			matches = append(matches, key)
		}
	}
	slices.Sort(matches)
	switch len(matches) {
	case 0:
		return t.unknown(word, slices.Sorted(maps.Keys(m)))
	case 1:
		key := matches[0]
		t.path = joinKey(t.path, key)
		return t.enter(m[key], element(typ), words[1:], func(value any) { m[key] = value })
	default:
		return fmt.Sprintf("%s could be any of %s: a variable can't tell them apart", word, list(matches))
	}
}

// element is the type of what is in a table or list; in a filter's own configuration it can be anything.
func element(t reflect.Type) reflect.Type {
	if t.Kind() == reflect.Interface {
		return t
	}
	return t.Elem()
}

// enter goes on below the value, or sets it.
func (t *target) enter(v any, typ reflect.Type, words []string, set func(any)) string {
	if len(words) > 0 {
		if v == nil {
			return "is not in the file: only tables that are there can be changed by variables"
		}
		return t.set(v, typ, words)
	}
	value, text := t.parse(v, typ)
	if text == "" {
		set(value)
	}
	return text
}

// parse reads the value of the variable as the type wants it, or in a filter's own configuration, as what is there now.
func (t *target) parse(now any, typ reflect.Type) (value any, text string) {
	if typ.Kind() == reflect.Interface {
		switch now.(type) {
		case string:
			typ = reflect.TypeFor[string]()
		case bool:
			typ = reflect.TypeFor[bool]()
		case int64:
			typ = reflect.TypeFor[int64]()
		case float64:
			typ = reflect.TypeFor[float64]()
		case []any:
			typ = reflect.TypeFor[[]string]()
		}
	}
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	switch {
	case typ == durationType, typ.Kind() == reflect.String:
		return t.value, ""
	case typ.Kind() == reflect.Bool:
		if t.value == "true" || t.value == "false" {
			return t.value == "true", ""
		}
		return nil, fmt.Sprintf("%q: write true or false", t.value)
	case typ.Kind() == reflect.Slice && typ.Elem().Kind() == reflect.String:
		words := []any{}
		for word := range strings.SplitSeq(t.value, ",") {
			if word = strings.TrimSpace(word); word != "" {
				words = append(words, word)
			}
		}
		return words, ""
	case reflect.Zero(typ).CanInt(), reflect.Zero(typ).CanUint():
		n, err := strconv.ParseInt(strings.ReplaceAll(t.value, "_", ""), 10, 64)
		switch {
		case err == nil:
			return n, ""
		case reflect.PointerTo(typ).Implements(textType):
			return t.value, "" // such as 32MiB
		}
		return nil, fmt.Sprintf("%q: write a whole number", t.value)
	case reflect.Zero(typ).CanFloat():
		n, err := strconv.ParseFloat(t.value, 64)
		if err != nil {
			return nil, fmt.Sprintf("%q: write a number", t.value)
		}
		return n, ""
	default:
		return nil, "is a table: a variable sets one key of it, as in " + t.variable + "__KEY"
	}
}

// unknown is the text for a word that is no key of the table at t.path.
func (t *target) unknown(word string, known []string) string {
	for i := range known {
		known[i] = envWord(known[i])
	}
	best := closest(word, known)
	word = quoteKey(word)
	switch {
	case best != "":
		return fmt.Sprintf("has no %s: did you mean %s?", word, best)
	case t.path == "":
		return fmt.Sprintf("has no %s: write one of %s, and __ between the parts of a key, as in WEIR_LOG__LEVEL", word, list(known))
	case len(known) == 0:
		return fmt.Sprintf("has no %s: a variable can't add it", word)
	default:
		return fmt.Sprintf("has no %s, and a variable can't add it: write one of %s", word, list(known))
	}
}

// envWord is how a key is written in the name of a variable.
func envWord(key string) string { return strings.ToUpper(strings.ReplaceAll(key, "-", "_")) }

// sameKey reports whether a word of a variable's name stands for the key.
func sameKey(key, word string) bool { return envWord(key) == strings.ToUpper(word) }
