// Package fuzzing has the oracle of cost that the targets share which read octets from outside: whatever the octets are, reading them
// takes memory and time in proportion to their number.
package fuzzing

import (
	"fmt"
	"math"
	"runtime"
	"runtime/metrics"
	"testing"
	"time"

	"github.com/weirdns/weir/host/internal/cputime"
)

const (
	// perOctet is how many octets of memory one octet from outside may take: a name of a few octets becomes a record with a header, a string and
	// pointers to them, and slices grow by doubling. What goes above that grows faster than its input.
	perOctet = 64

	// timeAnyway and timePerOctet bound the CPU time. No input of the corpus takes a hundredth of that, with the fuzzer's counters in the code: only an
	// algorithm that is quadratic, or worse, in what somebody else has sent meets it, and a machine that is busy does not.
	timeAnyway   = 100 * time.Millisecond
	timePerOctet = time.Microsecond

	// repeats is how often f is called again when it seems to have taken too much. Others allocate too, and a thread's time has interrupts in it,
	// but f itself takes what it takes each time: the least counts.
	repeats = 5
)

// allocated is the cheap count of the octets that all goroutines have ever allocated: which takes a microsecond, and small objects are counted a span at a time.
const allocated = "/gc/heap/allocs:bytes"

// Bounded calls f, which reads size octets from outside, and reports a failure of tb if that allocates more than 64 octets for each of them and
// constant, which is what f takes for an input of any size: its buffers, and whatever a test puts around them. It reports a failure too if f takes
// more CPU time than 100 ms and a microsecond for each octet. f is called again if it seems to be either, and must do the same then.
// Bounded costs three microseconds, so that it can be in each execution of a fuzz target.
func Bounded(tb testing.TB, size, constant int, f func()) {
	if err := check(size, constant, f); err != nil {
		tb.Helper() // here, as it takes longer than all else
		tb.Error(err)
	}
}

func check(size, constant int, f func()) error {
	sample := [1]metrics.Sample{{Name: allocated}}
	memory, limit := uint64(perOctet*size+constant), timeAnyway+time.Duration(size)*timePerOctet
	metrics.Read(sample[:])
	before, start := sample[0].Value.Uint64(), time.Now()
	f()
	took := time.Since(start)
	metrics.Read(sample[:])
	if sample[0].Value.Uint64()-before > memory {
		if least := leastMemory(f); least > memory {
			return fmt.Errorf("%d octets of input take %d of memory, want at most %d", size, least, memory)
		}
	}
	if took > limit {
		if least := leastTime(f); least > limit {
			return fmt.Errorf("%d octets of input take %v of CPU time, want at most %v", size, least, limit)
		}
	}
	return nil
}

// leastMemory counts exactly, for which the world has to stop.
func leastMemory(f func()) uint64 {
	least := uint64(math.MaxUint64)
	var before, after runtime.MemStats
	for range repeats {
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		least = min(least, after.TotalAlloc-before.TotalAlloc)
	}
	return least
}

func leastTime(f func()) time.Duration {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	least := time.Duration(math.MaxInt64)
	for range repeats {
		start := cputime.Thread()
		f()
		least = min(least, cputime.Thread()-start)
	}
	return least
}
