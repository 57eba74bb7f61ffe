//go:build linux

package main

import (
	"fmt"
	"runtime"
	"strings"
	"time"
)

// What a second CPU must bring.
const (
	coresThroughput = 1.8 // times that of one
	coresCPU        = 1.1 // times the processor time for each query
)

// placement is where weir and the generator are, by lists of CPUs, and how many queries are on their way.
type placement struct {
	title, server, generator string
	waiting                  int
	samples                  []sample
}

// benchCores measures hot queries with weir on one CPU and on two. With less than four, the generator shares the two with it, and the throughput says little: then
// the processor time for each query decides, beside that of weir on one of two CPUs that the generator keeps busy. As many queries are on their way for each of weir's CPUs: with fewer, it
// reads fewer at a time, and is woken more often for the same. What that costs is printed, too.
func benchCores(o *options) error {
	up, nx, err := startUpstreams()
	if err != nil {
		return err
	}
	defer up.stop()
	defer nx.stop()
	l, err := newLists(o.dir)
	if err != nil {
		return err
	}
	variants := []placement{
		{title: "one CPU", server: "0", generator: "1", waiting: 100},
		{title: "half as many queries for each of two", server: "0,1", generator: "0,1", waiting: 100},
		{title: "one, shared", server: "0", generator: "0,1", waiting: 100},
		{title: "two, shared", server: "0,1", generator: "0,1", waiting: 200},
	}
	apart := runtime.NumCPU() >= 4
	if apart {
		variants = []placement{
			{title: "half as many queries for each of two", server: "0,1", generator: "2,3", waiting: 100},
			{title: "one CPU", server: "0", generator: "2,3", waiting: 100},
			{title: "two CPUs", server: "0,1", generator: "2,3", waiting: 200},
		}
	}
	for range o.rounds {
		for i := range variants {
			v := &variants[i]
			s, err := startUsual(o, strings.ReplaceAll(v.title, " ", "-"), v.server, up, nx, nil)
			if err != nil {
				return err
			}
			found, err := func() (sample, error) {
				defer s.stop()
				if err := fill(s.Port, l.hot); err != nil {
					return sample{}, err
				}
				return measure(s, []*upstream{up, nx}, func() (perf, error) {
					return runDnsperfOn(v.generator, s.Port, l.hot, "-T", "2", "-c", fmt.Sprint(v.waiting/5), "-q", fmt.Sprint(v.waiting), "-l", fmt.Sprint(o.seconds))
				})
			}()
			if err != nil {
				return err
			}
			v.samples = append(v.samples, found)
		}
	}
	fmt.Fprintf(o.out, "%s, %d rounds of %d s, %s\n\n", time.Now().UTC().Format("2006-01-02 15:04 UTC"), o.rounds, o.seconds, machine())
	t := table{head: []string{"weir on", "CPUs", "dnsperf on", "on their way", "CPU µs/query", "CPU %", "queries/s", "others %"}}
	var cpu, qps []float64
	for _, v := range variants {
		of := func(f func(sample) float64) spread { return spreadOf(column(v.samples, f)) }
		cpu, qps = append(cpu, of(sample.cpu).median), append(qps, of(func(s sample) float64 { return s.qps }).median)
		t.add(v.title, v.server, v.generator, fmt.Sprint(v.waiting), of(sample.cpu).format(2), fmt.Sprintf("%.0f", 100*of(func(s sample) float64 { return s.busy }).median),
			of(func(s sample) float64 { return s.qps }).format(0), fmt.Sprintf("%.0f", 100*of(func(s sample) float64 { return s.others }).max))
	}
	t.print(o.out)
	one, two := len(variants)-2, len(variants)-1
	fmt.Fprintf(o.out, "\nCPU for each query, %s beside %s: ratio %.3f, target ≤ %g: %s\n", variants[two].title, variants[one].title, cpu[two]/cpu[one], coresCPU,
		verdict(cpu[two] <= coresCPU*cpu[one]))
	fmt.Fprintf(o.out, "with %s: ratio %.3f\n", variants[one-1].title, cpu[one-1]/cpu[one])
	if apart {
		fmt.Fprintf(o.out, "throughput: ratio %.2f, target ≥ %g: %s\n", qps[two]/qps[one], coresThroughput, verdict(qps[two] >= coresThroughput*qps[one]))
	} else {
		fmt.Fprintf(o.out, "throughput: ratio %.2f; with %d CPUs the generator shares them, so this is not weir's limit\n", qps[two]/qps[one], runtime.NumCPU())
	}
	return nil
}
