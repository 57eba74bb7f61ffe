package sdktest

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weirdns/weir/sdk"
)

// echo answers every question with NXDOMAIN, and forwards what fails.
func echo() sdk.Filter {
	return sdk.Filter{
		Query: func(q sdk.Query) sdk.Verdict {
			q.Explain().Text("saw ").Name(q.QNAME()).Text(" ").Type(q.QTYPE()).End()
			return q.RespondRCODE(sdk.NXDOMAIN, sdk.NoEDE)
		},
		Response: func(r sdk.Response) sdk.Verdict { return r.Forward(0, sdk.Keep) },
	}
}

// As in the host: who settles for an answer is not called for it, and the host explains that.
func TestRunSettled(t *testing.T) {
	filter := func() sdk.Filter {
		return sdk.Filter{Response: func(r sdk.Response) sdk.Verdict {
			if r.Attempt() > 0 {
				return sdk.Kept
			}
			return r.Forward(0, sdk.Settle)
		}}
	}
	f, err := ParseFile("test", []byte(`-- upstreams --
u
-- cases --
query a.test A explain
response NXDOMAIN
verdict forward u settle
response NOERROR from u
record answer a.test. 1 A 192.0.2.1
verdict next
explain not called: an answer, for which it settles

query a.test A
response NXDOMAIN
verdict forward u settle
response NOERROR from u
verdict kept

query a.test A
response NXDOMAIN
verdict forward u settle
response REFUSED from u
verdict kept
`))
	if err != nil {
		t.Fatal(err)
	}
	f.Check(Native(filter), func(_ *Case, failures []Failure) {
		for _, failure := range failures {
			t.Error(failure)
		}
	})
}

// TestRunFails: a file of cases that is wrong about the filter fails; without this, a runner that compares nothing would pass.
func TestRunFails(t *testing.T) {
	const right = "-- upstreams --\nu\n-- cases --\nquery a.test A explain\nverdict respond NXDOMAIN\nexplain saw a.test. A\n" +
		"response SERVFAIL\nverdict forward u keep\n"
	for _, tt := range []struct {
		name, old, new string
		fails          bool
	}{
		{"right", "", "", false},
		{"verdict", "respond NXDOMAIN", "next", true},
		{"RCODE", "respond NXDOMAIN", "respond REFUSED", true},
		{"record", "explain saw", "answer a.test. 1 A 192.0.2.1\nexplain saw", true},
		{"explained", "saw a", "saw b", true},
		{"not explained", "explain saw a.test. A\n", "", true},
		{"logged", "response", "log info a line\nresponse", true},
		{"second verdict", "forward u keep", "forward u", true},
		{"interest", "-- cases", "-- interest --\nqueries\n-- cases", true},
		{"error", "-- cases", "-- error --\nzone: is wrong\n-- cases", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, err := ParseFile("test", []byte(strings.Replace(right, tt.old, tt.new, 1)))
			if err != nil {
				t.Fatal(err)
			}
			var got []Failure
			f.Check(Native(echo), func(_ *Case, failures []Failure) { got = append(got, failures...) })
			if (len(got) > 0) != tt.fails {
				t.Errorf("got failures %q, want some: %v", got, tt.fails)
			}
		})
	}
}

func TestParseFileRefuses(t *testing.T) {
	for _, tt := range []struct{ name, file, want string }{
		{"JSON", "-- config.json --\n{\n", "test:1: config.json"},
		{"name", "-- cases --\nquery a..b A\n", "no name"},
		{"section", "-- cases2 --\n", "no section"},
		{"word", "-- cases --\nquery a A\nfoo\n", `test:3: there is no "foo"`},
		{"no query", "-- cases --\nverdict next\n", "begins with a query"},
		{"two queries", "-- cases --\nquery a A\nquery b A\n", "empty line"},
		{"type", "-- cases --\nquery a AAAAA\n", "no type"},
		{"verdict", "-- cases --\nquery a A\nverdict maybe\n", "no verdict"},
		{"record", "-- cases --\nquery a A\nanswer a. 1 A 1.2.3\n", "test:3"},
		{"interest", "-- interest --\nall\n", "interest"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := ParseFile("test", []byte(tt.file)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %v, want one with %q", err, tt.want)
			}
		})
	}
}

