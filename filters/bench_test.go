package filters_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/weirdns/weir/abi"
	"github.com/weirdns/weir/filters/build/driver"
	"github.com/weirdns/weir/filters/internal/guest"
	"github.com/weirdns/weir/sdk/sdktest"
)

// What a phase costs, with the host's side of it: the frame is written, the function called, and the verdict taken. The host
// functions are those of sdktest in a bare wazero, so figures of the host itself are a little different.

// benchCall calls one phase with one query, which is written anew each time.
func benchCall(b *testing.B, i *guest.Instance, phase byte, name string, qtype uint16, want uint8) {
	b.Helper()
	frame := query(name, qtype)
	frame[abi.FramePhase] = phase
	if phase == abi.PhaseQuery {
		frame = lookup(i, frame)
	}
	b.ReportAllocs()
	for b.Loop() {
		copy(i.Frame(), frame)
		i.Invoke(i.Phases[phase])
		if got := uint8(i.Stack[0] >> 56); got != want {
			b.Fatalf("got verdict %#x, want %d", i.Stack[0], want)
		}
	}
	b.ReportMetric(float64(i.Module.Memory().Size())/(1<<20), "MiB")
}

// query is a frame up to the end of its message: a query with an OPT record.
func query(name string, qtype uint16) []byte {
	wire := []byte{}
	for label := range strings.SplitSeq(name, ".") {
		wire = append(append(wire, byte(len(label))), label...)
	}
	wire = append(wire, 0)
	message := append([]byte{0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1}, wire...)
	message = binary.BigEndian.AppendUint16(message, qtype)
	message = append(message, 0, 1, 0, 0, 41, 4, 0xD0, 0, 0, 0, 0, 0, 0)
	frame := make([]byte, abi.FrameMessage, abi.FrameMessage+len(message))
	le := binary.LittleEndian
	le.PutUint16(frame[abi.FrameQtype:], qtype)
	le.PutUint16(frame[abi.FrameQclass:], 1)
	le.PutUint16(frame[abi.FrameScope:], abi.None)
	le.PutUint16(frame[abi.FrameEDE:], abi.None)
	frame[abi.FrameLabels] = byte(strings.Count(name, ".") + 1)
	le.PutUint16(frame[abi.FrameQnameSize:], uint16(len(wire)))
	le.PutUint32(frame[abi.FrameSize:], uint32(len(message)))
	le.PutUint16(frame[abi.FrameQuestion:], uint16(12+len(wire)+4))
	copy(frame[abi.FrameQname:], wire)
	return append(frame, message...)
}

// lookup adds what the host finds before a call, if the first table has the very QNAME.
func lookup(i *guest.Instance, frame []byte) []byte {
	h, le := i.Host().(unlimited), binary.LittleEndian
	name := frame[abi.FrameQname:][:le.Uint16(frame[abi.FrameQnameSize:])]
	value := make([]byte, 4096)
	n := h.TableExact(0, name, value)
	if n < 0 {
		return frame
	}
	for len(frame)%8 != 0 {
		frame = append(frame, 0)
	}
	le.PutUint16(frame[abi.FrameMatched:], uint16(len(name)))
	le.PutUint32(frame[abi.FrameValue:], uint32(len(frame)))
	le.PutUint32(frame[abi.FrameValueSize:], uint32(n))
	return append(frame, value[:uint32(n)]...)
}

// open1 opens an instance of a filter with a configuration.
func open1(b *testing.B, filter, file string) *guest.Instance {
	b.Helper()
	module, err := driver.Module(b.Context(), filter)
	if err != nil {
		b.Fatal(err)
	}
	f, err := sdktest.ParseFile(b.Name(), []byte(file))
	if err != nil {
		b.Fatal(err)
	}
	h, err := sdktest.NewHost(f)
	if err != nil {
		b.Fatal(err)
	}
	i, err := guest.New(b.Context(), b, module).Instantiate(unlimited{h})
	if err != nil {
		b.Fatal(err)
	}
	if result, text := i.Configure(len(h.Document())); int64(result) < 0 {
		b.Fatalf("configure: %s", text)
	}
	return i
}

// unlimited is a host without the limits of one call, and without the walk of the one for tests over the labels of a name.
type unlimited struct{ *sdktest.Host }

