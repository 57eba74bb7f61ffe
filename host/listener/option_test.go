package listener

import (
	"encoding/hex"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/host/cookie"
	"github.com/weirdns/weir/host/message"
	mt "github.com/weirdns/weir/host/message/messagetest"
)

const clientCookie = "0123456789abcdef"

// withOptions is a query with an OPT that has these options; without a name it has no question either.
func withOptions(tb testing.TB, name string, options ...dns.EDNS0) []byte {
	tb.Helper()
	m := new(dns.Msg)
	if name != "" {
		m.SetQuestion(dns.Fqdn(name), dns.TypeA)
	}
	m.Id = 9
	m.SetEdns0(1232, false)
	m.IsEdns0().Option = options
	wire, err := m.Pack()
	if err != nil {
		tb.Fatal(err)
	}
	return wire
}

func cookieOption(text string) dns.EDNS0 {
	return &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: text}
}

// options returns the cookie and the name in a response, in hexadecimal digits, "" for none.
func options(m *dns.Msg) (cookie, nsid string) {
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			switch o := o.(type) {
			case *dns.EDNS0_COOKIE:
				cookie += o.Cookie
			case *dns.EDNS0_NSID:
				nsid += o.Nsid
			}
		}
	}
	return cookie, nsid
}

// TestRFC5001NSID: the server's name is in the response to a query that asks for it, and in no other (RFC 5001 section 2.1).
func TestRFC5001NSID(t *testing.T) {
	r := start(t, nil, Config{NSID: "weir-1"})
	for _, network := range networks {
		c := r.dial(t, network)
		_, got := options(unpack(t, exchange(t, c, withOptions(t, "www.example", &dns.EDNS0_NSID{Code: dns.EDNS0NSID}))))
		if want := hex.EncodeToString([]byte("weir-1")); got != want {
			t.Errorf("%s: got %q, want %q", network, got, want)
		}
		if _, got := options(unpack(t, exchange(t, c, withOptions(t, "www.example")))); got != "" {
			t.Errorf("%s, not asked for: got %q", network, got)
		}
	}
	none := start(t, nil, Config{})
	if _, got := options(unpack(t, exchange(t, none.dial(t, "udp"), withOptions(t, "www.example", &dns.EDNS0_NSID{Code: dns.EDNS0NSID})))); got != "" {
		t.Errorf("without a name: got %q", got)
	}
}

// TestRFC7873Server: who sends a cookie gets it back with a server cookie, and the answer too unless a good one is required; then, over UDP, who has none but
// knows cookies gets BADCOOKIE with one, who doesn't gets TC, and over TCP all are answered (RFC 7873 section 5.2).
func TestRFC7873Server(t *testing.T) {
	for _, mode := range []string{CookiesOff, CookiesOn, CookiesRequire} {
		t.Run(mode, func(t *testing.T) {
			r := start(t, nil, Config{Cookies: mode, NSID: "weir-1"})
			for _, network := range networks {
				strict := mode == CookiesRequire && network == "udp"
				c := r.dial(t, network)
				ask := func(what string, wantRCODE, wantAnswers int, wantTC bool, options ...dns.EDNS0) *dns.Msg {
					t.Helper()
					got := unpack(t, exchange(t, c, withOptions(t, "www.example", options...)))
					if got.Rcode != wantRCODE || len(got.Answer) != wantAnswers || got.Truncated != wantTC {
						t.Errorf("%s, %s: got %v; want RCODE %d, %d answers, TC: %v", network, what, got, wantRCODE, wantAnswers, wantTC)
					}
					return got
				}
				if strict {
					ask("no cookie", dns.RcodeSuccess, 0, true)
				} else {
					ask("no cookie", dns.RcodeSuccess, 1, false)
				}
				rcode, answers := dns.RcodeSuccess, 1
				if strict {
					rcode, answers = dns.RcodeBadCookie, 0
				}
				first, _ := options(ask("a client cookie", rcode, answers, false, cookieOption(clientCookie)))
				if mode == CookiesOff {
					if first != "" {
						t.Errorf("%s: got the cookie %s", network, first)
					}
					ask("ignored", dns.RcodeSuccess, 1, false, cookieOption("00"))
					continue
				}
				if !strings.HasPrefix(first, clientCookie) || len(first) != 2*cookie.Size {
					t.Fatalf("%s: got the cookie %q, want %s and 16 octets", network, first, clientCookie)
				}
				if again, _ := options(ask("a good cookie", dns.RcodeSuccess, 1, false, cookieOption(first))); again != first {
					t.Errorf("%s: got %s, want the same one, %s", network, again, first)
				}
				bad := first[:len(first)-2] + "00"
				if bad == first {
					bad = first[:len(first)-2] + "01"
				}
				if again, _ := options(ask("a bad cookie", rcode, answers, false, cookieOption(bad))); len(again) != 2*cookie.Size || again == bad {
					t.Errorf("%s: for a bad one got %s", network, again)
				}
				if got, _ := options(ask("malformed", dns.RcodeFormatError, 0, false, cookieOption(clientCookie+"00"))); got != "" {
					t.Errorf("%s: FORMERR has the cookie %s", network, got)
				}
			}
			if want := map[string]float64{CookiesOff: 0, CookiesOn: 2, CookiesRequire: 2}[mode]; r.metric(t, "cookies_total", "good") != want {
				t.Errorf("counted %v good cookies, want %v", r.metric(t, "cookies_total", "good"), want)
			}
		})
	}
}

