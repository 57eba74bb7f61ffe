//go:build !wasip1

package sdktest

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/weirdns/weir/abi"
	"github.com/weirdns/weir/sdk"
)

// Host is the host functions and the tables of one filter, and records what the filter tells it. A fault that the contract
// names, such as a table that does not exist, panics: a test sees it.
type Host struct {
	File      *File              // what it is made of
	Explained []string           // lines of explain, since the last call of a phase began
	Logged    []string           // lines of the log
	Metrics   map[string]float64 // counters by name, and the sums of histograms

	document []byte
	tables   []*table
	own      *table   // the filter's own names, the last of tables; nil until it adds one
	names    []string // of metrics, by number
	lines    int      // of the log, when the last call of a phase began
	mute     bool     // the log is not kept, which would allocate
	calls    int      // of host functions, since the last call of a phase began
}

// NewHost returns a host for the tables and the configuration of a file.
func NewHost(f *File) (*Host, error) {
	h := &Host{File: f, Metrics: map[string]float64{}}
	type info struct {
		Name string `json:"name"`
		Kind string `json:"kind"`
	}
	document := struct {
		Filter    string          `json:"filter"`
		Config    json.RawMessage `json:"config"`
		Upstreams []string        `json:"upstreams"`
		Tables    []info          `json:"tables"`
	}{"test", f.Config, f.Upstreams, []info{}}
	if document.Upstreams == nil {
		document.Upstreams = []string{}
	}
	for _, t := range f.tables {
		table, err := newTable(t.name, t.kind, t.text)
		if err != nil {
			return nil, fmt.Errorf("%s: table %s: %w", f.Name, t.name, err)
		}
		h.tables = append(h.tables, table)
		document.Tables = append(document.Tables, info{t.name, t.kind})
	}
	var err error
	h.document, err = json.Marshal(document)
	return h, err
}

// Document returns the configuration document that the host gives to the filter.
func (h *Host) Document() []byte { return h.document }

// begin is called before each call of a phase.
func (h *Host) begin() { h.Explained, h.lines, h.calls = nil, len(h.Logged), 0 }

func (h *Host) count() {
	if h.calls++; h.calls > abi.MaxHostCalls {
		panic("sdktest: more calls of host functions than the contract allows")
	}
}

// ConfigRead, and the methods below, are the host functions: see [sdk.Host].
func (h *Host) ConfigRead(offset uint32, p []byte) uint32 {
	if int(offset) > len(h.document) {
		return 0
	}
	return uint32(copy(p[:min(len(p), 1000)], h.document[offset:])) // in pieces, as the contract allows
}

// Explain implements [sdk.Host].
func (h *Host) Explain(line []byte) {
	h.count()
	if len(h.Explained) < abi.MaxExplainLines {
		h.Explained = append(h.Explained, string(line[:min(len(line), abi.MaxExplainSize)]))
	}
}

// Log implements [sdk.Host].
func (h *Host) Log(level uint32, line []byte) {
	if h.count(); h.mute {
		return
	}
	h.Logged = append(h.Logged, fmt.Sprintf("%d %s", level, line))
}

// Metric implements [sdk.Host].
func (h *Host) Metric(kind uint32, name []byte) uint32 {
	if kind > abi.MetricHistogram || len(h.names) == abi.MaxMetrics {
		panic("sdktest: a metric of an unknown kind, or too many of them")
	}
	for i, n := range h.names {
		if n == string(name) {
			return uint32(i)
		}
	}
	h.names = append(h.names, string(name))
	return uint32(len(h.names) - 1)
}

