package upstreamtest

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// What each fault looks like to a client that believes everything.
func TestFaulty(t *testing.T) {
	f, err := ListenFaulty(netip.MustParseAddrPort("127.0.0.1:0"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	name := []byte("\x03wWw\x04test\x00")
	address := Address([]byte("\x03www\x04test\x00"))
	if Address(name) != address {
		t.Errorf("the address depends on case")
	}
	// ask returns the first packet that comes back, if one does soon.
	ask := func(network string) ([]byte, error) {
		c, err := dns.DialTimeout(network, f.Addr.String(), time.Minute)
		if err != nil {
			return nil, err
		}
		defer c.Close()
		wait := time.Minute
		if fault := f.Fault(); fault == BlackHole {
			wait = 50 * time.Millisecond
		}
		c.SetDeadline(time.Now().Add(wait))
		q := new(dns.Msg).SetQuestion("wWw.test.", dns.TypeA)
		q.Id = 1000
		if err := c.WriteMsg(q); err != nil {
			return nil, err
		}
		return c.ReadMsgHeader(nil)
	}
	for fault := range Faults {
		if fault == Lossy {
			continue
		}
		if err := f.Set(fault); err != nil {
			t.Fatal(err)
		}
		for _, network := range []string{"udp", "tcp"} {
			t.Run(fault.String()+" "+network, func(t *testing.T) {
				wire, err := ask(network)
				udp := network == "udp"
				m := new(dns.Msg)
				bad := m.Unpack(wire)
				right := err == nil && bad == nil && m.Id == 1000 && m.Response && m.Question[0].Name == "wWw.test." && !m.Truncated &&
					len(m.Answer) == 1 && bytes.Equal(m.Answer[0].(*dns.A).A.To4(), address[:]) && m.Answer[0].Header().Ttl == TTL(name)
				want := false
				switch fault {
				case Healthy, Slow:
					want = true
				case LiesFirst:
					want = !udp
				case Dead, BlackHole:
					if err == nil {
						t.Errorf("got %x, want nothing", wire)
					}
				case Truncating, TruncatingOnly, Reset:
					want = fault == Truncating && !udp
					if udp && (bad != nil || !m.Truncated || len(m.Answer) > 0) {
						t.Errorf("got %x, want TC and no more", wire)
					}
				}
				if right != want {
					t.Errorf("the right answer: %v, want %v: %x, %v", right, want, wire, err)
				}
			})
		}
	}
	if err := f.Set(Healthy); err != nil {
		t.Fatal(err)
	}
	if _, err := ask("udp"); err != nil {
		t.Errorf("after it was dead: %v", err)
	}
}
