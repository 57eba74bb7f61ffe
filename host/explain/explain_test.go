package explain

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/weirdns/weir/host/chain"
	"github.com/weirdns/weir/host/message"
)

// run is a query that has been through everything.
func run(t *testing.T) Run {
	t.Helper()
	wire, err := Question{Name: "WWW.example.com"}.Wire()
	if err != nil {
		t.Fatal(err)
	}
	x := new(chain.Exchange)
	if _, ok := x.Query.Parse(wire); !ok {
		t.Fatal("the query is malformed")
	}
	begin := time.Unix(1_700_000_000, 0)
	x.Query.Client = netip.MustParseAddrPort("192.0.2.7:0")
	x.Query.Listener = 1
	at := func(us int, s message.Step) message.Step {
		s.Time = begin.Add(time.Duration(us) * time.Microsecond)
		return s
	}
	trace := new(message.Trace)
	x.Query.Trace = trace
	trace.Add(at(10, message.Step{Part: "listener", Event: "scope", Chain: "main"}), "client 192.0.2.7 is in no scope: {listener[1].chain} says main")
	trace.Add(at(20, message.Step{Part: "filter rules", Event: "explain", Phase: "query"}), "{rule[3]}: zone com. -> upstream corp")
	trace.Add(at(21, message.Step{Part: "filter rules", Event: "verdict", Phase: "query", Verdict: "forward", Upstream: "corp"}), "forward to upstream corp")
	trace.Add(at(250, message.Step{Part: "upstream corp", Event: "response", Server: "192.0.2.53:53", Over: "udp", RCODE: "NXDOMAIN", Octets: 45, Took: 200 * time.Microsecond}),
		"192.0.2.53:53 over udp: NXDOMAIN, 45 octets, in 200µs")
	trace.Add(at(300, message.Step{Part: "filter alternate", Event: "explain", Phase: "response"}), "evil\x1b[2J\u009b {alternate[0]}")
	x.Response.SetRCODE(nil, &x.Query, message.NXDOMAIN)
	x.Response.EDE = message.AppendEDE(nil, message.EDEOther, "bad\x07 text")
	return Run{
		Exchange: x, Wire: x.Response.Finish(&x.Query, 1232), Listener: "127.0.0.1:53", Upstream: "corp", Start: begin, Took: 1234 * time.Microsecond,
		Position: func(path string) string { return fmt.Sprintf("weir.toml:%d", len(path)) },
	}
}

func TestText(t *testing.T) {
	var b strings.Builder
	if err := New(run(t)).WriteText(&b); err != nil {
		t.Fatal(err)
	}
	const want = `WWW.example.com. A, asked by 192.0.2.7 over udp at 127.0.0.1:53 (weir.toml:19)

  0.01 ms  listener                    client 192.0.2.7 is in no scope: weir.toml:17 listener[1].chain says main
  0.02 ms  filter rules                weir.toml:27 rule[3]: zone com. -> upstream corp
  0.02 ms  filter rules                forward to upstream corp
  0.25 ms  upstream corp               192.0.2.53:53 over udp: NXDOMAIN, 45 octets, in 200µs
  0.30 ms  filter alternate, response  evil\027[2J\194\155 weir.toml:36 alternate[0]

NXDOMAIN, flags qr rd ra, 59 octets, from upstream corp, after 1.23 ms
  EDE 0       Other: bad\007 text
`
	if got := b.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// The names of the fields are a promise.
func TestJSON(t *testing.T) {
	trail := New(run(t))
	trail.Steps = trail.Steps[1:4]
	got, err := json.Marshal(trail)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"name":"WWW.example.com.","type":"A","client":"192.0.2.7","over":"udp","listener":"127.0.0.1:53","position":"weir.toml:19","steps":[` +
		`{"after_us":20,"part":"filter","name":"rules","phase":"query","event":"explain","text":"weir.toml:27 rule[3]: zone com. -\u003e upstream corp",` +
		`"places":[{"key":"filter.rules.config.rule[3]","position":"weir.toml:27"}]},` +
		`{"after_us":21,"part":"filter","name":"rules","phase":"query","event":"verdict","text":"forward to upstream corp","verdict":"forward","upstream":"corp"},` +
		`{"after_us":250,"part":"upstream","name":"corp","event":"response","text":"192.0.2.53:53 over udp: NXDOMAIN, 45 octets, in 200µs",` +
		`"server":"192.0.2.53:53","over":"udp","rcode":"NXDOMAIN","octets":45,"took_us":200}],` +
		`"response":{"rcode":"NXDOMAIN","flags":["qr","rd","ra"],"octets":59,"ede":[{"code":0,"text":"bad\\007 text"}],"answer":[],"authority":[],"additional":[],` +
		`"upstream":"corp","cached":false},"took_us":1234}`
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestDropped(t *testing.T) {
	r := run(t)
	r.Wire = nil
	trail := New(r)
	var b strings.Builder
	if err := trail.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	if trail.Response != nil || !strings.Contains(b.String(), "no response, after 1.23 ms") {
		t.Errorf("got %+v,\n%s", trail.Response, b.String())
	}
}

func FuzzQuestion(f *testing.F) {
	f.Add("www.example.com", "A")
	f.Add(`a\000\200.test`, "type65280")
	f.Add("..", "")
	f.Fuzz(func(t *testing.T, name, qtype string) {
		wire, err := Question{Name: name, Type: qtype}.Wire()
		if err != nil {
			return
		}
		var q message.Query
		if rcode, ok := q.Parse(wire); !ok && rcode != message.REFUSED && rcode != message.FORMERR {
			t.Errorf("%q %q makes a query that gets %s", name, qtype, message.RCODEString(rcode))
		}
	})
}
