package config

import (
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"
)

var positionForm = regexp.MustCompile(`^(weir\.toml:[1-9][0-9]*(:[1-9][0-9]*)?|WEIR_.*)$`)

// FuzzLoad: whatever is in the file and the environment, there is a configuration, or errors with places that exist.
func FuzzLoad(f *testing.F) {
	for _, m := range mistakes {
		text := m.text
		if !m.whole {
			text += rest
		}
		f.Add([]byte(text), strings.Join(m.env, "\n"))
	}
	for _, file := range []string{"../../config.toml", "testdata/positions.toml"} {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, "WEIR_LOG__LEVEL=debug\nWEIR_LISTENER__0__SCOPE__0__CLIENTS=10.0.0.0/8")
	}
	f.Fuzz(func(t *testing.T, data []byte, environ string) {
		file, err := Parse("weir.toml", data, strings.Split(environ, "\n"))
		if (file == nil) == (err == nil) {
			t.Fatalf("Parse = %v, %v", file, err)
		}
		if err == nil {
			file.Position("filter.rules.config.rule[3].zone")
			return
		}
		errs, ok := errors.AsType[Errors](err)
		if !ok || len(errs) == 0 {
			t.Fatalf("Parse = %T %v, want Errors", err, err)
		}
		lines := strings.Count(string(data), "\n") + 1
		for i, e := range errs {
			if !positionForm.MatchString(e.Position) || e.Line < 0 || e.Line > lines || (e.Line == 0) != strings.HasPrefix(e.Position, "WEIR_") || e.Text == "" {
				t.Errorf("error without a place or a text: %+v", e)
			}
			if i > 0 && e.Line != 0 && e.Line < errs[i-1].Line {
				t.Errorf("out of order: %+v behind %+v", e, errs[i-1])
			}
		}
	})
}
