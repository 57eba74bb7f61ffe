package wasm

import (
	"bytes"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weirdns/weir/host/chain"
	"github.com/weirdns/weir/host/message"
	"github.com/weirdns/weir/host/wasm/wat"
)

// TestMain lets the test binary be the child that compiles.
func TestMain(m *testing.M) {
	CompileChild()
	os.Exit(m.Run())
}

// buffer is a log that a test reads.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// rig is a runtime for a test.
type rig struct {
	*Runtime
	log     *buffer
	metrics *prometheus.Registry
}

// newRig makes a runtime with a cache of its own, without the given defences.
func newRig(t testing.TB, off defence, change ...func(*RuntimeConfig)) *rig {
	t.Helper()
	r := &rig{log: &buffer{}, metrics: prometheus.NewRegistry()}
	c := RuntimeConfig{
		CacheDir: t.TempDir(), Metrics: NewMetrics(r.metrics), off: off,
		Log: slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, f := range change {
		f(&c)
	}
	var err error
	if r.Runtime, err = NewRuntime(c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// open opens a module that is trusted, so that no child is needed.
func (r *rig) open(t testing.TB, module []byte, c Config) *Filter {
	t.Helper()
	f, err := r.Open(t.Context(), "test", c, Environment{Module: module, Bundled: true, Upstreams: []string{"a", "b"}})
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(f.Close)
	return f
}

// query is a call for a query for www.Example.test., from UDP.
func query(t testing.TB) *chain.Call {
	t.Helper()
	return ask(t, "\x03www\x07Example\x04test\x00\x00\x01\x00\x01")
}

// ask is a call for a query with a question in wire format.
func ask(t testing.TB, question string) *chain.Call {
	t.Helper()
	wire := append([]byte{0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}, question...)
	q := new(message.Query)
	if rcode, ok := q.Parse(wire); !ok {
		t.Fatalf("Parse: %s", message.RCODEString(rcode))
	}
	q.Client = netip.MustParseAddrPort("192.0.2.1:5353")
	q.Scope = message.None
	return &chain.Call{Query: q, Limit: 1232, EDE: message.None}
}

// response is a call for a response with that RCODE.
func response(t testing.TB, rcode uint16) *chain.Call {
	t.Helper()
	c := query(t)
	c.Response = new(message.Response)
	c.Response.SetRCODE(nil, c.Query, rcode)
	return c
}

// guest assembles a module with a frame at 1024, a manifest with all grants, and the given fields.
func guest(t testing.TB, fields string) []byte {
	t.Helper()
	return assemble(t, `(memory (export "memory") 2)
	(@custom "weir" "{\"name\":\"test\",\"version\":\"1.0.0\",\"abi\":1,\"grants\":[\"forward\",\"ask\",\"rewrite\",\"tables\",\"log\",\"metrics\"]}")
	(func (export "weir_abi_1") (result i32) (i32.const 1024))
	`+fields)
}

// assemble puts imports first, where they have to be.
func assemble(t testing.TB, fields string) []byte {
	t.Helper()
	var imports, others []string
	for _, line := range strings.SplitAfter(fields, "\n") {
		if strings.HasPrefix(strings.TrimSpace(line), "(import") {
			imports = append(imports, line)
		} else {
			others = append(others, line)
		}
	}
	module, err := wat.Compile("(module\n" + strings.Join(imports, "") + strings.Join(others, "") + ")")
	if err != nil {
		t.Fatal(err)
	}
	return module
}

// clock is a clock that a test turns.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// stopped gives a runtime a clock that stands still.
func stopped(c *RuntimeConfig) { c.Now = (&clock{now: time.Unix(1e9, 0)}).Now }

// clientOf makes a client from any octets: none, IPv4, or IPv6.
func clientOf(b []byte, port uint16) netip.AddrPort {
	a, _ := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(a, port)
}
