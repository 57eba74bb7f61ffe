package table

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/abi"
	"github.com/weirdns/weir/host/message"
)

// write writes files, by name, into a new directory and returns it.
func write(t testing.TB, files map[string]string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func open(t testing.TB, c Config, dir string) *Table {
	t.Helper()
	table, err := Open("test", c, dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func openZone(t testing.TB, text string) Snapshot {
	t.Helper()
	return open(t, Config{Zonefile: "z", Origin: "example."}, write(t, map[string]string{"z": text})).Snapshot()
}

// wire returns the canonical name of a text.
func wire(t testing.TB, text string) []byte {
	t.Helper()
	name, err := message.ParseName(text)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// dump writes a zone, a line for each node: its name, its flags, and its RRsets as TYPE TTL RDATA|RDATA.
func dump(t testing.TB, s Snapshot) string {
	t.Helper()
	var out strings.Builder
	for key, value, ok := s.Next(nil); ok; key, value, ok = s.Next(key) {
		flags, sets, err := abi.ParseNode(value)
		if err != nil {
			t.Fatalf("node of %s: %v", message.NameString(key), err)
		}
		out.WriteString(message.NameString(key))
		for i, name := range []string{"apex", "cut", "dname", "cname", "wildcard", "empty"} {
			if flags&(1<<i) != 0 {
				out.WriteString(" " + name)
			}
		}
		for _, set := range sets {
			fmt.Fprintf(&out, "; %s %d", dns.Type(set.Type), set.TTL)
			for _, data := range set.Data {
				fmt.Fprintf(&out, " %s", rdata(t, set.Type, data))
			}
		}
		out.WriteByte('\n')
	}
	return out.String()
}

// rdata returns RDATA in presentation format.
func rdata(t testing.TB, rrtype uint16, data []byte) string {
	t.Helper()
	h := dns.RR_Header{Name: ".", Rrtype: rrtype, Class: dns.ClassINET, Rdlength: uint16(len(data))}
	rr, _, err := dns.UnpackRRWithHeader(h, data, 0)
	if err != nil {
		t.Fatalf("RDATA %x of type %s: %v", data, dns.Type(rrtype), err)
	}
	if unknown, ok := rr.(*dns.RFC3597); ok {
		return fmt.Sprintf("\\# %d %s", len(data), unknown.Rdata)
	}
	return strings.TrimPrefix(rr.String(), rr.Header().String())
}

const soa = "@ 60 SOA ns hostmaster 1 2 3 4 5\n"

func TestZone(t *testing.T) {
	const apex = "example. apex; SOA 60 ns.example. hostmaster.example. 1 2 3 4 5"
	tests := []struct {
		name, text, want string
	}{
		{"only an SOA", soa, apex},
		{"an SOA at the end of a transfer", soa + "a 1 A 192.0.2.1\n" + soa, apex + "\na.example.; A 1 192.0.2.1"},
		{"canonical order, case", soa + "B 1 A 192.0.2.2\n*.b 1 A 192.0.2.3\na.b 1 A 192.0.2.1\nA 1 TXT Aa\n\\000 1 TXT 0\n\\001 1 TXT 1\na\\000 1 TXT 2",
			apex + "\n\\000.example.; TXT 1 \"0\"\n\\001.example.; TXT 1 \"1\"\na.example.; TXT 1 \"Aa\"\na\\000.example.; TXT 1 \"2\"\n" +
				"b.example. wildcard; A 1 192.0.2.2\n*.b.example.; A 1 192.0.2.3\na.b.example.; A 1 192.0.2.1"},
		{"empty non-terminals", soa + "a.b.c 1 A 192.0.2.1\nx.c 1 A 192.0.2.1\n*.e.d 1 A 192.0.2.1",
			apex + "\nc.example. empty\nb.c.example. empty\na.b.c.example.; A 1 192.0.2.1\nx.c.example.; A 1 192.0.2.1\n" +
				"d.example. empty\ne.d.example. wildcard empty\n*.e.d.example.; A 1 192.0.2.1"},
		{"a wildcard at the apex, and a label that is none", soa + "* 1 A 192.0.2.1\n*a.b 1 A 192.0.2.1",
			"example. apex wildcard; SOA 60 ns.example. hostmaster.example. 1 2 3 4 5\n*.example.; A 1 192.0.2.1\n" +
				"b.example. empty\n*a.b.example.; A 1 192.0.2.1"},
		{"zone cut and glue", soa + "@ 1 NS ns.sub\nsub 1 NS ns.sub\nsub 1 NS elsewhere.test.\nsub 1 DS 1 13 2 00\nns.sub 1 A 192.0.2.1\na.b.sub 1 AAAA 2001:db8::1",
			"example. apex; NS 1 ns.sub.example.; SOA 60 ns.example. hostmaster.example. 1 2 3 4 5\n" +
				"sub.example. cut; NS 1 ns.sub.example. elsewhere.test.; DS 1 1 13 2 00\nb.sub.example. empty\n" +
				"a.b.sub.example.; AAAA 1 2001:db8::1\nns.sub.example.; A 1 192.0.2.1"},
		{"DNAME", soa + "d 1 DNAME there.test.\nd 1 TXT beside", apex + "\nd.example. dname; TXT 1 \"beside\"; DNAME 1 there.test."},
		{"DNAME at the apex, with hashed names", soa + "@ 1 DNAME there.test.\n@ 1 NS ns.test.\n0p9mhaveqvm6t7vbl5lop2u3t2rp3tom 1 NSEC3 1 0 0 - 0p9mhaveqvm6t7vbl5lop2u3t2rp3tom A",
			"example. apex dname; NS 1 ns.test.; SOA 60 ns.example. hostmaster.example. 1 2 3 4 5; DNAME 1 there.test.\n" +
				"0p9mhaveqvm6t7vbl5lop2u3t2rp3tom.example.; NSEC3 1 1 0 0 - 0P9MHAVEQVM6T7VBL5LOP2U3T2RP3TOM A"},
		{"CNAME with its signatures", soa + "c 1 CNAME d\nc 1 NSEC d CNAME RRSIG NSEC\nc 1 RRSIG CNAME 13 2 1 20300101000000 20200101000000 1 @ AAAA",
			apex + "\nc.example. cname; CNAME 1 d.example.; RRSIG 1 CNAME 13 2 1 20300101000000 20200101000000 1 example. AAAA; NSEC 1 d.example. CNAME RRSIG NSEC"},
		{"lowest TTL, duplicates, order of the file", soa + "a 9 A 192.0.2.2\na 7 A 192.0.2.1\nb 1 TXT x\na 8 A 192.0.2.2",
			apex + "\na.example.; A 7 192.0.2.2 192.0.2.1\nb.example.; TXT 1 \"x\""},
		{"a TTL with the top bit", soa + "a 2147483648 A 192.0.2.1\nb 2147483647 A 192.0.2.1", apex + "\na.example.; A 0 192.0.2.1\nb.example.; A 2147483647 192.0.2.1"},
		{"$TTL, units, last TTL", "$TTL 1h\n@ SOA ns hostmaster 1 2 3 4 5\na A 192.0.2.1\nb 1d1s A 192.0.2.1\nc A 192.0.2.1",
			"example. apex; SOA 3600 ns.example. hostmaster.example. 1 2 3 4 5\na.example.; A 3600 192.0.2.1\nb.example.; A 86401 192.0.2.1\nc.example.; A 3600 192.0.2.1"},
		{"no TTL: the SOA's minimum", "@ SOA ns hostmaster 1 2 3 4 5\na IN A 192.0.2.1\n",
			"example. apex; SOA 5 ns.example. hostmaster.example. 1 2 3 4 5\na.example.; A 5 192.0.2.1"},
		{"$ORIGIN, parentheses, comments, unknown types", "$ORIGIN test.\n@ 60 IN SOA ns (\n hostmaster ; mail\n 1 2 3 4 5 )\n; comment\n\n   \nu 1 TYPE65280 \\# 3 010203\n  TYPE1 \\# 4 c0000201",
			"test. apex; SOA 60 ns.test. hostmaster.test. 1 2 3 4 5\nu.test.; A 1 192.0.2.1; TYPE65280 1 \\# 3 010203"},
		{"$GENERATE with the TTL of $TTL", "$TTL 2h\n" + soa + "$TTL 1m\n$GENERATE 1-2 h$ A 192.0.2.$\nx A 192.0.2.3", apex + "\nh1.example.; A 60 192.0.2.1\nh2.example.; A 60 192.0.2.2\nx.example.; A 60 192.0.2.3"},
		{"$GENERATE", "$TTL 9\n" + soa + "$GENERATE 1-2 h$ 5 A 192.0.2.$\nx A 192.0.2.3", apex + "\nh1.example.; A 5 192.0.2.1\nh2.example.; A 5 192.0.2.2\nx.example.; A 9 192.0.2.3"},
		{"the root", "$ORIGIN .\n@ 1 SOA a. b. 1 2 3 4 5\ntest 1 NS ns.test.\nns.test 1 A 192.0.2.1",
			". apex; SOA 1 a. b. 1 2 3 4 5\ntest. cut; NS 1 ns.test.\nns.test.; A 1 192.0.2.1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := strings.TrimSuffix(dump(t, openZone(t, tt.text)), "\n"); got != tt.want {
				t.Errorf("zone file\n%s\ngot:\n%s\nwant:\n%s", tt.text, got, tt.want)
			}
		})
	}
}

// TestBadZone has a mistake in each zone file, and the whole text of the error.
func TestBadZone(t *testing.T) {
	tests := []struct {
		name, text, want string
	}{
		{"nothing", "", `z:1: there is no SOA record: write one for the apex, as in @ 300 SOA ns hostmaster 1 3600 600 86400 60`},
		{"no SOA", "a 1 A 192.0.2.1", `z:1: there is no SOA record: write one for the apex, as in @ 300 SOA ns hostmaster 1 3600 600 86400 60`},
		{"second SOA", soa + "\nb 1 SOA ns hostmaster 1 2 3 4 5", `z:3: a second SOA record, beside that in z:1: a file has one zone`},
		{"other SOA", soa + "@ 1 SOA ns hostmaster 2 2 3 4 5", `z:2: a second SOA record, beside that in z:1: a file has one zone`},
		{"out of the zone", "\n" + soa + "www.test. 1 A 192.0.2.1",
			`z:3: www.test. is not in the zone example. of the SOA record in z:2: move it to its own zone, or look for a missing $ORIGIN`},
		{"out of the zone by octets", soa + "b.anexample. 1 A 192.0.2.1",
			`z:2: b.anexample. is not in the zone example. of the SOA record in z:1: move it to its own zone, or look for a missing $ORIGIN`},
		{"before the SOA", "a.test. 1 A 192.0.2.1\n" + soa,
			`z:1: a.test. is not in the zone example. of the SOA record in z:2: move it to its own zone, or look for a missing $ORIGIN`},
		{"class", soa + "version 1 CH TXT 1", `z:2: the class is CH: only IN is served`},
		{"OPT", soa + "a 1 TYPE41 \\# 0", `z:2: OPT is a type of questions and messages, not of data: delete the record`},
		{"meta type", soa + "a 1 TYPE250 \\# 1 00", `z:2: TSIG is a type of questions and messages, not of data: delete the record`},
		{"no owner", " 1 A 192.0.2.1", `z:1: the first record has no owner: write a name at the beginning of the line`},
		{"no TTL", "a A 192.0.2.1\n" + soa, `z:1: there is no TTL: write one, or $TTL above`},
		{"no data", soa + "a 1 A\n", `z:2: a.example.: the A record has no data`},
		{"no octets of data", soa + "a 1 A \\# 0\n", `z:2: a.example.: the A record has no data`},
		{"too much data", soa + "a 1 A \\# 5 0102030405\n", `z:2: a.example.: 5 octets are not the data of a record of type A`},
		{"address", soa + "\na 1 A 192.0.2.256", `z:3: bad A A "192.0.2.256": write [NAME] [TTL] [IN] TYPE DATA`},
		{"type", soa + "a 1 AA 192.0.2.1", `z:2: expecting RR type or class, not this... "AA": write [NAME] [TTL] [IN] TYPE DATA`},
		{"parenthesis", soa + "a 1 TXT ( x\nb 1 TXT y\n", `z:3: bad TXT Txt "unbalanced brace": write [NAME] [TTL] [IN] TYPE DATA`},
		{"long text", soa + "a 1 TXT " + strings.Repeat("x", maxEntry) + "\n", `z:2: the entry has more than 1048576 octets: look for a missing quote or parenthesis`},
		{"CNAME and more", soa + "c 1 CNAME d\nc 1 TXT x", `z:3: c.example. has a record of type TXT beside the CNAME in z:2, which stands alone (RFC 2181 section 10.1): delete one of them`},
		{"two CNAMEs", soa + "c 1 CNAME d\nc 1 CNAME d\nc 1 CNAME e", `z:4: c.example. has a second CNAME, beside that in z:2: it can have one (RFC 2181 section 10.1, RFC 6672 section 2.4)`},
		{"two DNAMEs", soa + "c 1 DNAME d\nc 1 DNAME e", `z:3: c.example. has a second DNAME, beside that in z:2: it can have one (RFC 2181 section 10.1, RFC 6672 section 2.4)`},
		{"below a DNAME", soa + "a.b.c 1 A 192.0.2.1\nc 1 DNAME d", `z:2: a.b.c.example. is below the DNAME at c.example. in z:3, which stands for all names there (RFC 6672 section 2.4): delete one of them`},
		{"below the apex with a DNAME", soa + "@ 1 DNAME d.test.\na 1 A 192.0.2.1", `z:3: a.example. is below the DNAME at example. in z:2, which stands for all names there (RFC 6672 section 2.4): delete one of them`},
		{"DNAME and NS", soa + "c 1 DNAME d\nc 1 NS e", `z:2: c.example. has a DNAME beside the NS record in z:3, which only the apex can have (RFC 6672 section 2.3): delete one of them`},
		{"data below a cut", soa + "c 1 NS ns.test.\na.c 1 TXT x", `z:3: a.c.example. has a record of type TXT below the zone cut at c.example. in z:2, where only addresses can be (RFC 1034 section 4.2.1): move it to the zone there`},
		{"cut below a cut", soa + "c 1 NS ns.test.\na.c 1 NS x.test.", `z:3: a.c.example. has a record of type NS below the zone cut at c.example. in z:2, where only addresses can be (RFC 1034 section 4.2.1): move it to the zone there`},
		{"no glue", soa + "c 1 NS ns.test.\nc 1 NS ns.c", `z:3: the name server ns.c.example. of the zone cut at c.example. is below it and has no address here (RFC 9471): add an A or AAAA record`},
		{"wildcard NS", soa + "*.c 1 NS ns.test.", `z:2: *.c.example. is a wildcard, which can't have records of type NS (RFC 4592 sections 4.2 and 4.4): write out the names`},
		{"wildcard DNAME", soa + "*.c 1 DNAME ns.test.", `z:2: *.c.example. is a wildcard, which can't have records of type DNAME (RFC 4592 sections 4.2 and 4.4): write out the names`},
		{"too many records", soa + "$GENERATE 1-5000 a 1 A 192.0.2.1\n" + "$GENERATE 0-4095 a 1 TXT t$$$x\n", `z:3: the records of a.example. of type TXT are too many for a message, which has at most 65535 octets: delete some`},
		{"mistake in a $GENERATE", soa + "$GENERATE 1-300 a$ 1 A 192.0.2.$\n", `z:2: bad A A "192.0.2.256": write [NAME] [TTL] [IN] TYPE DATA`},
		{"$INCLUDE of what is not there", soa + "$INCLUDE no\n", `z:2: can't include no: no such file or directory: name a file beside or below the zone file`},
		{"$INCLUDE from above", soa + "\n$INCLUDE ../z\n", `z:3: can't include ../z: path escapes from parent: name a file beside or below the zone file`},
		{"$INCLUDE of itself", soa + "$INCLUDE z\n", `z:2: too deeply nested $INCLUDE "z": write [NAME] [TTL] [IN] TYPE DATA`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Chdir(write(t, map[string]string{"z": tt.text}))
			_, err := Open("test", Config{Zonefile: "z", Origin: "example."}, "", nil)
			if err == nil {
				t.Fatalf("taken, want error %q", tt.want)
			}
			if got := err.Error(); got != tt.want {
				t.Errorf("\n got %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestInclude(t *testing.T) {
	files := map[string]string{
		"z":              "$TTL 7\n" + soa + "$INCLUDE sub/one\n$INCLUDE two sub\nlast A 192.0.2.9\n",
		"sub/one":        "one A 192.0.2.1\n$INCLUDE deep/three\n",
		"sub/deep/three": "\nthree A 192.0.2.3",
		"two":            "two A 192.0.2.2\n",
	}
	t.Chdir(write(t, files))
	got := dump(t, open(t, Config{Zonefile: "z", Origin: "example"}, "").Snapshot())
	want := "example. apex; SOA 60 ns.example. hostmaster.example. 1 2 3 4 5\nlast.example.; A 7 192.0.2.9\none.example.; A 7 192.0.2.1\n" +
		"sub.example. empty\ntwo.sub.example.; A 7 192.0.2.2\nthree.example.; A 7 192.0.2.3\n"
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	for _, tt := range []struct{ name, file, text, want string }{
		{"syntax", "sub/deep/three", "\n\nthree A 192.0.2.333", `sub/deep/three:3: bad A A "192.0.2.333": write [NAME] [TTL] [IN] TYPE DATA`},
		{"zone", "sub/deep/three", "\n\nthree. A 192.0.2.3", `sub/deep/three:3: three. is not in the zone example. of the SOA record in z:2: move it to its own zone, or look for a missing $ORIGIN`},
		{"long", "sub/deep/three", "\nthree TXT (" + strings.Repeat("\n", maxEntry+1), `sub/deep/three:1048567: the entry has more than 1048576 octets`},
		{"generated", "sub/deep/three", "\n\n$GENERATE 1-300 x$ 1 A 192.0.2.$\n", `sub/deep/three:3: bad A A "192.0.2.256": write [NAME] [TTL] [IN] TYPE DATA`},
		{"behind an include", "z", soa + "$INCLUDE two\n\nbad", `z:4: `},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := files[tt.file]
			files[tt.file] = tt.text
			defer func() { files[tt.file] = before }()
			t.Chdir(write(t, files))
			_, err := Open("test", Config{Zonefile: "z", Origin: "example"}, "", nil)
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("\n got %v\nwant %s", err, tt.want)
			}
		})
	}
}

// TestNoOrigin has relative names, which without an origin are mistakes.
func TestNoOrigin(t *testing.T) {
	const hint = `: if it is a relative name, write $ORIGIN above, or set origin`
	for _, tt := range []struct{ name, text, want string }{
		{"owner", "www 1 A 192.0.2.1\n", `z:1: bad owner name "www"` + hint},
		{"RDATA", "\nwww.test. 1 NS ns\n", `z:2: bad NS Ns "ns"` + hint},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Chdir(write(t, map[string]string{"z": tt.text}))
			if _, err := Open("test", Config{Zonefile: "z"}, "", nil); err == nil || err.Error() != tt.want {
				t.Errorf("\n got %v\nwant %s", err, tt.want)
			}
		})
	}
}

func TestMaxOctets(t *testing.T) {
	dir := write(t, map[string]string{"z": soa + "$GENERATE 1-65000 a$ 1 A 192.0.2.1\n$GENERATE 1-65000 b$ 1 A 192.0.2.1\n"})
	_, err := Open("test", Config{Zonefile: "z", Origin: "example", MaxOctets: 1 << 20}, dir, nil)
	if want := filepath.Join(dir, "z") + ":2: the data of the table exceed max_octets, which is 1048576: raise it, or split the table"; err == nil || err.Error() != want {
		t.Errorf("\n got %v\nwant %s", err, want)
	}
}

// FuzzZone checks that no file makes the loader panic, that errors name a line, and that nodes are as the contract says.
func FuzzZone(f *testing.F) {
	f.Add(soa + "a.b 1 A 192.0.2.1\n*.c 1 CNAME a.b\nd 1 DNAME e\nf 1 NS ns.f\nns.f 1 AAAA ::1\n")
	f.Add("$TTL 1\n$ORIGIN x.\n" + soa + "$GENERATE 1-3 a$ 1 TXT \"$\"\n$INCLUDE z\n")
	f.Add(soa + "u 1 TYPE65280 \\# 3 010203\n (\n1 TYPE1 \\# 4 c0000201 ) ; x\n")
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 1<<12 || strings.Count(strings.ToUpper(text), "$GENERATE") > 1 {
			t.Skip()
		}
		path := filepath.Join(t.TempDir(), "z")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		x, files, err := loadZone(t.Context(), path, "example.", 1<<20, nil)
		if err != nil {
			if !errorLine.MatchString(err.Error()) {
				t.Errorf("error without a line: %v", err)
			}
			return
		}
		if len(files) == 0 || files[0].path != path {
			t.Errorf("files %v, want %s first", files, path)
		}
		seen := 0
		for key, value, ok := x.Next(nil); ok; key, value, ok = x.Next(key) {
			if _, _, err := abi.ParseNode(value); err != nil {
				t.Errorf("node of %q: %v", key, err)
			}
			if got, ok := x.Get(key); !ok || &got[0] != &value[0] {
				t.Errorf("Get(%q) finds another node than Next", key)
			}
			if matched, _, ok := x.Longest(key); !ok || matched > len(key) {
				t.Errorf("Longest(%q) = %d, %v", key, matched, ok)
			}
			seen++
		}
		if seen != x.Len() {
			t.Errorf("Next gave %d keys, want %d", seen, x.Len())
		}
	})
}

var errorLine = regexp.MustCompile(`(?s)^/.*:[1-9][0-9]*: .+`)
