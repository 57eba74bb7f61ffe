package json_test

import (
	stdjson "encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/weirdns/weir/sdk/json"
)

// value reads any value into what encoding/json makes of it.
func value(r *json.Reader) any {
	switch r.Kind() {
	case json.Object:
		m := map[string]any{}
		for key := range r.Object() {
			m[key] = value(r)
		}
		return m
	case json.Array:
		a := []any{}
		for range r.Array() {
			a = append(a, value(r))
		}
		return a
	case json.String:
		return r.String()
	case json.Number:
		return r.Float()
	case json.Bool:
		return r.Bool()
	}
	r.Skip()
	return nil
}

func TestReader(t *testing.T) {
	for _, document := range []string{
		`{}`, `[]`, ` { "a" : [ 1 , -2.5e3 , "x" , true , false , null ] } `, `"\u00e9\ud83d\ude00\"\\\/\b\f\n\r\t"`, `0`, `-0.1`, `"é"`,
		`[[[]],{"a":{}}]`, `{"":1}`,
	} {
		t.Run(document, func(t *testing.T) {
			var want any
			if err := stdjson.Unmarshal([]byte(document), &want); err != nil {
				t.Fatal(err)
			}
			r := json.NewReader([]byte(document))
			got := value(r)
			r.End()
			if m := r.Mistakes(); m != nil {
				t.Fatalf("mistakes: %v", m)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got %#v, want %#v", got, want)
			}
		})
	}
}

func TestReaderRefuses(t *testing.T) {
	for _, document := range []string{
		``, ` `, `{`, `}`, `[`, `[1`, `[1,`, `[1,]`, `[,1]`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{a:1}`, `{"a":1 "b":2}`, `[1 2]`, `01`, `1.`, `.5`, `-`, `1e`, `+1`,
		`tru`, `nul`, `falsee`, `"`, `"\`, `"\x"`, `"\u12"`, `"\ud800"`, `"\ud800\u0041"`, `"\udc00"`, "\"\x01\"", "\"\xff\"", `1 1`, `[]]`,
		strings.Repeat("[", 65) + strings.Repeat("]", 65),
	} {
		t.Run(document, func(t *testing.T) {
			r := json.NewReader([]byte(document))
			value(r)
			r.End()
			if len(r.Mistakes()) != 1 {
				t.Errorf("got mistakes %v, want one", r.Mistakes())
			}
		})
	}
}

func TestMistakes(t *testing.T) {
	r := json.NewReader([]byte(`{"rule": [{"zone": "a"}, {"zone": 5, "ttl": 1.5, "more": {"x": [1]}}, "b", {"zone": "c"}], "on": "yes"}`))
	var zones []string
	for key := range r.Object() {
		switch key {
		case "rule":
			for range r.Array() {
				for key := range r.Object() {
					switch key {
					case "zone":
						zones = append(zones, r.String())
					case "ttl":
						r.Int(0, 10)
					default:
						r.Unknown()
					}
				}
			}
		case "on":
			r.Bool()
		}
	}
	r.End()
	want := "[{rule[1].zone want a string} {rule[1].ttl want a whole number from 0 to 10} {rule[1].more there is no such key}" +
		" {rule[2] want a table} {on want true or false}]"
	if got := fmt.Sprint(r.Mistakes()); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := fmt.Sprint(zones); got != "[a  c]" {
		t.Errorf("got zones %s, want [a  c]", got)
	}
}

// TestBreak: leaving a loop early leaves the reader behind the value.
func TestBreak(t *testing.T) {
	r := json.NewReader([]byte(`[{"a": 1, "b": [1, 2]}, 7]`))
	got := int64(0)
	for i := range r.Array() {
		if i == 0 {
			for range r.Object() {
				break
			}
			continue
		}
		got = r.Int(0, 9)
	}
	r.End()
	if got != 7 || r.Mistakes() != nil {
		t.Errorf("got %d and mistakes %v, want 7 and none", got, r.Mistakes())
	}
}

// FuzzReader: documents that encoding/json takes are read as it reads them, others are refused. Names that come twice and the
// replacement of broken UTF-8 are where it is less strict.
func FuzzReader(f *testing.F) {
	for _, s := range []string{`{"a":[1,"x\u0041",null,true]}`, `-1.5e+3`, `{"config":{"rule":[{"zone":"."}]}}`, `"\ud83d\ude00"`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, document []byte) {
		r := json.NewReader(document)
		got := value(r)
		r.End()
		var want any
		err := stdjson.Unmarshal(document, &want)
		if r.Mistakes() == nil && err != nil {
			t.Fatalf("read %#v, encoding/json says %v", got, err)
		}
		if r.Mistakes() == nil && !reflect.DeepEqual(got, want) {
			t.Fatalf("got %#v, want %#v", got, want)
		}
	})
}
