//go:build linux

package main

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// perf is what dnsperf found.
type perf struct {
	sent, completed, lost int64
	qps                   float64
	latency               time.Duration // average
	noerror               int64
	cpu                   time.Duration // that dnsperf itself took
}

// runDnsperf has dnsperf ask a server what is in a list, with 100 queries on their way from 20 sockets.
func runDnsperf(port int, list string, args ...string) (perf, error) {
	return runDnsperfOn(generatorCPU, port, list, args...)
}

func runDnsperfOn(cpus string, port int, list string, args ...string) (perf, error) {
	args = append([]string{"-s", "127.0.0.1", "-p", strconv.Itoa(port), "-c", "20", "-T", "1", "-q", "100", "-d", list}, args...)
	cmd := command(cpus, "dnsperf", args...)
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil {
		return perf{}, fmt.Errorf("dnsperf %s: %w: %s", strings.Join(args, " "), err, complaints.Bytes())
	}
	p, err := parsePerf(out.String())
	p.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return p, err
}

// parsePerf reads the statistics that dnsperf prints.
func parsePerf(text string) (perf, error) {
	var p perf
	seen := 0
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok {
			continue
		}
		value = strings.TrimSpace(value)
		first, _, _ := strings.Cut(value, " ")
		var err error
		switch key {
		case "Queries sent":
			p.sent, err = strconv.ParseInt(first, 10, 64)
		case "Queries completed":
			p.completed, err = strconv.ParseInt(first, 10, 64)
		case "Queries lost":
			p.lost, err = strconv.ParseInt(first, 10, 64)
		case "Queries per second":
			p.qps, err = strconv.ParseFloat(first, 64)
		case "Average Latency (s)":
			var seconds float64
			seconds, err = strconv.ParseFloat(first, 64)
			p.latency = time.Duration(math.Round(seconds * 1e9))
		case "Response codes": // NOERROR 2000 (100.00%), SERVFAIL 3 (0.00%)
			p.noerror, err = countOf(value, "NOERROR")
		default:
			continue
		}
		if err != nil {
			return p, fmt.Errorf("dnsperf: %q: %w", strings.TrimSpace(line), err)
		}
		seen++
	}
	if p.completed == 0 || seen < 6 {
		return p, fmt.Errorf("dnsperf: no query was answered, or it prints something else: %q", text)
	}
	return p, nil
}

// countOf returns the number behind a name in a list such as "NOERROR 2000 (100.00%), SERVFAIL 3 (0.15%)", 0 if it isn't there.
func countOf(list, name string) (int64, error) {
	for item := range strings.SplitSeq(list, ", ") {
		if fields := strings.Fields(item); len(fields) > 1 && fields[0] == name {
			return strconv.ParseInt(fields[1], 10, 64)
		}
	}
	return 0, nil
}
