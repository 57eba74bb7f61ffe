package pattern

import (
	"bytes"
	"regexp"
	"strings"
	"testing"

	"github.com/weirdns/weir/sdk"
)

// wire is the name of a text.
func wire(t testing.TB, text string) []byte {
	t.Helper()
	name, wrong := sdk.AppendName(nil, []byte(text))
	if wrong != "" {
		t.Fatalf("%q %s", text, wrong)
	}
	return name
}

// FuzzMatch compares with package regexp: whether there is a match, and what the groups are.
func FuzzMatch(f *testing.F) {
	for _, s := range [][2]string{
		{`^ip-(?P<a>\d*)-(\d+)[.]example[.]com[.]$`, "ip-1-2.example.com"},
		{`^(.*)-(us|eu)\.(?:a|b)+?\.$`, "www-eu.abab"},
		{`(a|ab)(c|bcd)(d*)\.`, "abcd"},
		{`(a*)*|b`, "b"},
		{`(a*?)(a*)`, "aaa"},
		{`(|a)*(b)?`, "aab"},
		{`^(?:(x)|(y))*$`, "xy"},
		{`\bfoo\b|\Bbar`, "foo.xbar"},
		{`(?m)^a$|\.$`, "a.b"},
		{`[^.]+$|\.`, "a.b"},
		{`(?i)WWW(?-i)\.A`, "www.a"},
		{`((a|b)|c)*\.`, "abc"},
		{`\pL+\.`, "abc"},
		{`x{2,5}y{0}`, "xxxxxxx"},
		{``, "a"},
		{`\A\z`, "a"},
		{`\\.\.`, `a\.b`},
	} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, expression, text string) {
		name, wrong := sdk.AppendName(nil, []byte(text))
		if wrong != "" {
			return
		}
		re, err := regexp.Compile("(?i)" + expression)
		var m Matcher
		p, wrong := Compile(expression, true)
		if (wrong == "") != (err == nil) {
			if err == nil && (wrong == tooLarge || strings.Contains(wrong, "never matches") || strings.Contains(wrong, "longer than") || strings.Contains(wrong, "too long")) {
				return
			}
			if wrong == "" && strings.Contains(err.Error(), "(?i)") { // the prefix made it too large
				return
			}
			t.Fatalf("Compile(%q): %q, want %v", expression, wrong, err)
		}
		if err != nil {
			return
		}
		m.SetName(name)
		s := sdk.AppendText(nil, name)
		if !m.ok {
			if len(s) <= maxText-4 {
				t.Fatalf("no text for %q", s)
			}
			if m.Match(p) {
				t.Fatalf("%q matches a text of %d octets", expression, len(s))
			}
			return
		}
		want := re.FindSubmatchIndex(s)
		for range 2 { // the second time with what the first one left behind
			if got := m.Match(p); got != (want != nil) {
				t.Fatalf("%q with %q: got %v, want %v", expression, s, got, want)
			}
			if want == nil {
				return
			}
			m.Find(p)
			for i := range p.Groups() {
				var group []byte
				if want[2*i] >= 0 {
					group = s[want[2*i]:want[2*i+1]]
				}
				if got := m.Group(i); !bytes.Equal(got, group) || (got == nil) != (group == nil) {
					t.Fatalf("%q with %q: group %d is %q, want %q", expression, s, i, got, group)
				}
			}
		}
	})
}

func TestCompile(t *testing.T) {
	for _, tt := range []struct{ name, expression, wrong string }{
		{"good", `^a\.$`, ""},
		{"digits at the end", `^a\d$`, ""},
		{"no last dot", `^www\.example$`, `never matches: the text of a name ends with a dot, so write "\.$" at the end`},
		{"syntax", `(a`, "is no regular expression: error parsing regexp: missing closing ): `(a`"},
		{"long", strings.Repeat("a", 1001), "is longer than 1,000 octets"},
		{"large", `((a{30}){30})((b{30}){30})((c{30}){30})`, tooLarge},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, wrong := Compile(tt.expression, true); wrong != tt.wrong {
				t.Errorf("got %q, want %q", wrong, tt.wrong)
			}
		})
	}
	p, wrong := Compile(`^(a)(?P<b>b)`, true)
	if wrong != "" {
		t.Fatal(wrong)
	}
	if i, ok := p.Named("b"); i != 2 || !ok {
		t.Errorf("Named(b) = %d, %v", i, ok)
	}
	if _, ok := p.Named(""); ok || p.Groups() != 3 {
		t.Errorf("a group without a name is found, or there are %d, want 3", p.Groups())
	}
}

// TestGroups: how large an expression may be depends on whether somebody wants its groups.
func TestGroups(t *testing.T) {
	for _, e := range []string{
		`^ip-(?P<a>[0-9]*)-(?P<b>[0-9]*)-(?P<c>[0-9]*)-(?P<d>[0-9]*)[.]`, `^(.*)\.svc\.`, `^([^.]+)-(us|eu)\.(?:a|b)\.example\.$`, `(^|[.])ads?[.]`,
	} {
		if _, wrong := Compile(e, true); wrong != "" {
			t.Errorf("%s: %s", e, wrong)
		}
	}
	for _, e := range []string{`([a-z]*)([a-z]*)([a-z]*)x`, `(ads|track|pixel)[0-9]*\.`} {
		_, with := Compile(e, true)
		if _, without := Compile(e, false); without != "" || !strings.Contains(with, "begin it with") {
			t.Errorf("%s: with groups %q, without %q", e, with, without)
		}
	}
}

func TestAllocations(t *testing.T) {
	var m Matcher
	p, wrong := Compile(`^ip-(\d+)-(\d+)-(\d+)-(\d+)[.]example[.]com[.]$`, true)
	if wrong != "" {
		t.Fatal(wrong)
	}
	for _, text := range []string{"ip-1-2-3-4.example.com", "ip-1-2-3-4.example.org", "www.example.com"} {
		name := wire(t, text)
		if n := testing.AllocsPerRun(100, func() {
			m.SetName(name)
			if m.Match(p) {
				m.Find(p)
			}
		}); n > 0 {
			t.Errorf("%s: %v allocations", text, n)
		}
	}
}
