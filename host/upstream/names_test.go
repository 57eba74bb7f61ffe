package upstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/host/message"
	"github.com/weirdns/weir/host/upstream/upstreamtest"
)

// book is a LookupFunc that can be changed.
type book struct {
	mu    sync.Mutex // guards following
	addrs []netip.Addr
	ttl   time.Duration
	err   error
	asked int
}

func (b *book) lookup(_ context.Context, host string) ([]netip.Addr, time.Duration, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked++
	if host != testName {
		return nil, 0, fmt.Errorf("%q was looked up", host)
	}
	return b.addrs, b.ttl, b.err
}

func (b *book) set(ttl time.Duration, err error, addrs ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.addrs, b.ttl, b.err = nil, ttl, err
	for _, text := range addrs {
		b.addrs = append(b.addrs, netip.MustParseAddr(text))
	}
}

// count is how often it was asked.
func (b *book) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.asked
}

// serversOf are the addresses of the servers of g.
func serversOf(g *Group) (addrs []string) {
	for _, s := range g.Stats() {
		addrs = append(addrs, s.Server.Addr().String())
	}
	return addrs
}

// TestNames follows a name through what a DNS may say about it.
func TestNames(t *testing.T) {
	const ip2, ip3 = "192.0.2.2", "192.0.2.3"
	n := newFakeNet(ip1, ip2, ip3)
	policy := Policy{MaxServers: 2, Refuse: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}}
	synctest.Test(t, func(t *testing.T) {
		t.Cleanup(func() { <-time.After(time.Minute) }) // in which the servers see that their connections are closed
		var b book
		var log logged
		b.set(time.Minute, nil, ip2, ip1, ip2)
		g := group(t, Config{Servers: []string{testName}, Policy: "sequential"}, Env{Dial: n.dial, Lookup: b.lookup, Policy: policy, Log: slog.New(slog.NewTextHandler(&log, nil))})
		for _, step := range []struct {
			name  string
			addrs []string
			ttl   time.Duration
			err   error
			after time.Duration // is the next look-up
			want  []string
			log   string // one line; empty for none
		}{
			{"another order", []string{ip1, ip2}, time.Minute, nil, time.Minute, []string{ip1, ip2}, ""},
			{"moved", []string{ip3}, 0, nil, time.Minute, []string{ip3}, "level=INFO"},
			{"no answer", nil, 0, ErrTimeout, lookupLeast, []string{ip3}, "level=WARN"},
			{"still none", nil, 0, ErrTimeout, lookupRetry, []string{ip3}, ""},
			{"another mistake", nil, time.Minute, errNoAddress, lookupRetry, []string{ip3}, "level=WARN"},
			{"no addresses, and no error", nil, time.Minute, nil, lookupRetry, []string{ip3}, ""},
			{"addresses of no server", []string{"0.0.0.0", "224.0.0.1"}, time.Minute, nil, lookupRetry, []string{ip3}, ""},
			{"back", []string{ip3}, 24 * time.Hour, nil, lookupRetry, []string{ip3}, "level=INFO"},
			{"too many", []string{ip3, "::ffff:" + ip2, ip1}, time.Minute, nil, lookupMost, []string{ip1, ip2}, "level=WARN"},
			{"refused", []string{ip3, "198.51.100.1"}, time.Minute, nil, time.Minute, []string{ip3}, "level=WARN"},
		} {
			b.set(step.ttl, step.err, step.addrs...)
			before, said := b.count(), strings.Count(log.String(), "\n")
			<-time.After(step.after - time.Nanosecond)
			synctest.Wait()
			if b.count() != before {
				t.Errorf("%s: looked up before %v", step.name, step.after)
			}
			<-time.After(time.Nanosecond)
			synctest.Wait()
			if b.count() != before+1 {
				t.Errorf("%s: looked up %d times after %v, want once", step.name, b.count()-before, step.after)
			}
			if got := serversOf(g); !slices.Equal(got, step.want) {
				t.Errorf("%s: servers %v, want %v", step.name, got, step.want)
			}
			lines := strings.Split(log.String(), "\n")[said:]
			if text := strings.Join(lines, "\n"); (step.log == "") != (strings.TrimSpace(text) == "") || !strings.Contains(text, step.log) || strings.Count(text, "level=WARN") > 1 {
				t.Errorf("%s: logged %q, want %q", step.name, text, step.log)
			}
			if got, want := askName(t, g, "www.test."), "NOERROR "+step.want[0]; got != want {
				t.Errorf("%s: got %q, want %q", step.name, got, want)
			}
		}
	})
}