func (u unlimited) TableGet(number uint32, name, out []byte) int64 {
	return u.TableExact(number, name, out)
}

func (u unlimited) TableLongest(number uint32, name, out []byte) int64 {
	return u.TableExact(number, name, out)
}

func BenchmarkRules(b *testing.B) {
	var file strings.Builder
	file.WriteString("-- config.json --\n{\"rule\": [")
	for n := range 10_000 {
		if n > 0 {
			file.WriteString(",\n")
		}
		fmt.Fprintf(&file, `{"zone": "zone%d.example.com", "upstream": "up%d"}`, n, n%3)
	}
	file.WriteString("]}\n-- upstreams --\nup0 up1 up2\n")
	i := open1(b, "rules", file.String())
	b.Run("match", func(b *testing.B) { benchCall(b, i, abi.PhaseQuery, "www.zone4711.example.com", 1, abi.Forward) })
	b.Run("none", func(b *testing.B) { benchCall(b, i, abi.PhaseQuery, "www.other.example.net", 1, abi.Next) })
}

func BenchmarkAuthority(b *testing.B) {
	var file strings.Builder
	file.WriteString("-- config.json --\n{\"zones\": [\"corp\"]}\n-- table corp zone --\n$ORIGIN corp.test.\n$TTL 300\n@ SOA ns host 1 2 3 4 5\n")
	for n := range 100_000 {
		fmt.Fprintf(&file, "host%d A 192.0.2.1\n", n)
	}
	file.WriteString("alias CNAME host5\n")
	i := open1(b, "authority", file.String())
	b.Run("exact", func(b *testing.B) { benchCall(b, i, abi.PhaseQuery, "host4711.corp.test", 1, abi.Respond) })
	b.Run("nodata", func(b *testing.B) { benchCall(b, i, abi.PhaseQuery, "host4711.corp.test", 28, abi.Respond) })
	b.Run("alias", func(b *testing.B) { benchCall(b, i, abi.PhaseQuery, "alias.corp.test", 1, abi.Respond) })
	b.Run("noop", func(b *testing.B) { benchCall(b, i, abi.PhaseResponse, "host4711.corp.test", 1, abi.Next) })
}

func BenchmarkAlternate(b *testing.B) {
	i := open1(b, "alternate", `-- config.json --
{"alternate": [{"rcodes": ["NXDOMAIN", "SERVFAIL"], "zones": ["example.com"], "upstream": "other"}]}
-- upstreams --
other
`)
	b.Run("fits", func(b *testing.B) {
		frame := query("www.example.com", 1)
		frame[abi.FramePhase] = abi.PhaseResponse
		frame[abi.FrameRcode], frame[abi.FrameClass] = 3, 3
		b.ReportAllocs()
		for b.Loop() {
			copy(i.Frame(), frame)
			i.Invoke(i.Phases[abi.PhaseResponse])
			if got := uint8(i.Stack[0] >> 56); got != abi.Forward {
				b.Fatalf("got verdict %#x", i.Stack[0])
			}
		}
	})
}

func BenchmarkACL(b *testing.B) {
	i := open1(b, "acl", `-- config.json --
{"rule": [
	{"action": "drop", "tables": ["offenders"]},
	{"action": "filter", "types": ["ANY"]},
	{"action": "allow", "zones": ["corp.test", "lab.test"]},
	{"action": "allow", "clients": ["10.0.0.0/8", "172.16.0.0/12", "192.0.2.0/24", "fd00::/8"]},
	{"action": "refuse"}
]}
-- table offenders prefixes --
198.51.100.0/24
`)
	b.Run("allow", func(b *testing.B) { benchCall(b, i, abi.PhaseQuery, "www.corp.test", 1, abi.Next) })
	b.Run("refuse", func(b *testing.B) { benchCall(b, i, abi.PhaseQuery, "www.example.com", 1, abi.Respond) })
}

func BenchmarkHosts(b *testing.B) {
	var file strings.Builder
	file.WriteString("-- config.json --\n{\"tables\": [\"local\"]}\n-- table local hosts --\n")
	for n := range 10_000 {
		fmt.Fprintf(&file, "192.0.2.%d host%d.corp.test\n", n%256, n)
	}
	i := open1(b, "hosts", file.String())
	b.Run("answer", func(b *testing.B) { benchCall(b, i, abi.PhaseQuery, "host4711.corp.test", 1, abi.Respond) })
	b.Run("nodata", func(b *testing.B) { benchCall(b, i, abi.PhaseQuery, "host4711.corp.test", 28, abi.Respond) })
}

