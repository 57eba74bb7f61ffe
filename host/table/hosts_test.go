package table

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/abi"
)

const hostsText = `# as on most systems
127.0.0.1	localhost
127.0.1.1	Laptop.Home.arpa laptop   # comment
::1		localhost ip6-localhost
fe80::1%lo0	localhost
192.0.2.1	router.home.arpa. router
192.0.2.2	router.home.arpa
2001:db8::1	router.home.arpa
::ffff:192.0.2.2	mapped.test
192.0.2.1	router.home.arpa other.test
0.0.0.0 ads.test tracker.test
`

const hostsDump = `1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa.; PTR 300 router.home.arpa.
1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa.; PTR 300 localhost.
1.0.0.127.in-addr.arpa.; PTR 300 localhost.
1.1.0.127.in-addr.arpa.; PTR 300 laptop.home.arpa.
1.2.0.192.in-addr.arpa.; PTR 300 router.home.arpa.
2.2.0.192.in-addr.arpa.; PTR 300 router.home.arpa.
ads.test.; A 300 0.0.0.0
ip6-localhost.; AAAA 300 ::1
laptop.; A 300 127.0.1.1
laptop.home.arpa.; A 300 127.0.1.1
localhost.; A 300 127.0.0.1; AAAA 300 ::1
mapped.test.; A 300 192.0.2.2
other.test.; A 300 192.0.2.1
router.; A 300 192.0.2.1
router.home.arpa.; A 300 192.0.2.1 192.0.2.2; AAAA 300 2001:db8::1
tracker.test.; A 300 0.0.0.0
`

