package due

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestSeldom(t *testing.T) {
	var s Seldom
	start := time.Now()
	for _, tt := range []struct {
		after time.Duration
		want  bool
	}{{0, true}, {0, false}, {59 * time.Second, false}, {time.Minute, true}, {time.Minute, false}, {time.Hour, true}} {
		if got := s.Due(start.Add(tt.after), time.Minute); got != tt.want {
			t.Errorf("after %v: got %v, want %v", tt.after, got, tt.want)
		}
	}
	var said atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if s.Due(start.Add(2*time.Hour), time.Minute) {
				said.Add(1)
			}
		})
	}
	if all.Wait(); said.Load() != 1 {
		t.Errorf("of eight at a time, %d were told so, want 1", said.Load())
	}
}