func BenchmarkRewrite(b *testing.B) {
	i := open1(b, "rewrite", `-- config.json --
{"rule": [
	{"name": "old.example.com", "to": "new.example.com"},
	{"zone": "corp.test", "to": "corp.example"},
	{"regex": "^([a-z]+)-(us|eu)\\.svc\\.test\\.$", "to": "$1.$2.svc.example"}
]}
`)
	b.Run("zone", func(b *testing.B) { benchCall(b, i, abi.PhaseQuery, "www.corp.test", 1, abi.Rewrite) })
	b.Run("regex", func(b *testing.B) { benchCall(b, i, abi.PhaseQuery, "web-eu.svc.test", 1, abi.Rewrite) })
	b.Run("none", func(b *testing.B) { benchCall(b, i, abi.PhaseQuery, "www.example.com", 1, abi.Next) })
}

func BenchmarkTemplate(b *testing.B) {
	i := open1(b, "template", `-- config.json --
{"template": [
	{"types": ["AAAA"]},
	{"zones": ["ip.test"], "types": ["A"], "regex": "^ip-([0-9]+)-([0-9]+)-([0-9]+)-([0-9]+)[.]",
	 "answer": ["{{ .Name }} 60 IN A {{ index .Match 1 }}.{{ index .Match 2 }}.{{ index .Match 3 }}.{{ index .Match 4 }}"]}
]}
`)
	b.Run("rcode", func(b *testing.B) { benchCall(b, i, abi.PhaseQuery, "www.example.com", 28, abi.Respond) })
	b.Run("record", func(b *testing.B) { benchCall(b, i, abi.PhaseQuery, "ip-192-0-2-7.ip.test", 1, abi.Respond) })
	b.Run("none", func(b *testing.B) { benchCall(b, i, abi.PhaseQuery, "www.example.com", 1, abi.Next) })
}

// BenchmarkInstantiate is what a start and each further instance cost: instantiate, _initialize, configure.
func BenchmarkInstantiate(b *testing.B) {
	for _, name := range []string{"authority", "rules", "alternate", "acl", "hosts", "rewrite", "template"} {
		b.Run(name, func(b *testing.B) {
			file := map[string]string{
				"authority": "-- config.json --\n{\"zones\": [\"corp\"]}\n-- table corp zone --\ncorp.test. 1 SOA ns. host. 1 2 3 4 5\n",
				"rules":     "-- config.json --\n{\"rule\": [{\"zone\": \".\", \"drop\": true}]}\n",
				"alternate": "-- config.json --\n{\"alternate\": [{\"nodata\": true, \"upstream\": \"a\"}]}\n-- upstreams --\na\n",
				"acl":       "-- config.json --\n{\"rule\": [{\"action\": \"refuse\", \"clients\": [\"10.0.0.0/8\"]}]}\n",
				"hosts":     "-- config.json --\n{\"tables\": [\"h\"]}\n-- table h hosts --\n192.0.2.1 a\n",
				"rewrite":   "-- config.json --\n{\"rule\": [{\"regex\": \"^(.*)[.]a[.]$\", \"to\": \"$1.b\"}]}\n",
				"template":  "-- config.json --\n{\"template\": [{\"types\": [\"AAAA\"]}]}\n",
			}[name]
			f, err := sdktest.ParseFile(name, []byte(file))
			if err != nil {
				b.Fatal(err)
			}
			module, err := driver.Module(b.Context(), name)
			if err != nil {
				b.Fatal(err)
			}
			r := guest.New(b.Context(), b, module)
			b.ReportMetric(float64(len(module)), "octets")
			for b.Loop() {
				h, err := sdktest.NewHost(f) // each has the own names of its instance
				if err != nil {
					b.Fatal(err)
				}
				i, err := r.Instantiate(h)
				if err != nil {
					b.Fatal(err)
				}
				if result, text := i.Configure(len(h.Document())); int64(result) < 0 {
					b.Fatalf("configure: %s", text)
				}
				i.Module.Close(context.Background())
			}
		})
	}
}
