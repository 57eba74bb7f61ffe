package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirdns/weir/host/cache"
	"github.com/weirdns/weir/host/chain"
)

// load parses text in front of a complete small file.
func load(t *testing.T, text string, environ ...string) *File {
	t.Helper()
	f, err := Parse("conf/weir.toml", []byte(text+rest), environ)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func names[T any](list []Named[T]) (names []string) {
	for _, n := range list {
		names = append(names, n.Name)
	}
	return names
}

// TestScenarios loads the configurations that fix the format.
func TestScenarios(t *testing.T) {
	shared := os.Getenv("WEIR_SHARED")
	if shared == "" {
		shared = "../../../shared"
	}
	files, err := filepath.Glob(filepath.Join(shared, "scenarios", "*", "weir.toml"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Skipf("no scenarios in %s: set WEIR_SHARED to the directory that has them", shared)
	}
	for _, file := range files {
		t.Run(filepath.Base(filepath.Dir(file)), func(t *testing.T) {
			f, err := Load(file, nil)
			if err != nil {
				t.Fatal(err)
			}
			if len(f.Warnings) > 0 {
				t.Errorf("warnings:\n%s", f.Warnings.Error())
			}
			for _, u := range f.Upstreams {
				if _, err := os.Stat(u.Config.ResolvConf); u.Config.ResolvConf != "" && err != nil {
					t.Errorf("upstream %s: %v", u.Name, err)
				}
			}
			for _, tab := range f.Tables {
				if _, err := os.Stat(tab.Config.Zonefile); err != nil {
					t.Errorf("table %s: %v", tab.Name, err)
				}
			}
		})
	}
}

// TestExample loads the example of the repository.
func TestExample(t *testing.T) {
	f, err := Load("../../config.toml", nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Warnings) > 0 {
		t.Errorf("warnings:\n%s", f.Warnings.Error())
	}
	for _, tab := range f.Tables {
		if _, err := os.Stat(tab.Config.Zonefile); err != nil {
			t.Errorf("table %s: %v", tab.Name, err)
		}
	}
}

// TestExampleDefaults: the lines of the example that show defaults are right, so that it makes no difference whether they are there.
func TestExampleDefaults(t *testing.T) {
	data, err := os.ReadFile("../../config.toml")
	if err != nil {
		t.Fatal(err)
	}
	shown := regexp.MustCompile(`(?m)^#([a-z_]+ = )`)
	if n := len(shown.FindAll(data, -1)); n < 10 {
		t.Errorf("the example shows %d defaults, want 10 at least", n)
	}
	var files [2]*File
	for i, text := range [][]byte{data, shown.ReplaceAll(data, []byte("$1"))} {
		f, err := Parse("weir.toml", text, nil)
		if err != nil {
			t.Fatal(err)
		}
		f.root = nil
		f.Log.Level, f.Log.Format = cmp.Or(f.Log.Level, "info"), cmp.Or(f.Log.Format, "auto")
		for i := range f.Listeners {
			f.Listeners[i] = f.Listeners[i].WithDefaults()
		}
		for i := range f.Upstreams {
			f.Upstreams[i].Config = f.Upstreams[i].Config.WithDefaults()
		}
		for i := range f.Filters {
			f.Filters[i].Config = f.Filters[i].Config.WithDefaults()
		}
		for i := range f.Chains {
			f.Chains[i].Config.Precedence = cmp.Or(f.Chains[i].Config.Precedence, chain.PrecedenceAuthority)
		}
		files[i] = f
	}
	if !reflect.DeepEqual(files[0], files[1]) {
		t.Errorf("as it is:\n%+v\nwith the defaults written out:\n%+v", files[0], files[1])
	}
}

func TestDefaults(t *testing.T) {
	f := load(t, "")
	if f.Budget != 1800*time.Millisecond || f.Drain != 2*time.Second {
		t.Errorf("budget, drain = %v, %v, want 1.8s, 2s", f.Budget, f.Drain)
	}
	if f.Policy.MaxServers != 6 || f.Policy.MinSources != 2 || f.Policy.MaxSources != 6 || len(f.Policy.Refuse) != 0 {
		t.Errorf("policy = %+v, want 6 servers, 2 to 6 sources, nothing refused", f.Policy)
	}
	if f.Log.SlogLevel().String() != "INFO" || f.Admin.Address != "" || f.Wasm.CacheDir != "" {
		t.Errorf("log, admin, wasm = %+v, %+v, %+v", f.Log, f.Admin, f.Wasm)
	}
	want, _ := cache.Preset("weir")
	if len(f.Caches) != 1 || f.Caches[0].Name != "default" || !reflect.DeepEqual(f.Caches[0].Config, want) {
		t.Errorf("caches = %+v, want the preset weir as default", f.Caches)
	}
	if got := f.Upstreams[0].Config.Cache; got != "default" {
		t.Errorf("cache of the upstream = %q, want default", got)
	}
	if f.Path != "conf/weir.toml" || f.Dir != "conf" {
		t.Errorf("path, dir = %q, %q", f.Path, f.Dir)
	}
}

func TestTopLevel(t *testing.T) {
	f := load(t, `
budget = "900ms"
drain = "0s"
private_zones = ["Corp.Example", "10.in-addr.arpa."]
[log]
level = "debug"
format = "json"
[admin]
address = "127.0.0.1:5380"
[wasm]
cache_dir = "cache"
[cache.default]
snapshot = "snapshots"
[policy]
max_servers = 10
refuse_servers = ["alibaba-cloud", "2001:db8::/32", "192.0.2.1"]
[upstream.corp]
servers = ["198.51.100.1"]
private = true
`)
	if f.Budget != 900*time.Millisecond || f.Drain != 0 {
		t.Errorf("budget, drain = %v, %v, want 900ms, 0s", f.Budget, f.Drain)
	}
	if got, want := fmt.Sprintf("%q", f.PrivateZones), `["\x04corp\aexample\x00" "\x0210\ain-addr\x04arpa\x00"]`; got != want {
		t.Errorf("private zones = %s, want %s", got, want)
	}
	if f.Log.SlogLevel().String() != "DEBUG" || f.Log.Format != "json" || f.Admin.Address != "127.0.0.1:5380" {
		t.Errorf("log, admin = %+v, %+v", f.Log, f.Admin)
	}
	if want := filepath.Join("conf", "cache"); f.Wasm.CacheDir != want {
		t.Errorf("cache_dir = %q, want %q", f.Wasm.CacheDir, want)
	}
	if got, want := f.Caches[0].Config.Snapshot, filepath.Join("conf", "snapshots"); got != want {
		t.Errorf("snapshot = %q, want %q", got, want)
	}
	if got, want := fmt.Sprint(f.Policy.Refuse), "[100.100.2.116/31 100.100.2.118/32 100.100.2.136/31 100.100.2.138/32 2001:db8::/32 192.0.2.1/32]"; got != want {
		t.Errorf("refused = %s, want %s", got, want)
	}
	if got, want := fmt.Sprint(f.Policy.ListenAddrs), "[127.0.0.1:5300]"; got != want {
		t.Errorf("listen addresses = %s, want %s", got, want)
	}
}

func TestOrderAndPaths(t *testing.T) {
	f := load(t, `
[upstream]
z = { servers = ["tls://192.0.2.1"], expire = "3s", ca = "ca.pem", certificate = "/etc/weir/own.pem", key = "own.key" }
m.resolv_conf = "resolv.conf"
m.cache = "b"
[filter.rules]
memory = "64MiB"
[filter.mine]
module = "mine.wasm"
config = { x = 1, list = ["z", "m"] }
[upstream.a]
resolv_conf = "/etc/resolv.conf"
[filter.rules-b]
module = "rules"
memory = 1048576
[cache.b]
[chain.x]
filters = ["rules", "mine", "rules-b"]
upstream = "a"
[[listener]]
address = ":5301"
chain = "x"
`)
	if got, want := names(f.Upstreams), []string{"z", "m", "a", "default"}; !slices.Equal(got, want) {
		t.Errorf("upstreams = %q, want %q", got, want)
	}
	if got, want := names(f.Filters), []string{"rules", "mine", "rules-b"}; !slices.Equal(got, want) {
		t.Errorf("filters = %q, want %q", got, want)
	}
	if got, want := names(f.Caches), []string{"b", "default"}; !slices.Equal(got, want) {
		t.Errorf("caches = %q, want %q", got, want)
	}
	var got []string
	for _, u := range f.Upstreams {
		got = append(got, u.Config.ResolvConf)
	}
	z := f.Upstreams[0].Config
	got = append(got, z.CA, z.Certificate, z.Key)
	for _, c := range f.Filters {
		got = append(got, c.Config.Module, c.Config.Memory.String())
	}
	want := []string{"", filepath.Join("conf", "resolv.conf"), "/etc/resolv.conf", "", filepath.Join("conf", "ca.pem"), "/etc/weir/own.pem", filepath.Join("conf", "own.key"), "rules", "64MiB", filepath.Join("conf", "mine.wasm"), "0B", "rules", "1MiB"}
	if !slices.Equal(got, want) {
		t.Errorf("paths and sizes = %q, want %q", got, want)
	}
	if f.Upstreams[0].Config.Expire != 3*time.Second {
		t.Errorf("expire = %v, want 3s", f.Upstreams[0].Config.Expire)
	}
	if got, want := fmt.Sprint(f.Filters[1].Config.Config), "map[list:[z m] x:1]"; got != want {
		t.Errorf("config = %s, want %s", got, want)
	}
	if len(f.Warnings) > 0 {
		t.Errorf("warnings:\n%s", f.Warnings.Error())
	}
}

// TestCachePreset: what is not set is as in the preset, and a zero is a zero.
func TestCachePreset(t *testing.T) {
	f := load(t, `
[cache.default]
preset = "coredns"
servfail_ttl = "0s"
success = { max_ttl = "2m" }
`)
	want, _ := cache.Preset("coredns")
	want.ServfailTTL = 0
	want.Success.MaxTTL = 2 * time.Minute
	if len(f.Caches) != 1 || !reflect.DeepEqual(f.Caches[0].Config, want) {
		t.Errorf("caches = %+v, want only %+v", f.Caches, want)
	}
}

func TestWarnings(t *testing.T) {
	f := load(t, `private_zones = ["corp.example"]
[table.home]
zonefile = "home.zone"
[table.used]
zonefile = "used.zone"
[cache.x]
[cache.y]
[upstream.lonely]
servers = ["192.0.2.1"]
cache = "y"
[upstream.ruled]
servers = ["192.0.2.1"]
[filter.rules.config]
rule = [ { zone = "example.com", upstream = "ruled", more = ["used"] } ]
[filter.idle]
[chain.idle]
upstream = "default"
filters = ["rules"]
`)
	want := `conf/weir.toml:1: private_zones: no upstream has private = true, so that queries for these zones are all refused, unless a filter answers
conf/weir.toml:2: table.home: nothing uses it
conf/weir.toml:6: cache.x: nothing uses it
conf/weir.toml:8: upstream.lonely: nothing uses it
conf/weir.toml:15: filter.idle: nothing uses it
conf/weir.toml:16: chain.idle: nothing uses it`
	if got := f.Warnings.Error(); got != want {
		t.Errorf("warnings:\n%s\nwant\n%s", got, want)
	}
}

func TestLoadWithoutFile(t *testing.T) {
	_, err := Load(filepath.Join(t.TempDir(), "weir.toml"), nil)
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Load = %v, want that it does not exist", err)
	}
}

func TestTooLarge(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weir.toml")
	if err := os.WriteFile(path, []byte(strings.Repeat("#", maxFileSize)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Load(path, nil)
	if want := path + ":1: the file has more than 16 MiB: put large lists into a [table.NAME]"; err == nil || err.Error() != want {
		t.Errorf("Load = %v, want %s", err, want)
	}
}

func TestTooMuch(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"values", "[filter.x.config]\na = [" + strings.Repeat("1,", maxValues) + "]", "weir.toml:2: the file has more than 1000000 values: put large lists into a [table.NAME]"},
		{"long key", strings.Repeat("a.", 100) + "a = 1", "weir.toml:1: tables and arrays are nested more than 32 levels deep"},
		{"long header", "[" + strings.Repeat("a.", 100) + "a]", "weir.toml:1: tables and arrays are nested more than 32 levels deep"},
		{"inline tables", "a = " + strings.Repeat("{a=", 100) + "1" + strings.Repeat("}", 100), "weir.toml:1: tables and arrays are nested more than 32 levels deep"},
		{"a million brackets", "a = " + strings.Repeat("[", 1e6), "weir.toml:1:10005: arrays and inline tables are nested more than the maximum of 10000 levels deep"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse("weir.toml", []byte(tt.text), nil)
			if err == nil || err.Error() != tt.want {
				t.Errorf("Parse = %v, want %s", err, tt.want)
			}
		})
	}
}

