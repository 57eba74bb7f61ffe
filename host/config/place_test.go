package config

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	gotoml "github.com/pelletier/go-toml/v2"
)

// TestPositions reads a file whose comments say what is in each line.
func TestPositions(t *testing.T) {
	data, err := os.ReadFile("testdata/positions.toml")
	if err != nil {
		t.Fatal(err)
	}
	if err := gotoml.Unmarshal(data, new(map[string]any)); err != nil {
		t.Fatalf("the test file is not TOML: %v", err)
	}
	root, errs := newSurvey("x.toml", data)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	n := 0
	for i, line := range strings.Split(string(data), "\n") {
		_, paths, _ := strings.Cut(line, "#@ ")
		for path := range strings.FieldsSeq(paths) {
			n++
			if path == "in" || path == "are" { // the first line
				break
			}
			p := root.find(path)
			if p.line != i+1 {
				t.Errorf("%s is in line %d, want %d", path, p.line, i+1)
			}
			if steps := parsePath(path); steps[len(steps)-1].index < 0 {
				key := steps[len(steps)-1].key
				if got := line[p.column-1:]; !strings.HasPrefix(strings.TrimLeft(got, `"'`), key) && key != "ä\n" {
					t.Errorf("%s is at column %d: %q", path, p.column, got)
				}
			}
		}
	}
	if n < 45 {
		t.Errorf("%d paths were looked at, want 45 at least", n)
	}
}

func TestPositionOfWhatIsMissing(t *testing.T) {
	f, err := Parse("dir/weir.toml", []byte(rest), nil)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct{ path, want string }{
		{"listener[0].address", "dir/weir.toml:3"},
		{"listener[0].scope[1].clients", "dir/weir.toml:2"},
		{"listener[1]", "dir/weir.toml:2"},
		{"upstream.default.servers[3]", "dir/weir.toml:6"},
		{"upstream.default.servers.x", "dir/weir.toml:6"},
		{"upstream.other", "dir/weir.toml:5"},
		{"table", "dir/weir.toml:1"},
		{"", "dir/weir.toml:1"},
		{"[[[..\"", "dir/weir.toml:1"},
	}
	for _, tt := range tests {
		if got := f.Position(tt.path); got != tt.want {
			t.Errorf("Position(%q) = %q, want %q", tt.path, got, tt.want)
		}
	}
}

// TestPositionsOfRandomFiles writes random TOML in which each value is there once, and compares the line and column of each value
// with where a search for it finds it.
func TestPositionsOfRandomFiles(t *testing.T) {
	for seed := range uint64(300) {
		w := &writer{Rand: rand.New(rand.NewPCG(seed, 1))}
		w.document()
		data := w.Bytes()
		var document map[string]any
		if err := gotoml.Unmarshal(data, &document); err != nil {
			t.Fatalf("seed %d: the test wrote what is not TOML: %v\n%s", seed, err, data)
		}
		root, errs := newSurvey("x.toml", data)
		if len(errs) > 0 {
			t.Fatalf("seed %d: %v\n%s", seed, errs, data)
		}
		values := 0
		leaves("", document, func(path, value string, element bool) {
			values++
			offset := bytes.Index(data, []byte(value))
			line := bytes.Count(data[:offset], []byte("\n")) + 1
			p := root.find(path)
			if p.line != line {
				t.Errorf("seed %d: %s is in line %d, want %d\n%s", seed, path, p.line, line, data)
			}
			if column := offset - bytes.LastIndexByte(data[:offset], '\n') - 1; element && p.column != column {
				t.Errorf("seed %d: %s is at column %d, want %d\n%s", seed, path, p.column, column, data)
			}
		})
		if values != w.n {
			t.Errorf("seed %d: %d values were found, want %d\n%s", seed, values, w.n, data)
		}
		if t.Failed() {
			return
		}
	}
}

