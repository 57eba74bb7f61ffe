package sdktest

import (
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
		{"second verdict", "forward u keep", "forward u", true},
		{"interest", "-- cases", "-- interest --\nqueries\n-- cases", true},
		{"error", "-- cases", "-- error --\nzone: is wrong\n-- cases", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, err := ParseFile("test", []byte(strings.Replace(right, tt.old, tt.new, 1)))
			if err != nil {
				t.Fatal(err)
			}
			if got := f.failures(Native(echo)); (len(got) > 0) != tt.fails {
				t.Errorf("got failures %q, want some: %v", got, tt.fails)
			}
		})
	}
}

func TestParseFileRefuses(t *testing.T) {
	for _, tt := range []struct{ name, file, want string }{
		{"section", "-- cases2 --\n", "no section"},
		{"word", "-- cases --\nquery a A\nfoo\n", `line 2: there is no "foo"`},
		{"no query", "-- cases --\nverdict next\n", "begins with a query"},
		{"two queries", "-- cases --\nquery a A\nquery b A\n", "empty line"},
		{"type", "-- cases --\nquery a AAAAA\n", "no type"},
		{"verdict", "-- cases --\nquery a A\nverdict maybe\n", "no verdict"},
		{"record", "-- cases --\nquery a A\nanswer a. 1 A 1.2.3\n", "line 2"},
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
