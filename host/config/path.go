package config

import (
	"strconv"
	"strings"
)

// step is one step of a key path: a key, or an index into an array.
type step struct {
	key   string
	index int // -1 for a key
}

// parsePath takes a path such as `filter.rules.config.rule[3]."a.b"` apart. What is malformed is taken as a key, so that there
// always is some position for it.
func parsePath(path string) (steps []step) {
	for path != "" {
		switch path[0] {
		case '.':
			path = path[1:]
			continue
		case '[':
			if digits, rest, ok := strings.Cut(path[1:], "]"); ok {
				if i, err := strconv.Atoi(digits); err == nil && i >= 0 {
					steps, path = append(steps, step{index: i}), rest
					continue
				}
			}
		case '"':
			if quoted, err := strconv.QuotedPrefix(path); err == nil {
				if key, err := strconv.Unquote(quoted); err == nil {
					steps, path = append(steps, step{key, -1}), path[len(quoted):]
					continue
				}
			}
		}
		end := strings.IndexAny(path[1:], ".[") + 1
		if end == 0 {
			end = len(path)
		}
		steps, path = append(steps, step{path[:end], -1}), path[end:]
	}
	return steps
}

// joinKey appends a key to a path, quoted if TOML would want that.
func joinKey(path, key string) string {
	if path == "" {
		return quoteKey(key)
	}
	return path + "." + quoteKey(key)
}

// joinIndex appends an index to a path.
func joinIndex(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

func quoteKey(key string) string {
	if isBare(key) {
		return key
	}
	return strconv.Quote(key)
}

// isBare reports whether TOML lets the key stand without quotes.
func isBare(key string) bool {
	for _, c := range []byte(key) {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return key != ""
}

// lookup returns the value at a path of a decoded document.
func lookup(document any, path string) (any, bool) {
	for _, s := range parsePath(path) {
		switch v := document.(type) {
		case map[string]any:
			next, ok := v[s.key]
			if !ok || s.index >= 0 {
				return nil, false
			}
			document = next
		case []any:
			if s.index < 0 || s.index >= len(v) {
				return nil, false
			}
			document = v[s.index]
		default:
			return nil, false
		}
	}
	return document, true
}
