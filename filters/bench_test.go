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

// BenchmarkInstantiate is what a start and each further instance cost: instantiate, _initialize, configure.
func BenchmarkInstantiate(b *testing.B) {
	for _, name := range []string{"authority", "rules", "alternate"} {
		b.Run(name, func(b *testing.B) {
			file := map[string]string{
				"authority": "-- config.json --\n{\"zones\": [\"corp\"]}\n-- table corp zone --\ncorp.test. 1 SOA ns. host. 1 2 3 4 5\n",
				"rules":     "-- config.json --\n{\"rule\": [{\"zone\": \".\", \"drop\": true}]}\n",
				"alternate": "-- config.json --\n{\"alternate\": [{\"nodata\": true, \"upstream\": \"a\"}]}\n-- upstreams --\na\n",
			}[name]
			f, err := sdktest.ParseFile(name, []byte(file))
			if err != nil {
				b.Fatal(err)
			}
			h, err := sdktest.NewHost(f)
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