// TestNameUnknownAtFirst: a group whose server can't be found has none, until it can.
func TestNameUnknownAtFirst(t *testing.T) {
	n := newFakeNet(ip1)
	synctest.Test(t, func(t *testing.T) {
		t.Cleanup(func() { <-time.After(time.Minute) })
		var b book
		b.set(0, errors.New("no network yet"))
		g := group(t, Config{Servers: []string{testName}}, Env{Dial: n.dial, Lookup: b.lookup})
		if got, want := askName(t, g, "www.test."), ErrNoServers.Error(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		b.set(time.Minute, nil, ip1)
		<-time.After(lookupRetry)
		synctest.Wait()
		if got, want := askName(t, g, "www.test."), "NOERROR "+ip1; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// TestNameKeepsServers: a server that stays keeps its connections when another comes, and one that goes has time for its answers.
func TestNameKeepsServers(t *testing.T) {
	const ip2 = "192.0.2.2"
	n := newFakeNet(ip1, ip2)
	n.server(ip1).set(func(s *fakeServer) { s.delay = 100 * time.Millisecond })
	synctest.Test(t, func(t *testing.T) {
		t.Cleanup(func() { <-time.After(time.Minute) })
		var b book
		b.set(lookupLeast, nil, ip1)
		g := group(t, Config{Servers: []string{"tcp://" + testName}, Expire: time.Hour}, Env{Dial: n.dial, Lookup: b.lookup})
		<-time.After(lookupLeast - 50*time.Millisecond)
		b.set(lookupLeast, nil, ip2)
		if got, want := askName(t, g, "www.test."), "NOERROR "+ip1; got != want { // the change comes while this waits
			t.Errorf("got %q, want %q", got, want)
		}
		if got := serversOf(g); !slices.Equal(got, []string{ip2}) {
			t.Errorf("servers %v, want %s", got, ip2)
		}
	})
}

// TestBootstrap looks names up on a server, for one over TLS.
func TestBootstrap(t *testing.T) {
	s := upstreamtest.Start(t, "127.0.0.1:0 udp tcp: "+
		testName+". A -> NOERROR 127.0.0.1 ttl 60; "+testName+". AAAA -> NOERROR; "+
		"four.test. A -> SERVFAIL; four.test. AAAA -> NOERROR ::1 ttl 7; "+
		"none.test. * -> NXDOMAIN; empty.test. * -> NOERROR; down.test. * -> SERVFAIL")
	server := s.Addr.String()
	b := newBootstrap("test", Config{Bootstrap: []string{server}}, Env{})
	for _, tt := range []struct{ name, want string }{
		{testName, "[127.0.0.1] 1m0s <nil>"},
		{"four.test", "[::1] 7s <nil>"},
		{"none.test", "[] 0s NXDOMAIN\nNXDOMAIN"},
		{"empty.test", "[] 0s " + errNoAddress.Error()},
		{"down.test", "[] 0s SERVFAIL\nSERVFAIL"},
	} {
		addrs, ttl, err := b.lookup(t.Context(), tt.name)
		if got := fmt.Sprint(addrs, ttl, err); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
	t.Run("end", func(t *testing.T) {
		a, certificate := authority(t)
		addr := scriptTLS(t, serverTLS(certificate), answering("192.0.2.1"))
		g := group(t, Config{Servers: []string{fmt.Sprintf("tls://%s:%d", testName, addr.Port())}, CA: a.File, Bootstrap: []string{server}}, Env{})
		if got, want := askName(t, g, "www.test."), "NOERROR 192.0.2.1"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// TestAddressesIn: only what belongs to the name counts.
func TestAddressesIn(t *testing.T) {
	for _, tt := range []struct{ name, answer, want string }{
		{"one", "dns.test. 60 IN A 192.0.2.1", "[192.0.2.1] 1m0s"},
		{"two", "DNS.test. 60 IN A 192.0.2.1\ndns.test. 50 IN AAAA 2001:db8::1", "[192.0.2.1 2001:db8::1] 50s"},
		{"alias", "dns.test. 30 IN CNAME other.test.\nother.test. 60 IN A 192.0.2.1", "[192.0.2.1] 30s"},
		{"aliases in another order", "b.test. 60 IN A 192.0.2.1\na.test. 20 IN CNAME b.test.\ndns.test. 30 IN CNAME a.test.", "[192.0.2.1] 20s"},
		{"another name's", "dns.test. 60 IN A 192.0.2.1\nevil.test. 1 IN A 192.0.2.66", "[192.0.2.1] 1m0s"},
		{"only another name's", "evil.test. 60 IN A 192.0.2.66", "[] 1h0m0s"},
		{"alias without end", "dns.test. 60 IN CNAME a.test.\na.test. 60 IN CNAME dns.test.", "[] 1m0s"},
		{"something else", "dns.test. 60 IN TXT 192.0.2.66", "[] 1h0m0s"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := new(dns.Msg).SetQuestion("dns.test.", message.TypeA)
			for line := range strings.SplitSeq(tt.answer, "\n") {
				rr, err := dns.NewRR(line)
				if err != nil {
					t.Fatal(err)
				}
				m.Answer = append(m.Answer, rr)
			}
			a := addressesIn(m)
			if got := fmt.Sprint(a.addrs, a.ttl); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// TestSystemLookup asks this system, which knows this name without asking anybody.
func TestSystemLookup(t *testing.T) {
	addrs, ttl, err := systemLookup(t.Context(), "localhost")
	if err != nil || ttl != systemTTL || !slices.ContainsFunc(addrs, func(a netip.Addr) bool { return net.IP(a.AsSlice()).IsLoopback() }) {
		t.Errorf("got %v, %v, error %v", addrs, ttl, err)
	}
}