// NameAdd implements [sdk.Host].
func (h *Host) NameAdd(name []byte) int32 {
	canonical := bytes.Clone(name)
	sdk.Canonicalize(canonical)
	if sdk.CheckName(name) != len(name) || !bytes.Equal(canonical, name) {
		panic(fmt.Sprintf("sdktest: name_add of %q, which is no canonical name", name))
	}
	if h.own == nil {
		h.own = &table{kind: abi.TableNames, values: map[string][]byte{}}
		h.tables = append(h.tables, h.own)
	}
	if v, ok := h.own.values[string(name)]; ok {
		return int32(-1 - int(binary.LittleEndian.Uint32(v)))
	}
	n := uint32(len(h.own.values))
	h.own.values[string(name)] = binary.LittleEndian.AppendUint32(nil, n)
	return int32(n)
}

// MetricAdd implements [sdk.Host].
func (h *Host) MetricAdd(number uint32, value float64) {
	h.count()
	h.Metrics[h.names[number]] += value
}

// TableGet implements [sdk.Host].
func (h *Host) TableGet(number uint32, key, out []byte) int64 {
	h.count()
	value, ok := h.tables[number].values[string(key)]
	return give(len(key), value, ok, out)
}

// TableLongest implements [sdk.Host].
func (h *Host) TableLongest(number uint32, name, out []byte) int64 {
	h.count()
	value, size, ok := h.tables[number].longest(name)
	return give(size, value, ok, out)
}

// TableExact is TableLongest for a name that is a key: one look into a map, for benchmarks of what calls it. It counts no calls.
func (h *Host) TableExact(number uint32, name, out []byte) int64 {
	if int(number) >= len(h.tables) {
		return -1
	}
	value, ok := h.tables[number].values[string(name)]
	return give(len(name), value, ok, out)
}

// TableNext implements [sdk.Host].
func (h *Host) TableNext(number uint32, key, out []byte) int64 {
	h.count()
	t := h.tables[number]
	next, ok := t.next(key)
	if !ok {
		return -1
	}
	value := t.values[next]
	if len(next)+len(value) <= len(out) {
		copy(out[copy(out, next):], value)
	}
	return int64(len(next))<<32 | int64(len(value))
}

// TablePrefix implements [sdk.Host].
func (h *Host) TablePrefix(number uint32, address, out []byte) int64 {
	h.count()
	value, bits, ok := h.tables[number].prefix(address)
	return give(bits, value, ok, out)
}

// give copies a value, if it fits, and makes the result of a table function.
func give(matched int, value []byte, ok bool, out []byte) int64 {
	if !ok {
		return -1
	}
	if len(value) <= len(out) {
		copy(out, value)
	}
	return int64(matched)<<32 | int64(len(value))
}

// Instance is one instance of a filter, native or Wasm, as a host sees it.
type Instance interface {
	// Configure has the filter read a document of size octets, and returns the result of section 4 of the contract, and the
	// octets of its text if it is an error.
	Configure(size int) (result uint64, text []byte)
	// Frame returns the frame for the next call.
	Frame() []byte
	// Call calls a phase, and returns the verdict and the octets that it points to.
	Call(phase uint8) (verdict uint64, octets []byte)
}

// Open makes an instance of a filter that calls the functions of h.
type Open func(h *Host) (Instance, error)

// Native opens instances of a filter that runs in this process.
func Native(newFilter func() sdk.Filter) Open {
	return func(h *Host) (Instance, error) { return &native{host: h, instance: sdk.NewInstance(newFilter())}, nil }
}

// running is held while a filter runs: package sdk has one host at a time.
var running sync.Mutex

type native struct {
	host     *Host
	instance *sdk.Instance
}

func (n *native) Configure(size int) (uint64, []byte) {
	running.Lock()
	defer running.Unlock()
	defer sdk.Bind(sdk.Bind(n.host))
	result := n.instance.Configure(size)
	return result, n.instance.Octets()
}

func (n *native) Frame() []byte { return n.instance.Frame() }

func (n *native) Call(phase uint8) (uint64, []byte) {
	running.Lock()
	defer running.Unlock()
	defer sdk.Bind(sdk.Bind(n.host))
	var verdict uint64
	if phase == abi.PhaseQuery {
		verdict = n.instance.Query()
	} else {
		verdict = n.instance.Response()
	}
	return verdict, n.instance.Octets()
}
