//go:build linux

package main

import (
	"strings"
	"testing"
	"time"
)

const perfOutput = `DNS Performance Testing Tool
Version 2.10.0

[Status] Command line: dnsperf -s 127.0.0.1 -l 1
[Status] Sending queries (to 127.0.0.1:5300)
[Status] Started at: Sat Nov 21 09:00:00 2026
[Status] Stopping after 1.000000 seconds
[Status] Testing complete (time limit)

Statistics:

  Queries sent:         200100
  Queries completed:    200050 (99.98%)
  Queries lost:         50 (0.02%)

  Response codes:       NOERROR 200000 (99.98%), SERVFAIL 50 (0.02%)
  Average packet size:  request 34, response 50
  Run time (s):         1.000100
  Queries per second:   200029.997000

  Average Latency (s):  0.000493 (min 0.000021, max 0.004100)
  Latency StdDev (s):   0.000180
`

func TestParsePerf(t *testing.T) {
	got, err := parsePerf(perfOutput)
	want := perf{sent: 200100, completed: 200050, lost: 50, qps: 200029.997, latency: 493 * time.Microsecond, noerror: 200000}
	if err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	for _, tt := range []struct{ name, old, new string }{
		{"nobody answers", "completed:    200050", "completed:    0"},
		{"no number", "sent:         200100", "sent:         many"},
		{"a line is missing", "  Queries per second:   200029.997000\n", ""},
		{"no output", perfOutput, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := parsePerf(strings.Replace(perfOutput, tt.old, tt.new, 1)); err == nil {
				t.Errorf("got %+v, want an error", got)
			}
		})
	}
}