// TestRFC7873Empty: a query without a question, but with a cookie, gets a cookie and no answer: NOERROR, or BADCOOKIE if it has one that is not good
// (RFC 7873 section 5.4).
func TestRFC7873Empty(t *testing.T) {
	r := start(t, nil, Config{})
	c := r.dial(t, "udp")
	for _, tt := range []struct {
		name    string
		options []dns.EDNS0
		rcode   int
		cookie  bool
	}{
		{"client cookie", []dns.EDNS0{cookieOption(clientCookie)}, dns.RcodeSuccess, true},
		{"bad cookie", []dns.EDNS0{cookieOption(clientCookie + clientCookie)}, dns.RcodeBadCookie, true},
		{"malformed", []dns.EDNS0{cookieOption("00")}, dns.RcodeFormatError, false},
		{"no cookie", nil, dns.RcodeFormatError, false},
	} {
		got := unpack(t, exchange(t, c, withOptions(t, "", tt.options...)))
		if cookie, _ := options(got); got.Rcode != tt.rcode || (cookie != "") != tt.cookie || len(got.Question) != 0 || got.Id != 9 {
			t.Errorf("%s: got %v", tt.name, got)
		}
	}
	if r.count() != 0 {
		t.Errorf("the handler got %d queries, want none", r.count())
	}
}

// TestCookieRoom: what is added to a response over UDP is within what the client takes.
func TestCookieRoom(t *testing.T) {
	r := start(t, nil, Config{NSID: strings.Repeat("n", maxNSID)})
	c := r.dial(t, "udp")
	got := exchange(t, c, withOptions(t, "big.example", cookieOption(clientCookie), &dns.EDNS0_NSID{Code: dns.EDNS0NSID}))
	cookie, nsid := options(unpack(t, got))
	if len(got) > 1232 || cookie == "" || nsid == "" {
		t.Errorf("got %d octets, cookie %q, NSID %q", len(got), cookie, nsid)
	}
}

