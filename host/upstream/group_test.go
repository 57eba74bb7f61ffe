package upstream

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/host/message"
	"github.com/weirdns/weir/host/upstream/upstreamtest"
)

// query makes a query as a listener does: RD, and EDNS with 1232 octets.
func query(t testing.TB, name string, qtype uint16) *message.Query {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(name, qtype)
	m.SetEdns0(1232, false)
	octets, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	q := new(message.Query)
	if rcode, ok := q.Parse(octets); !ok {
		t.Fatalf("query for %s: RCODE %d", name, rcode)
	}
	return q
}

// group makes a group that runs until the test ends, and checks then that it leaves no goroutine behind.
func group(t testing.TB, c Config, env Env) *Group {
	t.Helper()
	if env.Log == nil {
		env.Log = slog.New(slog.DiscardHandler)
	}
	g, err := New("test", c, env)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- g.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		if _, err := g.Resolve(context.Background(), query(t, "closed.test.", dns.TypeA), nil); !errors.Is(err, ErrClosed) {
			t.Errorf("Resolve after Run: %v, want ErrClosed", err)
		}
		if stacks := leaked(); stacks != "" {
			t.Errorf("goroutines are left:\n%s", stacks)
		}
	})
	return g
}

// leaked returns the stacks of the goroutines that this package has started and that have not ended.
func leaked() string {
	var left string
	// One that is about to return from its function may be caught in it, so there is more than one look.
	for range 100 {
		left = ""
		stacks := make([]byte, 1<<20)
		for stack := range strings.SplitSeq(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
			if strings.Contains(stack, "host/upstream.(*") && !strings.Contains(stack, "testing.tRunner") && !strings.Contains(stack, "(*fakeNet)") {
				left += stack + "\n\n"
			}
		}
		if left == "" {
			return ""
		}
		runtime.Gosched()
	}
	return left
}

// ask resolves name and returns "RCODE RDATA…", with "tc " before it when TC is set, or the error.
func ask(t testing.TB, r message.Resolver, q *message.Query) string {
	t.Helper()
	prefix := []byte("before")
	response, err := r.Resolve(t.Context(), q, prefix)
	if err != nil {
		return err.Error()
	}
	m := new(dns.Msg)
	if err := m.Unpack(response.Message); err != nil {
		t.Fatalf("response to %s: %v", message.NameString(q.Name), err)
	}
	if string(prefix) != "before" {
		t.Errorf("dst was overwritten")
	}
	if m.Authoritative {
		t.Errorf("response to %s has AA", message.NameString(q.Name))
	}
	text := message.RCODEString(response.RCODE)
	if m.Truncated {
		text = "tc " + text
	}
	for _, rr := range m.Answer {
		text += " " + strings.TrimPrefix(rr.String(), rr.Header().String())
	}
	return text
}

func askName(t testing.TB, r message.Resolver, name string) string {
	t.Helper()
	return ask(t, r, query(t, name, dns.TypeA))
}

func TestResolve(t *testing.T) {
	s := upstreamtest.Start(t, "127.0.0.1:0 udp tcp: www.test. A -> NOERROR 192.0.2.1; gone.test. * -> NXDOMAIN; bad.test. * -> SERVFAIL; no.test. * -> REFUSED; "+
		"odd.test. * -> NOTIMP; big.test. A -> truncated 192.0.2.7")
	udp := upstreamtest.Start(t, "127.0.0.1:0 udp: big.test. A -> truncated; * A -> NOERROR 192.0.2.1")
	tests := []struct {
		name, server, transport, qname string
		want                           string
		udp, tcp                       int64 // queries that the server sees
	}{
		{"answer", s.Addr.String(), "auto", "www.test.", "NOERROR 192.0.2.1", 1, 0},
		{"case", s.Addr.String(), "auto", "wWw.tEst.", "NOERROR 192.0.2.1", 1, 0},
		{"no data", s.Addr.String(), "auto", "gone.test.", "NXDOMAIN", 1, 0},
		{"SERVFAIL is a response", s.Addr.String(), "auto", "bad.test.", "SERVFAIL", 1, 0},
		{"REFUSED is a response", s.Addr.String(), "auto", "no.test.", "REFUSED", 1, 0},
		{"NOTIMP of a server with EDNS is a response", s.Addr.String(), "auto", "odd.test.", "NOTIMP", 1, 0},
		{"truncated", s.Addr.String(), "auto", "big.test.", "NOERROR 192.0.2.7", 1, 1},
		{"udp only", udp.Addr.String(), "udp", "big.test.", "tc NOERROR", 1, 0},
		{"truncated without TCP", udp.Addr.String(), "auto", "big.test.", ErrTruncated.Error(), -1, 0},
		{"tcp", s.Addr.String(), "tcp", "www.test.", "NOERROR 192.0.2.1", 0, 1},
		{"tcp by prefix", "tcp://" + s.Addr.String(), "auto", "www.test.", "NOERROR 192.0.2.1", 0, 1},
		{"udp by prefix", "udp://" + s.Addr.String(), "tcp", "www.test.", "NOERROR 192.0.2.1", 1, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := group(t, Config{Servers: []string{tt.server}, Transport: tt.transport}, Env{})
			udp, tcp := s.UDP(), s.TCP()
			if got := askName(t, g, tt.qname); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if udp, tcp := s.UDP()-udp, s.TCP()-tcp; strings.Contains(tt.server, s.Addr.String()) && (udp != tt.udp || tcp != tt.tcp) {
				t.Errorf("server saw %d queries over UDP and %d over TCP, want %d and %d", udp, tcp, tt.udp, tt.tcp)
			}
		})
	}
}
