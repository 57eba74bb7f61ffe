package wallclock

import (
	"testing"
	"time"
)

func TestSet(t *testing.T) {
	for _, tt := range []struct {
		name string
		by   time.Duration
	}{
		{"an hour forward", time.Hour},
		{"an hour back", -time.Hour},
		{"ten years forward", 10 * 365 * 24 * time.Hour},
		{"not at all", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			now := time.Now()
			got := Set(now, tt.by)
			if wall := got.Round(0).Sub(now.Round(0)); wall != tt.by {
				t.Errorf("the wall clock went by %v, want %v", wall, tt.by)
			}
			if passed := got.Sub(now); passed != 0 {
				t.Errorf("%v have passed by the monotonic clock, want none", passed)
			}
			if later := got.Add(time.Minute).Sub(now); later != time.Minute {
				t.Errorf("a minute later is %v later, want a minute", later)
			}
		})
	}
	if old := time.Unix(1e9, 0); Set(old, time.Hour) != old {
		t.Error("a time without a monotonic reading is another one now")
	}
}
