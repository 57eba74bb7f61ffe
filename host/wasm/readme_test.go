package wasm

import (
	"os"
	"strings"
	"testing"

	"github.com/weirdns/weir/host/chain"
	"github.com/weirdns/weir/host/message"
	"github.com/weirdns/weir/host/wasm/wat"
)

// The filter in the contract works as the contract says: loaded as any module from outside.
func TestReadmeFilter(t *testing.T) {
	text, err := os.ReadFile("../../abi/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, source, ok := strings.Cut(string(text), "```wat\n")
	source, _, ok2 := strings.Cut(source, "```")
	if !ok || !ok2 {
		t.Fatal("no WAT in README.md")
	}
	module, err := wat.Compile(source)
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, 0)
	f, err := r.Open(t.Context(), "tcponly", Config{}, Environment{Module: module})
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	defer f.Close()
	if got, want := f.Interest(), (chain.Interest{Query: true}); got != want {
		t.Errorf("Interest() = %+v, want %+v", got, want)
	}
	for _, tt := range []struct {
		transport message.Transport
		want      chain.Verdict
		ede       uint16
	}{
		{message.UDP, chain.Verdict{Action: chain.Respond, RCODE: message.REFUSED}, message.EDEProhibited},
		{message.TCP, chain.Verdict{}, message.None},
		{message.HTTPS, chain.Verdict{}, message.None},
	} {
		t.Run(tt.transport.String(), func(t *testing.T) {
			c := query(t)
			c.Query.Transport = tt.transport
			got, err := f.Call(c)
			if err != nil || got != tt.want || c.EDE != tt.ede || len(c.Octets) != 0 {
				t.Errorf("Call = %+v, EDE %d, %d octets, %v; want %+v, EDE %d, none", got, c.EDE, len(c.Octets), err, tt.want, tt.ede)
			}
		})
	}
}
