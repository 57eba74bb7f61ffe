package wasm

import (
	"regexp"
	"strconv"
	"strings"
)

// Mistake is something wrong in the operator's configuration.
type Mistake struct {
	// Path is the key at fault from the top of the file, as in "filter.rules.config.rule[3].zone". Keys that TOML would quote are quoted.
	// It may name a key that is missing; then its longest part that exists is the place.
	Path string
	// Text says what is wrong and what would be right. Places such as {rule[1].zone}, relative to Base, stand for other keys; see Expand.
	Text string
	// Base is the path that places in Text are relative to.
	Base string
}

// Error returns path and text, with other keys by their paths.
func (m Mistake) Error() string {
	return m.Path + ": " + m.Expand(func(path string) string { return path })
}

var place = regexp.MustCompile(`\{([A-Za-z0-9_."-]+(\[[0-9]+\])?)+\}`)

// Expand returns the text with each {place} replaced by what at returns for its path from the top of the file, for instance
// "weir.toml:31".
func (m Mistake) Expand(at func(path string) string) string { return Expand(m.Text, m.Base, at) }

// Expand returns text with each {place} replaced by what at returns for it, with base before it. Lines that filters explain have places too.
func Expand(text, base string, at func(path string) string) string {
	return place.ReplaceAllStringFunc(text, func(s string) string { return at(join(base, s[1:len(s)-1])) })
}

// Mistakes are all that was found in one configuration. It is the error of [Runtime.Open] when the operator can mend it.
type Mistakes []Mistake

// Error returns one line for each.
func (m Mistakes) Error() string {
	lines := make([]string, len(m))
	for i := range m {
		lines[i] = m[i].Error()
	}
	return strings.Join(lines, "\n")
}

// join puts two paths together.
func join(base, path string) string {
	if base == "" || path == "" {
		return base + path
	}
	return base + "." + path
}

var bareKey = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// keyPath turns the way to a value in a document, as keys and indexes, into a path.
func keyPath(document any, way []string) string {
	var b strings.Builder
	for _, step := range way {
		switch v := document.(type) {
		case []any:
			b.WriteString("[" + step + "]")
			document = nil
			if i, err := strconv.Atoi(step); err == nil && i >= 0 && i < len(v) {
				document = v[i]
			}
			continue
		case map[string]any:
			document = v[step]
		}
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		if bareKey.MatchString(step) {
			b.WriteString(step)
		} else {
			b.WriteString(strconv.Quote(step))
		}
	}
	return b.String()
}
