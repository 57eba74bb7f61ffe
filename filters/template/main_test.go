package main

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
	gotemplate "text/template"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/filters/internal/pattern"
	"github.com/weirdns/weir/sdk"
	"github.com/weirdns/weir/sdk/sdktest"
)

func TestCases(t *testing.T) { sdktest.Run(t, "testdata/*.txtar", sdktest.Native(newFilter)) }

func TestAllocations(t *testing.T) { sdktest.Allocations(t, "testdata/*.txtar", newFilter) }

// wire is the name of a text.
func wire(t testing.TB, text string) []byte {
	t.Helper()
	name, wrong := sdk.AppendName(nil, []byte(text))
	if wrong != "" {
		t.Fatalf("%q %s", text, wrong)
	}
	return name
}

// FuzzExpand compares with text/template: what is a template here means the same there.
func FuzzExpand(f *testing.F) {
	for _, s := range []string{
		"{{ .Name }} 60 IN {{.Type}}  {{- .Class -}} x {{ index .Match 1 }}", "{{ .Group.host }}{{index .Group \"host\"}}", "{{ index .Labels 2 }} {{.Client}} {{ .Remote }}",
		"{{- .Zone -}}", "{{-.Zone-}}", "}} {{ .Zone }", "a {{ .Zone }} - {{- .Zone }}\n {{ .Type -}} \n b", "{{ index .Labels 9 }}", "{{/* x */}}", "{{ .Name | len }}",
		"{{ index .Match 01 }}", "{{\n.Name\t}}", "{{ - .Name }}", "{{ .Name - }}", "{{{ .Name }}}",
	} {
		f.Add(s)
	}
	p, wrong := pattern.Compile(`^(?P<host>[a-z]+)[.](z)?`, true)
	if wrong != "" {
		f.Fatal(wrong)
	}
	name := wire(f, "www.a.example.com")
	data := struct {
		Name, Zone, Type, Class, Client, Remote string
		Labels, Match                           []string
		Group                                   map[string]string
	}{
		"www.a.example.com.", "example.com.", "MX", "IN", "192.0.2.1", "192.0.2.1",
		[]string{"www", "a", "example", "com"}, []string{"www.", "www", ""}, map[string]string{"host": "www"},
	}
	f.Fuzz(func(t *testing.T, text string) {
		tmpl := template{regex: p}
		parts, wrong := parse(text, tmpl.group)
		if wrong != "" {
			return
		}
		var flt filter
		flt.values = values{name: name, zone: len(wire(t, "example.com")), client: []byte{192, 0, 2, 1}, qtype: sdk.TypeMX, class: 1}
		flt.matcher.SetName(name)
		if !flt.matcher.Match(p) {
			t.Fatal("no match")
		}
		flt.matcher.Find(p)
		flt.values.text = flt.matcher.Text()
		got, wrong := flt.expand(nil, parts)
		if wrong == "is longer than 4,096 octets" {
			return
		}
		parsed, err := gotemplate.New("").Parse(text)
		if err != nil {
			t.Fatalf("%q: is no template of Go: %v", text, err)
		}
		var want strings.Builder
		err = parsed.Execute(&want, data)
		if (err != nil) != (wrong != "") || err == nil && string(got) != want.String() {
			t.Fatalf("%q: got %q %q, want %q %v", text, got, wrong, want.String(), err)
		}
	})
}

var emptyRDATA = regexp.MustCompile(`\\#\s+0+\s*$`)

// FuzzRecord compares with the parser of zone files: what is a record here is the same there.
func FuzzRecord(f *testing.F) {
	for _, s := range []string{
		"a.b. 60 IN A 192.0.2.1", "a IN 60 AAAA 2001:db8::1", ". NS .", "a\\.b CNAME c\\032d.e", "a MX 10 b", "a 5 SRV 1 2 3 b", "a TXT \"x y\" z \"\"", "a TXT \\\"a b",
		"a SOA b c 1 2 3 4 4294967295", "a CAA 0 issue \"x\"", "a HINFO x \"y z\"", "a PTR b", "a DNAME b", "a TYPE65280 \\# 3 0102 03", "a CH TXT x", "a HS 0 A 1.2.3.4",
		"a A \\# 4 01020304", "a TYPE60 \\# 3 0102 03", "a TXT x\\\"y", "a TXT \"a\"b", "a TXT x\"y", "a TXT \"\\255\\000\"",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		text = strings.TrimSpace(text)
		if strings.ContainsAny(text, ";()$@\n\r\x00") || len(text) > 1000 { // what they mean in a zone file, they don't here
			return
		}
		if emptyRDATA.MatchString(text) { // miekg/dns makes two empty strings of an empty HINFO, and the like
			return
		}
		sc := scanner{text: []byte(text)}
		got, wrong := sc.appendRecord(make([]byte, 0, maxRecord))
		if wrong != "" {
			return
		}
		rr, err := dns.NewRR("$ORIGIN .\n" + text)
		if err != nil || rr == nil {
			t.Skipf("%q: %v", text, err) // it doesn't take all tokens of other places for strings, for instance
		}
		want := make([]byte, 65535)
		n, err := dns.PackRR(rr, want, 0, nil, false)
		if err != nil {
			t.Skip(err)
		}
		if n != len(got) && strings.Contains(text, `\#`) {
			t.Skip("of a type that it knows, miekg/dns reads the generic form (RFC 3597 section 5) as it reads a message, and writes what is missing as zeros")
		}
		if !bytes.EqualFold(got, want[:n]) {
			t.Fatalf("%q:\n got %x\nwant %x (%v)", text, got, want[:n], rr)
		}
	})
}
