package fuzzing

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/weirdns/weir/host/internal/cputime"
)

var sink [][]byte

// allocate keeps n octets in pieces of some size.
func allocate(n, size int) {
	sink = nil
	for ; n > 0; n -= size {
		sink = append(sink, make([]byte, size))
	}
}

// spin uses the CPU.
func spin(d time.Duration) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for start := cputime.Thread(); cputime.Thread()-start < d; {
	}
}

func TestCheck(t *testing.T) {
	for _, tt := range []struct {
		name           string
		size, constant int
		f              func()
		want           string // in the error; empty for none
	}{
		{"nothing", 0, 0, func() {}, ""},
		{"what is allowed anyway", 0, 256 << 10, func() { allocate(200<<10, 64<<10) }, ""},
		{"what is allowed for the octets", 4 << 10, 0, func() { allocate(200<<10, 64<<10) }, ""},
		{"a large object", 1 << 10, 4 << 10, func() { allocate(128<<10, 128<<10) }, "1024 octets of input take 13"},
		{"many small objects", 1 << 10, 4 << 10, func() { allocate(1<<20, 64) }, "want at most 69632"},
		{"once", 0, 4 << 10, once(func() { allocate(1<<20, 1<<20) }), ""},
		{"a slow time", 1000, 4 << 10, once(func() { spin(110 * time.Millisecond) }), ""},
		{"always slow", 1000, 4 << 10, func() { spin(110 * time.Millisecond) }, "of CPU time, want at most 101ms"},
		{"slow, with many octets", 100_000, 4 << 10, func() { spin(110 * time.Millisecond) }, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if cputime.Thread() == 0 && strings.Contains(tt.name, "slow") {
				t.Skip("this system does not tell the CPU time of a thread")
			}
			err := check(tt.size, tt.constant, tt.f)
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("got %v, want no error", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
		})
	}
}

// once returns a function that does f when it is called first.
func once(f func()) func() {
	done := false
	return func() {
		if !done {
			done = true
			f()
		}
	}
}

func BenchmarkBounded(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		Bounded(b, 100, 4<<10, func() {})
	}
}