// TestAmplification: with cookies required, over UDP nobody who has not shown one gets more than twice what it sent, whatever it asks.
func TestAmplification(t *testing.T) {
	r := start(t, nil, Config{Cookies: CookiesRequire, NSID: strings.Repeat("n", maxNSID)})
	c := r.dial(t, "udp")
	nsid := &dns.EDNS0_NSID{Code: dns.EDNS0NSID}
	version := withOptions(t, "big.example")
	version[len(version)-5] = 1
	for name, query := range map[string][]byte{
		"large answer":   withOptions(t, "big.example"),
		"without EDNS":   query(9, "big.example", false),
		"client cookie":  withOptions(t, "big.example", cookieOption(clientCookie)),
		"bad cookie":     withOptions(t, "big.example", cookieOption(clientCookie+clientCookie+clientCookie)),
		"NSID":           withOptions(t, "big.example", nsid),
		"NSID and more":  withOptions(t, "big.example", nsid, cookieOption(clientCookie)),
		"root":           withOptions(t, ".", nsid, cookieOption(clientCookie)),
		"no question":    withOptions(t, "", nsid, cookieOption(clientCookie)),
		"malformed":      withOptions(t, "big.example", cookieOption("00"), nsid),
		"future version": version,
		"header":         mt.Header(9, 0, 1, 0, 0, 0),
	} {
		if got := exchange(t, c, query); len(got) > 2*len(query) {
			t.Errorf("%s: %d octets for %d", name, len(got), len(query))
		}
	}
	if r.count() != 0 {
		t.Errorf("the handler got %d queries, want none", r.count())
	}
}

// TestCookieSecret: listeners with the same secret take each other's cookies, and one that can't be read is an error.
func TestCookieSecret(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	config := Config{Cookies: CookiesRequire, CookieSecret: path}
	if err := config.CheckFiles(); err == nil || !strings.HasPrefix(err.Error(), "cookie_secret: ") {
		t.Errorf("without the file: got %v", err)
	}
	if err := os.WriteFile(path, []byte("e5e973e5a6b2a43f48e7dc849e37bfcf\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := config.CheckFiles(); err != nil {
		t.Error(err)
	}
	given, _ := options(unpack(t, exchange(t, start(t, nil, config).dial(t, "udp"), withOptions(t, "www.example", cookieOption(clientCookie)))))
	got := unpack(t, exchange(t, start(t, nil, config).dial(t, "udp"), withOptions(t, "www.example", cookieOption(given))))
	if got.Rcode != dns.RcodeSuccess || len(got.Answer) != 1 {
		t.Errorf("a cookie of the other listener: got %v", got)
	}
	other := start(t, nil, Config{Cookies: CookiesRequire})
	if got := unpack(t, exchange(t, other.dial(t, "udp"), withOptions(t, "www.example", cookieOption(given)))); got.Rcode != dns.RcodeBadCookie {
		t.Errorf("a listener with another secret: got %v", got)
	}
}

// TestCookieAllocations: cookies and names cost no allocation.
func TestCookieAllocations(t *testing.T) {
	l, err := New(Config{Address: "127.0.0.1:0", Chain: "main", NSID: "weir-1"}, 0, newEcho(), Env{})
	if err != nil {
		t.Fatal(err)
	}
	e, j, client := l.udpIn, l.jobs.get(), netip.MustParseAddrPort("127.0.0.1:53")
	msg := withOptions(t, "www.example", cookieOption(clientCookie), &dns.EDNS0_NSID{Code: dns.EDNS0NSID})
	got := testing.AllocsPerRun(100, func() {
		if out, done := e.begin(j, msg, true, client, e.now()); !done || message.Truncated(out) {
			t.Fatal("not answered")
		}
	})
	if got != 0 {
		t.Errorf("got %v allocations, want none", got)
	}
}

// BenchmarkBeginCookie is BenchmarkBegin for a query with a good cookie.
func BenchmarkBeginCookie(b *testing.B) {
	e, j, _, client := fastPath(b)
	var answer [cookie.Size]byte
	given, _ := hex.DecodeString(clientCookie)
	e.optional.jar.Answer(&answer, given, client.Addr(), time.Now())
	msg := withOptions(b, "www.example", cookieOption(hex.EncodeToString(answer[:])))
	b.ReportAllocs()
	for b.Loop() {
		e.begin(j, msg, true, client, e.now())
	}
}