// leaves calls f for each string of a document. element is whether it is an element of an array.
func leaves(path string, v any, f func(path, value string, element bool)) {
	switch v := v.(type) {
	case string:
		f(path, v, strings.HasSuffix(path, "]"))
	case map[string]any:
		for key, e := range v {
			leaves(joinKey(path, key), e, f)
		}
	case []any:
		for i, e := range v {
			leaves(joinIndex(path, i), e, f)
		}
	}
}

// writer writes random TOML. Keys are numbered, so that none is there twice.
type writer struct {
	bytes.Buffer
	*rand.Rand
	n, keys int
}

func (w *writer) document() {
	for range w.IntN(4) {
		w.keyValue(0)
		w.WriteString("\n")
	}
	for range w.IntN(6) {
		key := w.key()
		if w.IntN(2) == 0 {
			fmt.Fprintf(w, "%s[ %s ] # [x]\n", w.space(), key)
			w.body()
			continue
		}
		for range 1 + w.IntN(3) {
			fmt.Fprintf(w, "[[%s]]\n", key)
			w.body()
			if w.IntN(2) == 0 {
				fmt.Fprintf(w, "[%s.%s]\n", key, w.key())
				w.body()
			}
		}
	}
}

func (w *writer) body() {
	for range w.IntN(4) {
		w.WriteString(w.space())
		w.keyValue(0)
		w.WriteString([]string{"\n", "\r\n", " # \"c\"\n", "\n\n"}[w.IntN(4)])
	}
}

func (w *writer) key() string {
	w.keys++
	return fmt.Sprintf([]string{"k%d", `"k %d"`, "a%[1]d.b", `'k.%d'`, `x%[1]d . "y[" . z`}[w.IntN(5)], w.keys)
}

func (w *writer) space() string { return []string{"", " ", "\t "}[w.IntN(3)] }

func (w *writer) keyValue(depth int) {
	fmt.Fprintf(w, "%s%s=%s", w.key(), w.space(), w.space())
	w.value(depth)
}

func (w *writer) value(depth int) {
	kind := w.IntN(8)
	switch {
	case kind < 2 && depth < 4: // an array
		w.WriteString("[")
		for range w.IntN(4) {
			w.WriteString([]string{"", " ", "\n", "\n # [ ] { } , \"c\"\n  "}[w.IntN(4)])
			w.value(depth + 1)
			w.WriteString([]string{",", " ,", "\n,"}[w.IntN(3)])
		}
		w.WriteString([]string{"]", " ]", "\n]"}[w.IntN(3)])
	case kind == 2 && depth < 4: // an inline table
		w.WriteString("{")
		for i := range w.IntN(3) {
			if i > 0 {
				w.WriteString(", ")
			}
			w.keyValue(depth + 1)
		}
		w.WriteString("}")
	case kind == 3:
		w.WriteString([]string{"true", "-17", "1e3", "2026-11-21T00:00:00Z", "0x1F"}[w.IntN(5)])
	default:
		w.n++
		fmt.Fprintf(w, []string{`"v%d-"`, `'v%d-'`}[w.IntN(2)], w.n)
	}
}

func TestPath(t *testing.T) {
	tests := []struct {
		path string
		want []step
	}{
		{"", nil},
		{"a", []step{{"a", -1}}},
		{"a.b[3].c", []step{{"a", -1}, {"b", -1}, {"", 3}, {"c", -1}}},
		{"a[0][1]", []step{{"a", -1}, {"", 0}, {"", 1}}},
		{`a."b.c[0]".d`, []step{{"a", -1}, {"b.c[0]", -1}, {"d", -1}}},
		{`"".a`, []step{{"", -1}, {"a", -1}}},
		{"a[x]", []step{{"a", -1}, {"[x]", -1}}},
		{"a[-1]", []step{{"a", -1}, {"[-1]", -1}}},
		{`a."b`, []step{{"a", -1}, {`"b`, -1}}},
	}
	for _, tt := range tests {
		if got := parsePath(tt.path); fmt.Sprint(got) != fmt.Sprint(tt.want) {
			t.Errorf("parsePath(%q) = %v, want %v", tt.path, got, tt.want)
		}
	}
}