func TestByteOrderMark(t *testing.T) {
	if _, err := Parse("weir.toml", []byte("\xEF\xBB\xBF"+rest), nil); err != nil {
		t.Error(err)
	}
}

func TestClosest(t *testing.T) {
	known := []string{"servers", "sources", "expire", "preset", "private", "policy", "case", "cache"}
	tests := []struct{ name, want string }{
		{"server", "servers"}, {"Servers", "servers"}, {"sevrers", "servers"}, {"source", "sources"}, {"expires", "expire"},
		{"polcy", "policy"}, {"prset", "preset"}, {"cash", "case"}, {"zzz", ""}, {"", ""}, {"x", ""},
		{strings.Repeat("servers", 100), ""},
	}
	for _, tt := range tests {
		if got := closest(tt.name, known); got != tt.want {
			t.Errorf("closest(%q) = %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestDistance(t *testing.T) {
	tests := []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"abc", "abc", 0}, {"abc", "acb", 1}, {"abc", "abd", 1}, {"abc", "ab", 1},
		{"kitten", "sitting", 3}, {"ca", "abc", 3}, {"sevrers", "servers", 1},
	}
	for _, tt := range tests {
		if got := distance(tt.a, tt.b); got != tt.want {
			t.Errorf("distance(%q, %q) = %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}
