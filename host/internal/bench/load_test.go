//go:build linux

package main

import (
	"math"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestDue(t *testing.T) {
	for _, tt := range []struct {
		name  string
		rate  float64
		since time.Duration
		sent  int64
		want  int
	}{
		{"at the start", 1000, 0, 0, 0},
		{"in time", 1000, 10 * time.Millisecond, 4, 6},
		{"nothing yet", 1000, 10 * time.Millisecond, 10, 0},
		{"ahead, after what could not be sent", 1000, 10 * time.Millisecond, 12, 0},
		{"late by more than a batch", 1e6, time.Second, 10, batchSize},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := due(tt.rate, tt.since, tt.sent); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
	// Whatever the steps in which time goes by, the rate is kept.
	var sent int64
	for now := time.Duration(0); now <= time.Second; now += 137 * time.Microsecond {
		sent += int64(due(20_000, now, sent))
	}
	if sent < 19_990 || sent > 20_000 {
		t.Errorf("after a second: got %d queries, want 20,000 or a few less", sent)
	}
}

func TestPick(t *testing.T) {
	var counts [classes]int
	for n := range 100 {
		counts[pick(&[classes]int{70, 10, 15, 5}, n)]++
	}
	if want := [classes]int{70, 10, 15, 5}; counts != want {
		t.Errorf("got %v, want %v", counts, want)
	}
	for _, mix := range [][classes]int{usualMix, holeMix, wholeMix} {
		sum := 0
		for _, part := range mix {
			sum += part
		}
		if sum != 100 {
			t.Errorf("%v has %d parts, want 100", mix, sum)
		}
	}
}

func TestHistogram(t *testing.T) {
	var h histogram
	if got := h.quantile(0.5); got != 0 {
		t.Errorf("empty: got %v, want 0", got)
	}
	for i := range 99 {
		h.add(time.Duration(i) * histogramStep)
	}
	h.add(time.Hour)
	for _, tt := range []struct{ part, want float64 }{{0, 10}, {0.5, 510}, {0.98, 990}, {0.99, 10 * float64(len(h.counts))}} {
		if got := h.quantile(tt.part); got != tt.want {
			t.Errorf("quantile %v: got %v, want %v", tt.part, got, tt.want)
		}
	}
}

// TestSender sends queries of all classes to a server that answers half of them, twice.
func TestSender(t *testing.T) {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const queries = 40
	go func() {
		m := make([]byte, datagramSize)
		for i := range queries {
			n, client, err := c.ReadFromUDPAddrPort(m)
			if err != nil {
				return
			}
			mode := answers
			if i%4 == 0 {
				mode = nxdomain
			}
			if size := answer(m, n, mode); i%2 == 0 {
				c.WriteToUDPAddrPort(m[:size], client)
				c.WriteToUDPAddrPort(m[:size], client)
			}
		}
	}()
	s, err := newSender(&load{port: c.LocalAddr().(*net.UDPAddr).Port, parts: [classes]int{25, 25, 25, 25}, tag: "t"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		for i, fd := range s.fds {
			unix.Close(fd)
			s.out[i].Close()
		}
	}()
	start := time.Now()
	s.fill(3, queries, 0)
	if err := s.send(3, queries); err != nil {
		t.Fatal(err)
	}
	for received := 0; received < queries && t.Context().Err() == nil; {
		received += s.receive(start)
	}
	var sum outcome
	for class, o := range s.outcome {
		if o.Sent == 0 {
			t.Errorf("no query of class %s", classNames[class])
		}
		sum.Sent, sum.Answered, sum.Good = sum.Sent+o.Sent, sum.Answered+o.Answered, sum.Good+o.Good
	}
	if want := (outcome{Sent: queries, Answered: queries / 2, Good: queries / 4}); sum != want {
		t.Errorf("got %+v, want %+v", sum, want)
	}
}

func TestFit(t *testing.T) {
	base, slope := fit([]float64{1, 4, 7, 10}, []float64{5, 11, 17, 23})
	if math.Abs(base-3) > 1e-9 || math.Abs(slope-2) > 1e-9 {
		t.Errorf("got %v + %v x, want 3 + 2 x", base, slope)
	}
}
