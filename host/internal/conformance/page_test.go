package conformance

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write CONFORMANCE.md")

const root = "../../.."

// rule is a row of the page.
type rule struct {
	rfc       int
	dir, test string
	text      string
}

var ruleName = regexp.MustCompile(`^TestRFC(\d+)([A-Z]\w*)$`)

// rules returns those of the tests in a file.
func rules(path string, source any) (all []rule, err error) {
	f, err := parser.ParseFile(token.NewFileSet(), path, source, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || !strings.HasPrefix(fn.Name.Name, "TestRFC") {
			continue
		}
		name := fn.Name.Name
		m := ruleName.FindStringSubmatch(name)
		if m == nil {
			return nil, fmt.Errorf("%s: %s: want TestRFC, a number, and what it is about with a capital letter, such as TestRFC7766HalfClose", path, name)
		}
		number, err := strconv.Atoi(m[1])
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", path, name, err)
		}
		r := rule{rfc: number, dir: filepath.Base(filepath.Dir(path)), test: name}
		paragraph, _, _ := strings.Cut(strings.TrimSpace(fn.Doc.Text()), "\n\n")
		line := strings.ReplaceAll(paragraph, "\n", " ")
		if sentence, more, ok := strings.Cut(line, ". "); ok && more != "" {
			line = sentence + "."
		}
		if r.text, ok = strings.CutPrefix(line, name+": "); !ok {
			return nil, fmt.Errorf("%s: the comment of %s is %q: want \"%s: \" and the rule in a sentence", path, name, line, name)
		}
		all = append(all, r)
	}
	return all, nil
}

// page is CONFORMANCE.md.
func page(all []rule) []byte {
	slices.SortFunc(all, func(a, b rule) int {
		return cmp.Or(cmp.Compare(a.rfc, b.rfc), cmp.Compare(a.dir, b.dir), cmp.Compare(a.test, b.test))
	})
	var b bytes.Buffer
	b.WriteString("# Conformance\n\nEach row is a rule of an RFC and the test that shows it, as `package.Test`. The page is made of the tests: `go test ./host/internal/conformance -update`" +
		"\nwrites it, and without `-update` that fails when the page is out of date. Other tests show more; these are named for it.\n\n| RFC | rule | test |\n|---|---|---|\n")
	for _, r := range all {
		fmt.Fprintf(&b, "| [%d](https://www.rfc-editor.org/rfc/rfc%d) | %s | `%s.%s` |\n", r.rfc, r.rfc, strings.ReplaceAll(r.text, "|", "\\|"), r.dir, r.test)
	}
	return b.Bytes()
}

// TestPage compares the page with the tests.
func TestPage(t *testing.T) {
	var all []rule
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "vendor"):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		found, err := rules(path, nil)
		all = append(all, found...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	file, want := filepath.Join(root, "CONFORMANCE.md"), page(all)
	if *update {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, want) {
		t.Errorf("CONFORMANCE.md is out of date (%v): go test ./host/internal/conformance -update", err)
	}
}

func TestRules(t *testing.T) {
	for _, tt := range []struct {
		name, source, want, wrong string
	}{
		{"well", "// TestRFC1035ID: the ID |\n// is copied.\n// More.\nfunc TestRFC1035ID() {}", "| [1035](https://www.rfc-editor.org/rfc/rfc1035) | the ID \\| is copied. | `a.TestRFC1035ID` |\n", ""},
		{"another test", "// TestX.\nfunc TestX() {}", "", ""},
		{"no subject", "// TestRFC1035: a.\nfunc TestRFC1035() {}", "", "what it is about"},
		{"no comment", "func TestRFC1035ID() {}", "", "the comment of TestRFC1035ID is \"\""},
		{"no rule", "// TestRFC1035ID copies.\nfunc TestRFC1035ID() {}", "", "the rule in a sentence"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			all, err := rules("a/a_test.go", "package a\n\n"+tt.source)
			if (err == nil) != (tt.wrong == "") || err != nil && !strings.Contains(err.Error(), tt.wrong) {
				t.Fatalf("got %v, want %q", err, tt.wrong)
			}
			if got := string(page(all)); !strings.HasSuffix(got, "|---|---|---|\n"+tt.want) {
				t.Errorf("got %q, want %q at the end", got, tt.want)
			}
		})
	}
}
