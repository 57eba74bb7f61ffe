//go:build linux

package main

import (
	"os"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       cpuTime
		fails      bool
	}{
		{name: "a server", text: "7 (weir) S 1 7 7 0 -1 4194560 9 0 0 0 120 34 0 0 20 0 9 0 1 2 3\n", want: cpuTime{1200 * time.Millisecond, 340 * time.Millisecond}},
		{name: "children that were waited for", text: "7 (dnsmasq) S 1 7 7 0 -1 4194560 9 0 0 0 1 2 10 20 20 0 9", want: cpuTime{110 * time.Millisecond, 220 * time.Millisecond}},
		{name: "a name with spaces and parentheses", text: "7 (a) b (c) S 1 7 7 0 -1 4194560 9 0 0 0 3 4 0 0 20 0 9", want: cpuTime{30 * time.Millisecond, 40 * time.Millisecond}},
		{name: "cut off", text: "7 (weir) S 1 7 7 0 -1 4194560 9 0 0 0 3", fails: true},
		{name: "no name", text: "7 weir S 1", fails: true},
		{name: "no number", text: "7 (weir) S 1 7 7 0 -1 4194560 9 0 0 0 x 4 0 0 20 0 9", fails: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseStat([]byte(tt.text))
			if (err != nil) != tt.fails || !tt.fails && got != tt.want {
				t.Errorf("got %v, %v; want %v, fails %v", got, err, tt.want, tt.fails)
			}
		})
	}
}

func TestParseStatus(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       int64
		fails      bool
	}{
		{name: "a process", text: "Name:\tweir\nVmHWM:\t  5000 kB\nVmRSS:\t    4321 kB\nThreads:\t9\n", want: 4321 << 10},
		{name: "a thread of the kernel has none", text: "Name:\tkthreadd\n", fails: true},
		{name: "no number", text: "VmRSS:\t much kB\n", fails: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseStatus([]byte(tt.text))
			if (err != nil) != tt.fails || got != tt.want {
				t.Errorf("got %d, %v; want %d, fails %v", got, err, tt.want, tt.fails)
			}
		})
	}
}

func TestParseBusy(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       time.Duration
		fails      bool
	}{
		{name: "idle and iowait do not count, nor steal", text: "cpu  1 20 300 9999 8888 4000 50000 7777 0 0\ncpu0 1\n", want: 54321 * tick},
		{name: "an old kernel", text: "cpu  1 20 300 9999\n", fails: true},
		{name: "another line", text: "intr 1 2 3 4 5 6 7 8\n", fails: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseBusy([]byte(tt.text))
			if (err != nil) != tt.fails || got != tt.want {
				t.Errorf("got %v, %v; want %v, fails %v", got, err, tt.want, tt.fails)
			}
		})
	}
}

// TestProc reads what this system says of this process.
func TestProc(t *testing.T) {
	if _, err := timeOf(os.Getpid()); err != nil {
		t.Error(err)
	}
	if n, err := memoryOf(os.Getpid()); err != nil || n < 1<<20 {
		t.Errorf("memory of this process: got %d, %v; want more than a MiB", n, err)
	}
	if d, err := busyTime(); err != nil || d <= 0 {
		t.Errorf("busy time: got %v, %v; want some", d, err)
	}
}
