package sdktest

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/weirdns/weir/sdk"
)

// TestEqualDiffers: whatever two filters differ in is found.
func TestEqualDiffers(t *testing.T) {
	plain := sdk.Filter{
		Query: func(q sdk.Query) sdk.Verdict {
			q.Explain().Text("one").End()
			q.SetCookie(1)
			switch q.QTYPE() {
			case sdk.TypeMX:
				return q.RespondRCODE(sdk.REFUSED, sdk.Prohibited)
			case sdk.TypeTXT:
				return q.Rewrite(sdk.AppendQuestion(nil, q.QNAME(), sdk.TypeA))
			case sdk.TypeNS:
				return q.Forward(0)
			}
			return sdk.Next
		},
		Response: func(r sdk.Response) sdk.Verdict {
			if r.Attempt() > 2 {
				return sdk.Next
			}
			return r.Forward(1, sdk.Keep)
		},
	}
	query := func(change func(sdk.Query) sdk.Verdict) sdk.Filter {
		other := plain
		other.Query = func(q sdk.Query) sdk.Verdict {
			if q.QTYPE() == sdk.TypeSRV || q.QTYPE() == sdk.TypeMX || q.QTYPE() == sdk.TypeTXT || q.QTYPE() == sdk.TypeNS {
				return change(q)
			}
			return plain.Query(q)
		}
		return other
	}
	f, err := ParseFile("f", []byte("-- upstreams --\na b\n-- cases --\nquery www.test A\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		other sdk.Filter
		want  string // in the error; empty: none
	}{
		{"nothing", plain, ""},
		{"verdict", query(func(sdk.Query) sdk.Verdict { return sdk.Drop }), "verdicts 0x"},
		{"RCODE", query(func(q sdk.Query) sdk.Verdict { plain.Query(q); return q.RespondRCODE(sdk.SERVFAIL, sdk.Prohibited) }), "verdicts 0x"},
		{"EDE", query(func(q sdk.Query) sdk.Verdict {
			if v := plain.Query(q); q.QTYPE() != sdk.TypeMX {
				return v
			}
			return q.RespondRCODE(sdk.REFUSED, sdk.Blocked)
		}), "EDE 18 and 15"},
		{"octets", query(func(q sdk.Query) sdk.Verdict {
			if v := plain.Query(q); q.QTYPE() != sdk.TypeTXT {
				return v
			}
			return q.Rewrite(sdk.AppendQuestion(nil, q.QNAME(), sdk.TypeAAAA))
		}), "octets"},
		{"upstream", query(func(q sdk.Query) sdk.Verdict {
			if v := plain.Query(q); q.QTYPE() != sdk.TypeNS {
				return v
			}
			return q.Forward(1)
		}), "upstreams 0 and 1"},
		{"cookie", query(func(q sdk.Query) sdk.Verdict { v := plain.Query(q); q.SetCookie(2); return v }), "cookies 0x1 and 0x2"},
		{"explained", query(func(q sdk.Query) sdk.Verdict { v := plain.Query(q); q.Explain().Text("two").End(); return v }), `explained ["one"] and ["one" "two"]`},
		{"logged", query(func(q sdk.Query) sdk.Verdict { v := plain.Query(q); sdk.Log(sdk.Info, "x"); return v }), `logged [] and ["1 x"]`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := newPair(f, Native(func() sdk.Filter { return plain }), Native(func() sdk.Filter { return tt.other }))
			if err != nil {
				t.Fatal(err)
			}
			err = p.compare(f, 5000, rand.New(rand.NewPCG(1, 2)))
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	bad := query(func(q sdk.Query) sdk.Verdict { return q.Respond(make([]byte, 12)) })
	p, err := newPair(f, Native(func() sdk.Filter { return bad }), Native(func() sdk.Filter { return bad }))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.compare(f, 1000, rand.New(rand.NewPCG(1, 2))); err == nil || !strings.Contains(err.Error(), "QR is clear") {
		t.Errorf("both answer with what is no response: got %v", err)
	}
}
