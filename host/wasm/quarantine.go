package wasm

import (
	"log/slog"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirdns/weir/host/due"
)

// A filter that keeps failing is not called: each fault costs an instance, and what the query gets is known. From time to time one call
// tries whether it is well again.
const (
	faultsInRow   = 8                // that many one after the other
	faultsOf64    = 32               // or more than that among the last 64 calls
	probeFirst    = time.Second      // until the first try
	probeMost     = 60 * time.Second // the time between tries doubles up to this
	relapseWithin = 60 * time.Second // who fails again so soon after quarantine goes on with the long times
)

// quarantine knows how the last calls of a filter ended. While all is well, a call only reads two words that nobody writes.
type quarantine struct {
	now    func() time.Time
	logger *slog.Logger
	off    defence

	history atomic.Uint64 // a bit for each of the last 64 calls, 1 is a fault; 0: all is well
	until   atomic.Int64  // due.Moment when the next call may try; 0: not in quarantine
	trying  atomic.Bool   // that call is under way

	mu      sync.Mutex // guards what follows
	backoff time.Duration
	left    time.Time // when the last quarantine ended
}

// admit reports whether the filter may be called now.
func (q *quarantine) admit() bool {
	until := q.until.Load()
	if until == 0 {
		return true
	}
	now := q.now()
	if int64(due.At(now)) < until {
		return false
	}
	// One call tries; the others wait for how it ends. Should it never say, the next one tries after the same time.
	if !q.until.CompareAndSwap(until, int64(due.At(now.Add(probeFirst)))) {
		return false
	}
	q.trying.Store(true)
	return true
}

// ok notes a call without fault.
func (q *quarantine) ok() {
	if h := q.history.Load(); h != 0 {
		q.history.CompareAndSwap(h, h<<1) // one of several at the same time is enough
	}
	if q.until.Load() != 0 && q.trying.Swap(false) { // else it is a call that began before the quarantine
		q.leave()
	}
}

func (q *quarantine) leave() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.until.Load() == 0 {
		return
	}
	q.left = q.now()
	q.history.Store(0)
	q.until.Store(0)
	q.logger.Info("filter works again: it is out of quarantine")
}

// fault notes a fault. err is what it was.
func (q *quarantine) fault(err error) {
	var h uint64
	for {
		old := q.history.Load()
		h = old<<1 | 1
		if q.history.CompareAndSwap(old, h) {
			break
		}
	}
	const row = 1<<faultsInRow - 1
	if q.until.Load() == 0 && h&row != row && bits.OnesCount64(h) <= faultsOf64 || q.off&offQuarantine != 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	if q.until.Load() != 0 {
		if q.trying.Swap(false) {
			q.backoff = min(2*q.backoff, probeMost)
			q.until.Store(int64(due.At(now.Add(q.backoff))))
		}
		return
	}
	if now.Sub(q.left) < relapseWithin {
		q.backoff = min(2*q.backoff, probeMost)
	} else {
		q.backoff = probeFirst
	}
	q.until.Store(int64(due.At(now.Add(q.backoff))))
	q.logger.Error("filter keeps failing: it is in quarantine, and its queries get what on_error says", "error", err, "next_try", q.backoff.String())
}

// active reports whether the filter is in quarantine.
func (q *quarantine) active() bool { return q.until.Load() != 0 }
