package due

import (
	"testing"
	"time"

	"github.com/weirdns/weir/host/internal/wallclock"
)

// A clock that is set moves no Moment.
func TestFaultX21Moment(t *testing.T) {
	now := time.Now()
	want := At(now)
	for _, by := range []time.Duration{0, time.Hour, -time.Hour, 10 * 365 * 24 * time.Hour} {
		if got := At(wallclock.Set(now, by)); got != want {
			t.Errorf("set by %v: got %d, want %d", by, got, want)
		}
	}
	if got := At(now.Add(time.Minute)); got != want+Moment(time.Minute) {
		t.Errorf("a minute later: got %d, want %d", got, want+Moment(time.Minute))
	}
	if got := want.Time().Sub(now); got != 0 {
		t.Errorf("there and back: %v passed", got)
	}
	old := time.Unix(1e9, 0)
	if got := At(old.Add(time.Hour)) - At(old); got != Moment(time.Hour) {
		t.Errorf("without a monotonic reading: %v passed, want an hour", time.Duration(got))
	}
}