// sorted sorts lines.
func sorted(text string) string {
	lines := slices.Collect(strings.Lines(text))
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// TestHosts reads the same lines from a file and from the configuration.
func TestHosts(t *testing.T) {
	dir := write(t, map[string]string{"hosts": hostsText})
	var inline []string
	for line := range strings.Lines(hostsText) {
		if line[0] != '#' {
			inline = append(inline, line)
		}
	}
	for _, tt := range []struct {
		name   string
		config Config
	}{
		{"file", Config{Hostsfile: "hosts"}},
		{"lines", Config{Hosts: inline}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			table := open(t, tt.config, dir)
			if table.Kind() != abi.TableHosts {
				t.Errorf("kind %q", table.Kind())
			}
			if got := sorted(dump(t, table.Snapshot())); got != sorted(hostsDump) {
				t.Errorf("got\n%s\nwant\n%s", got, sorted(hostsDump))
			}
			if matched, _, ok := table.Snapshot().Longest(wire(t, "www.router.home.arpa")); !ok || matched != len(wire(t, "router.home.arpa")) {
				t.Errorf("Longest = %d, %v", matched, ok)
			}
			if _, ok := table.Snapshot().Get(wire(t, "home.arpa")); ok {
				t.Error("home.arpa is a key: there are no names between")
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := table.Run(ctx); err != nil {
				t.Errorf("Run = %v, want nil when its context ends", err)
			}
		})
	}
}

// TestEmptyHosts: a file that says nothing is no mistake.
func TestEmptyHosts(t *testing.T) {
	s := open(t, Config{Hostsfile: "hosts"}, write(t, map[string]string{"hosts": "# nothing\n"})).Snapshot()
	if _, ok := s.Get(wire(t, "localhost")); ok || s.Len() != 0 {
		t.Errorf("%d keys", s.Len())
	}
}

func TestHostsReload(t *testing.T) {
	dir := write(t, map[string]string{"hosts": "192.0.2.1 a.test\n"})
	table := open(t, Config{Hostsfile: "hosts"}, dir)
	replace(t, filepath.Join(dir, "hosts"), "192.0.2.2 a.test\n192.0.2.3 b.test\n")
	if err := table.Reload(); err != nil {
		t.Fatal(err)
	}
	after := dump(t, table.Snapshot())
	if !strings.Contains(after, "a.test.; A 300 192.0.2.2\n") || !strings.Contains(after, "b.test.") || strings.Contains(after, "192.0.2.1") {
		t.Errorf("got\n%s", after)
	}
	replace(t, filepath.Join(dir, "hosts"), "192.0.2 a.test\n")
	if err := table.Reload(); err == nil || dump(t, table.Snapshot()) != after {
		t.Errorf("Reload = %v, and\n%s", err, dump(t, table.Snapshot()))
	}
	inline := open(t, Config{Hosts: []string{"192.0.2.1 a.test"}}, "")
	if err := inline.Reload(); err != nil || inline.Snapshot().Len() != 2 {
		t.Errorf("lines in the configuration: Reload = %v, %d keys", err, inline.Snapshot().Len())
	}
}

func TestBadHosts(t *testing.T) {
	for _, tt := range []struct{ name, line, want string }{
		{"name first", "router 192.0.2.1", `"router" is no address: write an address, and behind it its names`},
		{"address", "192.0.2.256 router", `"192.0.2.256" is no address: write an address, and behind it its names`},
		{"no name", "192.0.2.1 # nobody", "there is no name behind the address: write one, or delete the line"},
		{"empty label", "192.0.2.1 a..b", `"a..b" has an empty label: write names behind the address`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := write(t, map[string]string{"f": "# first\n" + tt.line + "\n"})
			_, err := Open("test", Config{Hostsfile: "f"}, dir, nil)
			if want := filepath.Join(dir, "f") + ":2: " + tt.want; err == nil || err.Error() != want {
				t.Errorf("file:\n got %v\nwant %s", err, want)
			}
			c := Config{Hosts: []string{"192.0.2.1 a", tt.line}}
			if err := c.Validate(); err == nil || err.Error() != "hosts[1]: "+tt.want {
				t.Errorf("lines:\n got %v\nwant hosts[1]: %s", err, tt.want)
			}
		})
	}
	t.Run("too many addresses", func(t *testing.T) {
		var text strings.Builder
		a := netip.MustParseAddr("10.0.0.0")
		for range 5000 {
			text.WriteString(a.String() + " many.test\n")
			a = a.Next()
		}
		dir := write(t, map[string]string{"f": text.String()})
		_, err := Open("test", Config{Hostsfile: "f"}, dir, nil)
		if err == nil || !strings.Contains(err.Error(), "f:4095: the records of many.test. of type A are too many for a message") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("max_octets", func(t *testing.T) {
		dir := write(t, map[string]string{"f": strings.Repeat("192.0.2.1 a.test\n", 100)})
		if _, err := Open("test", Config{Hostsfile: "f", MaxOctets: 1000}, dir, nil); err == nil || !strings.Contains(err.Error(), "exceed max_octets") {
			t.Errorf("got %v", err)
		}
	})
}

// TestBlocklist: lists of names to block give one address to all of them, which has one name.
func TestBlocklist(t *testing.T) {
	var text strings.Builder
	for i := range 10_000 {
		text.WriteString("127.0.0.1 ad" + strings.Repeat("x", i%50) + string(rune('a'+i%26)) + ".test\n")
	}
	s := open(t, Config{Hostsfile: "f"}, write(t, map[string]string{"f": text.String()})).Snapshot()
	value, ok := s.Get(wire(t, "1.0.0.127.in-addr.arpa"))
	if _, sets, err := abi.ParseNode(value); !ok || err != nil || len(sets) != 1 || len(sets[0].Data) != 1 || sets[0].Type != dns.TypePTR {
		t.Errorf("name of 127.0.0.1: %v, %v, %v", ok, err, sets)
	}
}

// FuzzHosts checks that no file makes the loader panic, that errors name a line, and that values are nodes.
func FuzzHosts(f *testing.F) {
	f.Add(hostsText)
	f.Add("::1 a\\.b \\000\n1.2.3.4\ta # b\n")
	f.Add("1.2.3.4 *.x 4.3.2.1.in-addr.arpa")
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(t.TempDir(), "h")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		x, err := loadHosts(t.Context(), look(path), nil, 1<<20)
		if err != nil {
			if !errorLine.MatchString(err.Error()) {
				t.Errorf("error without a line: %v", err)
			}
			return
		}
		for key, value, ok := x.Next(nil); ok; key, value, ok = x.Next(key) {
			if flags, sets, err := abi.ParseNode(value); err != nil || flags != 0 || len(sets) == 0 {
				t.Errorf("node of %q: flags %#x, %d RRsets, %v", key, flags, len(sets), err)
			}
		}
	})
}
