package config

import (
	"testing"

	"github.com/weirdns/weir/host/chain"
)

const ordered = `[chain.x]
filters = [
  "a",
  "b",
  "c",
]
upstream = "default"
[filter.a]
[filter.b]
[filter.c]
`

func TestCheckChain(t *testing.T) {
	var (
		plain     = Member{}
		authority = Member{Role: chain.RoleAuthority}
		route     = Member{Role: chain.RoleRoute}
		retry     = Member{Role: chain.RoleRetry}
		access    = Member{Role: chain.RoleAccess}
		final     = Member{Final: true}
	)
	all := []string{"a", "b", "c"}
	tests := []struct {
		name    string
		config  chain.Config
		members []Member
		want    string
	}{
		{"authority, rules, alternate", chain.Config{Filters: all, Upstream: "default"}, []Member{authority, route, retry}, ""},
		{"a final one at the end", chain.Config{Filters: all, Upstream: "default"}, []Member{plain, route, final}, ""},
		{"a final one in front", chain.Config{Filters: all, Upstream: "default"}, []Member{final, plain, plain},
			"weir.toml:4: chain.x.filters[1]: \"b\" is never reached: \"a\", in weir.toml:3, answers every query; move it to the end\n" +
				"weir.toml:5: chain.x.filters[2]: \"c\" is never reached: \"a\", in weir.toml:3, answers every query; move it to the end"},
		{"only the first final one counts", chain.Config{Filters: all}, []Member{plain, final, final},
			"weir.toml:5: chain.x.filters[2]: \"c\" is never reached: \"b\", in weir.toml:4, answers every query; move it to the end"},
		{"a retry above an upstream", chain.Config{Filters: all[:1], Upstream: "default"}, []Member{retry}, ""},
		{"a retry above a filter", chain.Config{Filters: all[:2]}, []Member{retry, authority}, ""},
		{"a retry above nothing", chain.Config{Filters: all[:2]}, []Member{authority, retry},
			"weir.toml:4: chain.x.filters[1]: \"b\" has nothing below it whose answer it could look at: give the chain an upstream, or put \"b\" above the filters that answer"},
		{"rules first: a route is called before a final authority", chain.Config{Filters: all[:2], Upstream: "default", Precedence: "rules"},
			[]Member{{Role: chain.RoleAuthority, Final: true}, route}, ""},
		{"rules first: other filters are not", chain.Config{Filters: all, Upstream: "default", Precedence: "rules"},
			[]Member{{Role: chain.RoleAuthority, Final: true}, plain, route},
			"weir.toml:4: chain.x.filters[1]: \"b\" is never reached: \"a\", in weir.toml:3, answers every query; move it to the end"},
		{"rules first: what was last isn't any more", chain.Config{Filters: all, Precedence: "rules"}, []Member{authority, retry, route},
			"weir.toml:4: chain.x.filters[1]: \"b\" has nothing below it whose answer it could look at: give the chain an upstream, or put \"b\" above the filters that answer"},
		{"access first", chain.Config{Filters: all, Upstream: "default"}, []Member{access, access, authority}, ""},
		{"access below what changes questions", chain.Config{Filters: all, Upstream: "default"}, []Member{plain, access, route}, ""},
		{"access below what answers", chain.Config{Filters: all, Upstream: "default"}, []Member{plain, authority, access},
			"weir.toml:5: chain.x.filters[2]: \"c\" decides who may ask, but \"b\", in weir.toml:4, is above it: what \"b\" answers is not checked; move \"c\" above \"b\""},
		{"access below what asks again", chain.Config{Filters: all[:2], Upstream: "default"}, []Member{retry, access},
			"weir.toml:4: chain.x.filters[1]: \"b\" decides who may ask, but \"a\", in weir.toml:3, is above it: what \"b\" refuses, \"a\" asks somebody else; move \"b\" above \"a\""},
		{"rules first: access stays first", chain.Config{Filters: all, Upstream: "default", Precedence: "rules"}, []Member{access, authority, route}, ""},
		{"no filters", chain.Config{Upstream: "default"}, nil, ""},
	}
	f, err := Parse("weir.toml", []byte(ordered+rest), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := f.CheckChain(Named[chain.Config]{"x", tt.config}, tt.members).Error(); got != tt.want {
				t.Errorf("CheckChain:\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}

func TestCheckUnique(t *testing.T) {
	f, err := Parse("weir.toml", []byte(`[filter.a.config]
rule = [
  { zone = "example.com" },
  { zone = "Example.com." },
]
[filter.b]
module = "a"
config.rule = [ { zone = "example.com" } ]
[filter.c]
config.rule = [ { zone = "example.com" } ]
`+rest), nil)
	if err != nil {
		t.Fatal(err)
	}
	const zone = "\x07example\x03com\x00"
	values := []Unique{
		{"a", "filter.a.config.rule[0].zone", zone, "example.com"},
		{"a", "filter.a.config.rule[1].zone", zone, "Example.com."},
		{"a", "filter.b.config.rule[0].zone", zone, "example.com"},
		{"c", "filter.c.config.rule[0].zone", zone, "example.com"},
		{"a", "filter.a.config.rule[2].zone", "\x03org\x00", "org"},
	}
	want := `weir.toml:4: filter.a.config.rule[1].zone: "Example.com." is there twice in the chain, first in weir.toml:3: delete one of them
weir.toml:8: filter.b.config.rule[0].zone: "example.com" is there twice in the chain, first in weir.toml:3: delete one of them`
	if got := f.CheckUnique(values).Error(); got != want {
		t.Errorf("CheckUnique:\n%s\nwant\n%s", got, want)
	}
}
