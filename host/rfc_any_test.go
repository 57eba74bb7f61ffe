package host

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/weirdns/weir/host/explain"
	"github.com/weirdns/weir/host/message"
	mt "github.com/weirdns/weir/host/message/messagetest"
)

// TestRFC8482Minimal: with any = "minimal", ANY over UDP gets an HINFO record with "RFC8482" and an empty string that weir makes, with or without DO, and
// no upstream is asked; over all other transports it is forwarded (sections 4.2 and 4.4).
func TestRFC8482Minimal(t *testing.T) {
	e, clients := startWire(t, func(query []byte) []byte {
		if q := wireMessage(query).question(); binary.BigEndian.Uint16(q[len(q)-4:]) == message.TypeANY {
			return response(query, 0, 1, 0, 0, mt.Record(mt.Pointer(12), 16, 1, 'x'))
		}
		return answerAddress(query)
	}, "[upstream.up]", "[upstream.up]\nany = \"minimal\"")
	hinfo := mt.Record(mt.Pointer(12), 13, mt.Join([]byte{7}, []byte("RFC8482"), []byte{0})...)
	over := 0 // UDP
	for _, c := range clients {
		udp := c.name == "udp"
		if udp {
			over++
		}
		for _, query := range [][]byte{wireQuery(c.nameFor("any"), message.TypeANY), wireQuery(c.nameFor("do"), message.TypeANY, mt.OPT(1232, flagDO))} {
			m := c.exchange(query)
			got := m.records()
			isHINFO := len(got) >= len(hinfo) && bytes.Equal(got[:6], hinfo[:6]) && bytes.Equal(got[10:len(hinfo)], hinfo[10:])
			if isHINFO != udp || binary.BigEndian.Uint16(m[6:]) != 1 {
				t.Errorf("%s: got %x", c.name, m)
			}
		}
		if got := c.exchange(wireQuery(c.nameFor("a"), message.TypeA)).records(); len(got) < 4 || got[3] != message.TypeA {
			t.Errorf("%s: got %x for A", c.name, got)
		}
	}
	if got, want := e.fetched(), 3*len(clients)-2; got != want || over != 1 {
		t.Errorf("the upstream was asked %d times, and %d clients are UDP; want %d and 1", got, over, want)
	}
	trail, err := e.Explain(t.Context(), explain.Question{Name: "any.test", Type: "ANY"})
	if err != nil {
		t.Fatal(err)
	}
	text := ""
	for _, s := range trail.Steps {
		text += s.Text + "\n"
	}
	if !strings.Contains(text, "HINFO (RFC 8482)") {
		t.Errorf("explain says nothing about it:\n%s", text)
	}
}
