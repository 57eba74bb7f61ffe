//go:build linux

package main

import (
	"fmt"
	"os"
	"syscall"
	"time"
)

// disturbance is how much of one CPU others may take during a measurement. One during which they take more is repeated once.
const disturbance = 0.08

// sample is one measurement of a server.
type sample struct {
	perf
	user, system float64 // processor time of the server for each completed query, in µs
	asked        float64 // queries to upstreams for each completed query
	others       float64 // how much of one CPU all processes took that have no part in this
	busy         float64 // how much of one CPU the server took
}

// cpu is the processor time of the server for each completed query, in µs.
func (s sample) cpu() float64 { return s.user + s.system }

// generator asks a server something. What it starts is not counted as others: it returns how much it took.
type generator func() (perf, error)

// measure has a generator ask a server that runs. Of two attempts, the less disturbed one counts.
func measure(s *server, upstreams []*upstream, ask generator) (sample, error) {
	best, err := attempt(s, upstreams, ask)
	if err != nil || best.others <= disturbance {
		return best, err
	}
	again, err := attempt(s, upstreams, ask)
	if err != nil || again.others >= best.others {
		return best, err
	}
	return again, nil
}

func attempt(s *server, upstreams []*upstream, ask generator) (sample, error) {
	before, err := look(s, upstreams)
	if err != nil {
		return sample{}, err
	}
	p, err := ask()
	if err != nil {
		return sample{}, fmt.Errorf("%s: %w", s.name, err)
	}
	after, err := look(s, upstreams)
	if err != nil {
		return sample{}, err
	}
	wall := after.at.Sub(before.at)
	took := after.server.minus(before.server)
	ours := took.sum() + after.ours - before.ours + p.cpu
	each := func(d time.Duration) float64 { return float64(d) / 1e3 / float64(p.completed) }
	return sample{
		perf: p,
		user: each(took.user), system: each(took.system),
		asked:  float64(after.asked-before.asked) / float64(p.completed),
		others: max(0, float64(after.busy-before.busy-ours)/float64(wall)),
		busy:   float64(took.sum()) / float64(wall),
	}, nil
}

// state is what there is to read before and after a measurement.
type state struct {
	at     time.Time
	server cpuTime
	ours   time.Duration // of this process and the upstreams
	busy   time.Duration // of all processes
	asked  int64
}

func look(s *server, upstreams []*upstream) (state, error) {
	var now state
	for _, u := range upstreams {
		n, err := u.queries()
		if err != nil {
			return now, err
		}
		now.asked += n
		t, err := timeOf(u.pid())
		if err != nil {
			return now, err
		}
		now.ours += t.sum()
	}
	var own syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &own); err != nil {
		return now, os.NewSyscallError("getrusage", err)
	}
	now.ours += time.Duration(own.Utime.Nano() + own.Stime.Nano())
	var err error
	if now.server, err = timeOf(s.pid()); err != nil {
		return now, fmt.Errorf("%s: %w", s.name, err)
	}
	if now.busy, err = busyTime(); err != nil {
		return now, err
	}
	now.at = time.Now()
	return now, nil
}
