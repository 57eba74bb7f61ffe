//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of processor time in /proc. It is 10 ms on every Linux that Go runs on, whatever the kernel's own clock (USER_HZ, proc(5)).
const tick = 10 * time.Millisecond

// cpuTime is processor time, in the program and in the kernel on its behalf.
type cpuTime struct{ user, system time.Duration }

func (t cpuTime) sum() time.Duration { return t.user + t.system }

func (t cpuTime) minus(u cpuTime) cpuTime { return cpuTime{t.user - u.user, t.system - u.system} }

// timeOf returns what all threads of a process have used so far, and the children that it waited for.
func timeOf(pid int) (cpuTime, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return cpuTime{}, err
	}
	return parseStat(text)
}

// parseStat reads /proc/PID/stat. The name of the program stands in parentheses and may itself have some, and spaces: what follows the last one counts.
func parseStat(text []byte) (cpuTime, error) {
	end := bytes.LastIndexByte(text, ')')
	if end < 0 {
		return cpuTime{}, errors.New("/proc/PID/stat: no name in parentheses")
	}
	fields := strings.Fields(string(text[end+1:]))
	if len(fields) < 15 {
		return cpuTime{}, fmt.Errorf("/proc/PID/stat: %d fields behind the name, want 15 at least", len(fields))
	}
	var n [4]int64 // utime, stime, cutime, cstime
	for i := range n {
		var err error
		if n[i], err = strconv.ParseInt(fields[11+i], 10, 64); err != nil {
			return cpuTime{}, fmt.Errorf("/proc/PID/stat: %w", err)
		}
	}
	return cpuTime{time.Duration(n[0]+n[2]) * tick, time.Duration(n[1]+n[3]) * tick}, nil
}

// memoryOf returns the resident memory of a process, in octets.
func memoryOf(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	return parseStatus(text)
}

// parseStatus reads VmRSS of /proc/PID/status.
func parseStatus(text []byte) (int64, error) {
	for line := range strings.Lines(string(text)) {
		rest, ok := strings.CutPrefix(line, "VmRSS:")
		if !ok {
			continue
		}
		kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/PID/status: VmRSS: %w", err)
		}
		return kb << 10, nil
	}
	return 0, errors.New("/proc/PID/status: no VmRSS")
}

// busyTime returns how long the CPUs have been busy so far, all of them together.
func busyTime() (time.Duration, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	return parseBusy(text)
}

// parseBusy reads the first line of /proc/stat: user, nice, system, idle, iowait, irq, softirq, of which idle and iowait do not count.
func parseBusy(text []byte) (time.Duration, error) {
	line, _, _ := strings.Cut(string(text), "\n")
	fields := strings.Fields(line)
	if len(fields) < 8 || fields[0] != "cpu" {
		return 0, fmt.Errorf("/proc/stat: %q is not the line of all CPUs", line)
	}
	var sum int64
	for _, i := range []int{1, 2, 3, 6, 7} {
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/stat: %w", err)
		}
		sum += n
	}
	return time.Duration(sum) * tick, nil
}
