package host

import (
	"context"
	"testing"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/host/message"
)

// hollow answers NOERROR to everything and counts.
type hollow struct{ asked int }

func (h *hollow) Cached(*message.Query, []byte) (message.Response, bool) {
	return message.Response{}, false
}

func (h *hollow) Resolve(_ context.Context, q *message.Query, dst []byte) (message.Response, error) {
	h.asked++
	var r message.Response
	r.SetRCODE(dst, q, message.NOERROR)
	return r, nil
}

func (h *hollow) Start(t *message.Transaction) bool {
	t.Response, t.Err = h.Resolve(context.Background(), t.Query, t.Dst)
	return true
}

func parsed(t *testing.T, name string, rd bool) *message.Query {
	t.Helper()
	m := new(dns.Msg).SetQuestion(name, dns.TypeA)
	m.RecursionDesired = rd
	wire, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	q := new(message.Query)
	if rcode, ok := q.Parse(wire); !ok {
		t.Fatalf("Parse: %s", message.RCODEString(rcode))
	}
	return q
}

func TestEndpoint(t *testing.T) {
	var zones [][]byte
	for _, z := range []string{"corp.test", "local"} {
		wire, err := message.ParseName(z)
		if err != nil {
			t.Fatal(err)
		}
		zones = append(zones, wire)
	}
	for _, tt := range []struct {
		name, qname string
		rd          bool
		private     bool // the upstream is private
		snoop       bool
		want        uint16
	}{
		{name: "public name", qname: "www.example.", rd: true, want: message.NOERROR},
		{name: "private name", qname: "x.Corp.test.", rd: true, want: message.REFUSED},
		{name: "private zone itself", qname: "corp.test.", rd: true, want: message.REFUSED},
		{name: "labels, not characters", qname: "xcorp.test.", rd: true, want: message.NOERROR},
		{name: "above", qname: "test.", rd: true, want: message.NOERROR},
		{name: "root", qname: ".", rd: true, want: message.NOERROR},
		{name: "private upstream", qname: "x.corp.test.", rd: true, private: true, want: message.NOERROR},
		{name: "snooping", qname: "www.example.", want: message.REFUSED},
		{name: "snooping allowed", qname: "www.example.", snoop: true, want: message.NOERROR},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := new(hollow)
			e := &endpoint{name: "up", cache: h, snoop: tt.snoop}
			if !tt.private {
				e.private = newZoneSet(zones)
			}
			q := parsed(t, tt.qname, tt.rd)
			r, ok := e.Cached(q, nil)
			if !ok {
				var err error
				if r, err = e.Resolve(t.Context(), q, nil); err != nil {
					t.Fatal(err)
				}
			}
			if r.RCODE != tt.want {
				t.Errorf("got %s, want %s", message.RCODEString(r.RCODE), message.RCODEString(tt.want))
			}
			if asked := tt.want == message.NOERROR; asked != (h.asked == 1) {
				t.Errorf("the upstream was asked %d times", h.asked)
			}
		})
	}
}
