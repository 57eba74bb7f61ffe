package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestSchemaKeys(t *testing.T) {
	for _, tt := range []struct{ name, schema, want string }{
		{"none", `{}`, ""},
		{"in order", `{"properties": {"b": {"type": "string"}, "a": {"type": "integer", "description": "A number."}}}`, "b (string)|a (integer): A number."},
		{"format and required", `{"required": ["zone"], "properties": {"zone": {"type": "string", "format": "weir-zone"}}}`, "zone (weir-zone, required)"},
		{"types", `{"properties": {"ttl": {"type": ["string", "integer"]}, "x": {}}}`, "ttl (string or integer)|x (any)"},
		{"nested", `{"properties": {"rule": {"type": "array", "description": "Rules.", "items": {"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}}}}}}`,
			"rule[] (object): Rules.|rule[].a (string, required)"},
		{"reference", `{"$defs": {"d": {"type": "boolean", "description": "Of d."}}, "properties": {"x": {"$ref": "#/$defs/d"}, "y": {"$ref": "#/$defs/d", "description": "Of y."}}}`,
			"x (boolean): Of d.|y (boolean): Of y."},
		{"itself", `{"$defs": {"d": {"type": "object", "properties": {"d": {"$ref": "#/$defs/d"}}}}, "properties": {"d": {"$ref": "#/$defs/d"}}}`,
			"d (object)|d.d (object)|d.d.d (object)|d.d.d.d (object)|d.d.d.d.d (object)"},
		{"unknown reference", `{"properties": {"x": {"$ref": "#/$defs/none"}}}`, "x (any)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var s schema
			if err := json.Unmarshal([]byte(tt.schema), &s); err != nil {
				t.Fatal(err)
			}
			want := strings.Split(tt.want, "|")
			if tt.want == "" {
				want = nil
			}
			if got := s.keys(); !slices.Equal(got, want) {
				t.Errorf("got  %q\nwant %q", got, want)
			}
		})
	}
}

// TestSchemaEnds: so do schemas that refer to themselves, also those that do so often.
func TestSchemaEnds(t *testing.T) {
	properties := make([]string, 100)
	for i := range properties {
		properties[i] = fmt.Sprintf(`"p%d": {"$ref": "#/$defs/d"}`, i)
	}
	var wide schema
	document := fmt.Sprintf(`{"$defs": {"d": {"properties": {%[1]s}}}, "properties": {%[1]s}}`, strings.Join(properties, ", "))
	if err := json.Unmarshal([]byte(document), &wide); err != nil {
		t.Fatal(err)
	}
	if got := len(wide.keys()); got != maxKeys {
		t.Errorf("got %d keys, want the first %d", got, maxKeys)
	}
	var s schema
	if err := json.Unmarshal([]byte(`{"$defs": {"d": {"type": "array", "items": {"$ref": "#/$defs/d"}}}, "properties": {"x": {"$ref": "#/$defs/d"}}}`), &s); err != nil {
		t.Fatal(err)
	}
	if got := s.keys(); len(got) != 1 || !strings.HasPrefix(got[0], "x[]") {
		t.Errorf("got %q, want one key", got)
	}
}
