package listener

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/host/cookie"
	"github.com/weirdns/weir/host/message"
)

// TestRateLimit: a network gets its burst, and then what slip says; TCP, a good cookie, exempt networks and other networks are not limited.
func TestRateLimit(t *testing.T) {
	const n = 1000
	one, other, far := netip.MustParseAddrPort("192.0.2.1:53"), netip.MustParseAddrPort("192.0.2.200:53"), netip.MustParseAddrPort("198.51.100.1:53")
	for _, tt := range []struct {
		name                     string
		limit                    RateLimit
		from                     netip.AddrPort
		answered, slipped, least int // at least so many slipped
	}{
		{"every one slips", RateLimit{Responses: 10}, one, 20, n - 20, 0},
		{"none does", RateLimit{Responses: 10, Slip: -1}, one, 20, 0, 0},
		{"one in four does", RateLimit{Responses: 10, Slip: 4}, one, 20, -1, (n - 20) / 8},
		{"a burst", RateLimit{Responses: 10, Burst: 100}, one, 100, n - 100, 0},
		{"counted only", RateLimit{Responses: 10, LogOnly: true}, one, n, 0, 0},
		{"exempt", RateLimit{Responses: 10, Exempt: []string{"192.0.2.0/25"}}, one, n, 0, 0},
		{"not exempt", RateLimit{Responses: 10, Exempt: []string{"192.0.2.0/25"}}, other, 20, n - 20, 0},
		{"no limit", RateLimit{}, one, n, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			now := time.Unix(1_800_000_000, 0)
			config := Config{Address: "127.0.0.1:0", Chain: "main", RateLimit: tt.limit}
			if err := config.Validate(); err != nil {
				t.Fatal(err)
			}
			l, err := New(config, 0, newEcho(), Env{Now: func() time.Time { return now }})
			if err != nil {
				t.Fatal(err)
			}
			j, msg := l.jobs.get(), query(9, "www.example", false)
			ask := func(e *entrance, msg []byte, from netip.AddrPort) (answered, slipped, dropped int) {
				for range n {
					switch out, done := e.begin(j, msg, true, from, now); {
					case !done:
						t.Fatal("it waits")
					case out == nil:
						dropped++
					case message.Truncated(out):
						if len(out) > len(msg) {
							t.Fatalf("%d octets for %d", len(out), len(msg))
						}
						slipped++
					default:
						answered++
					}
				}
				return answered, slipped, dropped
			}
			answered, slipped, dropped := ask(l.udpIn, msg, tt.from)
			if answered != tt.answered || tt.slipped >= 0 && slipped != tt.slipped || slipped < tt.least || answered+slipped+dropped != n {
				t.Errorf("answered %d, slipped %d, dropped %d; want %d, %d", answered, slipped, dropped, tt.answered, tt.slipped)
			}
			if answered, _, _ := ask(l.udpIn, msg[:13], far); tt.limit.Responses > 0 && !tt.limit.LogOnly && answered > tt.answered {
				t.Errorf("answered %d malformed queries, want as many as others", answered)
			}
			if answered, _, _ := ask(l.tcpIn, msg, tt.from); answered != n {
				t.Errorf("answered %d over TCP, want %d", answered, n)
			}
			given, _ := options(unpack(t, mustBegin(t, l.tcpIn, j, withOptions(t, "www.example", cookieOption(clientCookie)), tt.from, now)))
			if answered, _, _ := ask(l.udpIn, withOptions(t, "www.example", cookieOption(given)), tt.from); answered != n {
				t.Errorf("answered %d with a good cookie, want %d", answered, n)
			}
			if got := testing.AllocsPerRun(100, func() { l.udpIn.begin(j, msg, true, tt.from, now) }); got != 0 {
				t.Errorf("got %v allocations, want none", got)
			}
		})
	}
}

func mustBegin(t *testing.T, e *entrance, j *job, msg []byte, from netip.AddrPort, now time.Time) []byte {
	t.Helper()
	out, done := e.begin(j, msg, true, from, now)
	if !done || out == nil {
		t.Fatal("not answered")
	}
	return append([]byte(nil), out...)
}

// TestRateLimitOptions: what is sent to TCP has a server cookie at most that the query had not, whatever it asks for.
func TestRateLimitOptions(t *testing.T) {
	r := start(t, nil, Config{NSID: strings.Repeat("n", maxNSID), RateLimit: RateLimit{Responses: 1, Burst: 1}})
	c := r.dial(t, "udp")
	msg := withOptions(t, "www.example", &dns.EDNS0_NSID{Code: dns.EDNS0NSID}, cookieOption(clientCookie))
	exchange(t, c, msg)
	out := exchange(t, c, msg)
	m := unpack(t, out)
	if _, nsid := options(m); !m.Truncated || nsid != "" || len(out) > len(msg)+cookie.Size-cookie.ClientSize {
		t.Errorf("got %d octets for %d: %v", len(out), len(msg), m)
	}
}

// TestRateLimitServed has real queries over UDP limited, and counts them.
func TestRateLimitServed(t *testing.T) {
	r := start(t, nil, Config{RateLimit: RateLimit{Responses: 1, Burst: 3}})
	c := r.dial(t, "udp")
	truncated := 0
	for range 10 {
		if m := unpack(t, exchange(t, c, query(9, "www.example", true))); m.Truncated {
			truncated++
			if m.Rcode != dns.RcodeSuccess || len(m.Answer)+len(m.Ns) != 0 {
				t.Errorf("got %v", m)
			}
		}
	}
	if truncated < 5 || r.metric(t, "rate_limited_total", "slipped") != float64(truncated) {
		t.Errorf("%d of 10 responses were truncated, and %v counted; want 7", truncated, r.metric(t, "rate_limited_total", "slipped"))
	}
}
