package host

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/weirdns/weir/host/internal/loopback"
	"github.com/weirdns/weir/host/message"
	mt "github.com/weirdns/weir/host/message/messagetest"
)

// TestRFC5452OneOutstanding: a question that many ask at once, over any transport, in any case, and with any options of EDNS, is asked of an upstream once, so that
// there is one ID and port to be guessed (section 5, draft-li-dnsop-ecs-aggregation-fix).
func TestRFC5452OneOutstanding(t *testing.T) {
	gate, asked := make(chan struct{}), make(chan struct{}, 100)
	e, clients := startWire(t, func(query []byte) []byte {
		asked <- struct{}{}
		<-gate
		return answerAddress(query)
	})
	var all sync.WaitGroup
	for i, c := range clients {
		name := []byte("once.example")
		name[i%4] ^= 0x20
		subnet := []byte{0, 8, 0, 7, 0, 1, 24, 0, 10, 0, byte(i)}
		cookie := mt.Join([]byte{0, 10, 0, 8}, mt.Repeat(8, byte(i)))
		query := wireQuery(string(name), message.TypeA, mt.OPT(uint16(512+i), 0, mt.Join(subnet, cookie)...))
		all.Go(func() {
			binary.BigEndian.PutUint16(query, c.id())
			got, err := c.ask(query)
			if err != nil || len(got) < 12 || wireMessage(got).rcode() != 0 || len(wireMessage(got).records()) == 0 {
				t.Errorf("%s: got %x, %v", c.name, got, err)
			}
		})
	}
	<-asked
	for end := time.Now().Add(patience); e.counter("weir_cache_joined_total") < len(clients)-1; {
		if time.Now().After(end) {
			t.Fatalf("%d queries wait for the first one, want %d", e.counter("weir_cache_joined_total"), len(clients)-1)
		}
		runtime.Gosched()
	}
	close(gate)
	all.Wait()
	if n := e.fetched(); n != 1 {
		t.Errorf("%d queries went to the upstream, want 1", n)
	}
}

// TestRFC8020Off: a denial of a name says nothing about names below it, which are asked for: an upstream is no signed zone, and rules may send them to another (section 7).
func TestRFC8020Off(t *testing.T) {
	soa := mt.Record(mt.Name("example"), message.TypeSOA, mt.Join([]byte{0, 0}, mt.Repeat(5, 0, 0, 0, 60))...)
	e, clients := startWire(t, func(query []byte) []byte {
		if bytes.HasPrefix(query[12:], []byte("\x05below")) {
			return answerAddress(query)
		}
		return response(query, message.NXDOMAIN, 0, 1, 0, soa)
	})
	for i, c := range clients {
		for range 2 {
			if got := c.exchange(wireQuery(c.nameFor("denied"), message.TypeA)); got.rcode() != message.NXDOMAIN {
				t.Errorf("%s: got %x", c.name, got)
			}
			if got := c.exchange(wireQuery("below."+c.nameFor("denied"), message.TypeA)); got.rcode() != message.NOERROR || len(got.records()) == 0 {
				t.Errorf("%s: below: got %x", c.name, got)
			}
		}
		if got, want := e.fetched(), 2*(i+1); got != want {
			t.Errorf("%s: %d queries went to the upstream, want %d", c.name, got, want)
		}
	}
}

// TestRFC8109NoPriming: weir asks for what clients ask for, and for nothing by itself: it has no root servers to look for (section 3).
func TestRFC8109NoPriming(t *testing.T) {
	e, clients := startWire(t, answerAddress)
	if asked := e.take(); len(asked) > 0 {
		t.Errorf("before any query, the upstream was asked %x", asked)
	}
	names := map[string]bool{}
	for _, c := range clients {
		c.exchange(wireQuery(c.nameFor("www"), message.TypeA))
		names[string(mt.Question(c.nameFor("www"), message.TypeA))] = true
	}
	for _, q := range e.take() {
		if !names[string(wireMessage(q).question())] {
			t.Errorf("the upstream was asked %x", q)
		}
	}
}

// ede returns the INFO-CODE of the first Extended DNS Error, or message.None.
func (m wireMessage) ede() uint16 {
	if opt := m.opt(); opt != nil {
		return message.EDECode(opt[11:])
	}
	return message.None
}

// TestRFC8914Own: weir says why it answers with an error of its own: Blocked and Prohibited for a rule, what a rule says itself, No Reachable Authority or Network Error for an
// upstream that can't be reached, and Cached Error when that is known from before (section 4).
func TestRFC8914Own(t *testing.T) {
	_, clients := startWire(t, answerAddress, "filters = []", `filters = ["rules"]`, `servers = ["UP"]`, fmt.Sprintf(`servers = [%q]
[filter.rules.config]
rule = [
	{ zone = "blocked.example", rcode = "NXDOMAIN" },
	{ zone = "prohibited.example", rcode = "REFUSED" },
	{ zone = "filtered.example", rcode = "REFUSED", ede = 17 },
]
`, loopback.Address(t)))
	for _, c := range clients {
		for _, tt := range []struct {
			name  string
			rcode uint16
			want  []uint16
		}{
			{"blocked.example", message.NXDOMAIN, []uint16{15}},
			{"prohibited.example", message.REFUSED, []uint16{18}},
			{"filtered.example", message.REFUSED, []uint16{17}},
			{c.nameFor("dead"), message.SERVFAIL, []uint16{22, 23}},
			{c.nameFor("dead"), message.SERVFAIL, []uint16{13}},
		} {
			got := c.exchange(wireQuery(tt.name, message.TypeA, mt.OPT(1232, 0)))
			found := false
			for _, code := range tt.want {
				found = found || got.ede() == code
			}
			if got.rcode() != tt.rcode || !found {
				t.Errorf("%s: %s: got %x with EDE %d, want %d", c.name, tt.name, got, got.ede(), tt.want)
			}
			if got := c.exchange(wireQuery(tt.name, message.TypeA)); got.rcode() != tt.rcode || got.opt() != nil {
				t.Errorf("%s: %s, without EDNS: got %x", c.name, tt.name, got)
			}
		}
	}
}

// TestRFC9715Queries: an upstream is offered 1232 octets over UDP, whatever the client offers, and what it truncates is asked for over TCP (section 3.2).
func TestRFC9715Queries(t *testing.T) {
	text := mt.Record(mt.Pointer(12), 16, mt.Join([]byte{255}, mt.Repeat(255, 'x'))...)
	e, clients := startWire(t, func(query []byte) []byte { return response(query, 0, 20, 0, 0, mt.Repeat(20, text...)) })
	for i, c := range clients {
		offers := []uint16{0, 512, 1400, 4096, 65535, 1232}[i]
		query := wireQuery(c.nameFor("offer"), 16, mt.OPT(offers, 0))
		if got := c.exchange(query); c.name != "udp" && len(got.records()) != 20*len(text) {
			t.Errorf("%s: got %x", c.name, got)
		}
		asked := e.take()
		if len(asked) < 2 { // over UDP, then over TCP
			t.Errorf("%s: the upstream was asked %d times, want twice", c.name, len(asked))
		}
		for _, q := range asked {
			if size, _, _, _ := ofOPT(wireMessage(q).opt()); size != 1232 {
				t.Errorf("%s: the upstream was offered %d octets, want 1232", c.name, size)
			}
		}
	}
}