// TestZone: the nodes that the host of tests gives are those of the contract.
func TestZone(t *testing.T) {
	z, err := newTable("z", "zone", "$ORIGIN z.test.\n$TTL 5\n@ SOA ns host 1 2 3 4 5\n@ NS ns\ncut NS ns\nns.cut A 192.0.2.1\n*.w A 192.0.2.1\nd DNAME x.\nx.d A 192.0.2.1\n")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, longest string }{
		{"z.test.", "z.test."}, {"a.z.test.", "z.test."}, {"x.ns.cut.z.test.", "cut.z.test."}, {"ns.cut.z.test.", "cut.z.test."},
		{"a.b.w.z.test.", "w.z.test."}, {"a.*.w.z.test.", "*.w.z.test."}, {"x.d.z.test.", "d.z.test."},
	} {
		if _, got, ok := z.longest([]byte(wire(tt.name))); !ok || got != len(wire(tt.longest)) {
			t.Errorf("longest(%s): got a key of %d octets, want %s", tt.name, got, tt.longest)
		}
	}
	if _, _, ok := z.longest([]byte(wire("test."))); ok {
		t.Error("longest(test.): got a key, want none")
	}
	var walk []string
	for key, ok := z.next(nil); ok; key, ok = z.next([]byte(key)) {
		walk = append(walk, string(sdk.AppendText(nil, []byte(key))))
	}
	if got, want := strings.Join(walk, " "), `z.test. cut.z.test. ns.cut.z.test. d.z.test. x.d.z.test. w.z.test. *.w.z.test.`; got != want {
		t.Errorf("keys: got %s, want %s", got, want)
	}
	if _, err := newTable("z", "zone", "z.test. 1 SOA ns. host. 1 2 3 4 5\nother.test. 1 A 192.0.2.1\n"); err == nil {
		t.Error("a name outside of the zone: got no error")
	}
}

// TestLists: lists are read as the host reads them.
func TestLists(t *testing.T) {
	names, err := newTable("n", "names", "# names\n\nwww.Example.com\ttext of it # not of it\n  b.test\n#c.test\na#b.test x#y\n")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"www.example.com.": "text of it", "b.test.": "", "a#b.test.": "x#y"} {
		if got, ok := names.values[wire(name)]; !ok || string(got) != want {
			t.Errorf("%s: got %q, %v, want %q", name, got, ok, want)
		}
	}
	if len(names.values) != 3 {
		t.Errorf("got %d names, want 3", len(names.values))
	}
	prefixes, err := newTable("p", "prefixes", "# prefixes\n192.0.2.0/24 net\n192.0.2.7\thost\n")
	if err != nil {
		t.Fatal(err)
	}
	if value, bits, ok := prefixes.prefix([]byte{192, 0, 2, 7}); string(value) != "host" || bits != 32 || !ok {
		t.Errorf("got %q, %d, %v; want the address itself", value, bits, ok)
	}
	for _, tt := range []struct{ kind, text string }{
		{"names", "a.test\nb..test\n"}, {"prefixes", "192.0.2.0/24\n192.0.2.0/33\n"},
	} {
		if _, err := newTable("t", tt.kind, tt.text); err == nil || !strings.Contains(err.Error(), "line 2: ") {
			t.Errorf("%s: got error %v, want one with the line", tt.kind, err)
		}
	}
}

// TestOctets: a name needn't be UTF-8, and a name that the reader of records takes for a comment is refused.
func TestOctets(t *testing.T) {
	hosts, err := newTable("h", "hosts", "192.0.2.1 \xe9\xffA.test\n")
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := hosts.values["\x03\xe9\xffa\x04test\x00"]; !ok {
		t.Errorf("got names %q, want one of three octets in its first label", slices.Collect(maps.Keys(hosts.values)))
	}
	zone, err := newTable("z", "zone", "z.test. 1 SOA ns. host. 1 2 3 4 5\n\xe9.z.test. 1 A 192.0.2.1\n")
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := zone.values["\x01\xe9\x01z\x04test\x00"]; !ok {
		t.Errorf("got names %q, want one of one octet in its first label", slices.Collect(maps.Keys(zone.values)))
	}
	for _, name := range []string{";a", "a\\", "a..b"} {
		if _, err := newTable("h", "hosts", "192.0.2.1 "+name+"\n"); err == nil {
			t.Errorf("a host with the name %s: got no error", name)
		}
	}
}

// FuzzParseFile: no file makes the reader, or the host that is made of it, panic.
func FuzzParseFile(f *testing.F) {
	names, err := filepath.Glob("../../filters/*/testdata/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range append(names, "../../filters/scaffold/starter/cases.txtar") {
		content, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		if len(content) < 4096 {
			f.Add(content)
		}
	}
	f.Fuzz(func(_ *testing.T, content []byte) {
		file, err := ParseFile("fuzz", content)
		if err != nil {
			return
		}
		file.Check(Native(func() sdk.Filter { return sdk.Filter{} }), func(*Case, []Failure) {})
	})
}
