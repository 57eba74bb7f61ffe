//go:build linux

package main

import (
	"fmt"
	"os"
	"time"
)

// What a server must hold under overload, and beside an upstream that does not answer.
const (
	overloadFactor = 3
	overloadKept   = 0.9  // of the peak
	beside         = 0.95 // of the answers without the dead upstream
	besideLatency  = 2    // times the p99, or besideSlack
	besideSlack    = 1000 // µs
	growthKept     = 1.1  // of memory and goroutines, from the first overload to the second
)

var (
	usualMix = [classes]int{hotClass: 70, authorityClass: 10, missClass: 20}
	holeMix  = [classes]int{hotClass: 60, authorityClass: 10, missClass: 15, holeClass: 15}
	// holeMix without those for the dead upstream. It is offered at a lower rate, so that there are as many of the others.
	wholeMix = [classes]int{hotClass: 70, authorityClass: 12, missClass: 18}
)

// overloads is the state of this bench.
type overloads struct {
	*options
	server    *server
	upstreams []*upstream
	table     table
	loads     int
}

// benchOverload finds out how much weir answers at most, then offers three times of that, then has one of its upstreams go dead.
func benchOverload(o *options) error {
	up, nx, err := startUpstreams()
	if err != nil {
		return err
	}
	defer up.stop()
	defer nx.stop()
	hole, err := startUpstream(silent)
	if err != nil {
		return err
	}
	defer hole.stop()
	s, err := startUsual(o, weirName, serverCPU, up, nx, hole)
	if err != nil {
		return err
	}
	defer s.stop()
	b := &overloads{options: o, server: s, upstreams: []*upstream{up, nx, hole}}
	b.table.head = []string{"", "offered/s", "good answers/s", "hot %", "p99 µs", "authority %", "p99 µs", "miss %", "p99 µs", "hole %", "CPU µs/answer", "CPU %",
		"MiB", "goroutines", "others %"}
	if _, err := b.offer("warm-up", 20_000, usualMix, time.Second); err != nil { // so that hot names are cached
		return err
	}
	fmt.Fprintf(o.out, "%s, %s\n", time.Now().UTC().Format("2006-01-02 15:04 UTC"), machine())
	var lines []string
	for _, step := range []struct {
		name string
		run  func() ([]string, error)
	}{{"overload", b.overload}, {"hole", b.besideHole}} {
		if !wants(o.only, step.name) {
			continue
		}
		said, err := step.run()
		if err != nil {
			return err
		}
		lines = append(lines, said...)
	}
	b.table.print(o.out)
	m, err := metricsOf(s)
	if err != nil {
		return err
	}
	fmt.Fprintf(o.out, "\nqueries that weir did not wait for, since too many waited: %.0f\n", m[fmt.Sprintf(`weir_listener_shed_total{listener="127.0.0.1:%d",transport="udp"}`, s.Port)])
	for _, line := range lines {
		fmt.Fprintln(o.out, line)
	}
	return nil
}

// footprint is what a server takes besides time, at most during a load.
type footprint struct{ memory, goroutines float64 }

// shot is what became of one load.
type shot struct {
	offered
	footprint
}

// offer offers a load, and adds a line to the table.
func (b *overloads) offer(title string, rate float64, parts [classes]int, d time.Duration) (shot, error) {
	b.loads++
	l := load{port: b.server.Port, rate: rate, parts: parts, time: d, tag: fmt.Sprintf("l%d-%d", b.loads, os.Getpid())}
	watched := b.watch(d)
	var found offered
	s, err := attempt(b.server, b.upstreams, func() (p perf, err error) {
		found, p, err = l.offer()
		return p, err
	})
	took := <-watched
	if err != nil {
		return shot{}, err
	}
	row := []string{title, fmt.Sprintf("%.0f", found.rate(found.sent())), fmt.Sprintf("%.0f", found.rate(found.good()))}
	for class, o := range found.Class {
		if o.Sent == 0 {
			row = append(row, "", "")
			continue
		}
		row = append(row, fmt.Sprintf("%.1f", 100*o.share()))
		if class != holeClass {
			row = append(row, fmt.Sprintf("%.0f", o.P99))
		}
	}
	row = row[:10] // the hole has no latency
	b.table.add(append(row, fmt.Sprintf("%.2f", s.cpu()), fmt.Sprintf("%.0f", 100*s.busy), fmt.Sprintf("%.0f", took.memory), fmt.Sprintf("%.0f", took.goroutines),
		fmt.Sprintf("%.0f", 100*s.others))...)
	return shot{found, took}, nil
}

// share is how much of a class was answered with NOERROR.
func (o *outcome) share() float64 { return float64(o.Good) / float64(max(o.Sent, 1)) }

// watch looks at the server now and then for a time.
func (b *overloads) watch(d time.Duration) <-chan footprint {
	result := make(chan footprint, 1)
	go func() {
		var most footprint
		for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(d / 5) {
			if n, err := memoryOf(b.server.pid()); err == nil {
				most.memory = max(most.memory, float64(n)/(1<<20))
			}
			if m, err := metricsOf(b.server); err == nil {
				most.goroutines = max(most.goroutines, m["go_goroutines"])
			}
		}
		result <- most
	}()
	return result
}

// peak raises the rate until weir, or the generator, does not follow any more, and returns how many good answers a second there were at most.
func (b *overloads) peak() (float64, error) {
	peak := 0.0
	for rate, behind := 30_000.0, 0; behind < 2; rate *= 1.3 {
		s, err := b.offer("up to the peak", rate, usualMix, time.Duration(b.seconds)*time.Second)
		if err != nil {
			return 0, err
		}
		good := s.rate(s.good())
		peak = max(peak, good)
		if good < 0.9*rate {
			behind++
		}
	}
	return peak, nil
}

func (b *overloads) overload() ([]string, error) {
	peak, err := b.peak()
	if err != nil {
		return nil, err
	}
	lines := []string{fmt.Sprintf("peak: %.0f good answers/s", peak)}
	var kept, known, miss []float64
	var first, last footprint
	for i := range b.rounds {
		s, err := b.offer("three times the peak", overloadFactor*peak, usualMix, 2*time.Duration(b.seconds)*time.Second)
		if err != nil {
			return nil, err
		}
		kept = append(kept, s.rate(s.good())/peak)
		known = append(known, min(s.Class[hotClass].share(), s.Class[authorityClass].share()))
		miss = append(miss, s.Class[missClass].share())
		if i == 0 {
			first = s.footprint
		}
		last = s.footprint
		if got := s.rate(s.sent()); got < 0.95*overloadFactor*peak {
			lines = append(lines, fmt.Sprintf("the generator offered only %.1f times the peak", got/peak))
		}
	}
	k, n, m := spreadOf(kept), spreadOf(known), spreadOf(miss)
	return append(lines,
		fmt.Sprintf("answered of the peak: %s, target ≥ %g: %s", k.format(2), overloadKept, verdict(k.median >= overloadKept)),
		fmt.Sprintf("answered of hot and authority (the lesser): %s, of misses: %s, target: more of the former: %s", n.format(2), m.format(2), verdict(n.median >= m.median)),
		fmt.Sprintf("MiB in the first overload and in the last: %.0f, %.0f; goroutines: %.0f, %.0f; target ≤ %g times: %s", first.memory, last.memory,
			first.goroutines, last.goroutines, growthKept, verdict(last.memory <= growthKept*first.memory && last.goroutines <= growthKept*first.goroutines)),
	), nil
}

// besideHole offers the same queries for what works, with and without queries whose upstream does not answer, and compares.
func (b *overloads) besideHole() ([]string, error) {
	const rate = 40_000                              // weir is far from busy with it, and 6,000 of them go unanswered
	without := float64(100-holeMix[holeClass]) / 100 // so that the rate of the others is the same
	d := time.Duration(b.seconds) * time.Second
	type kept struct{ rate, latency []float64 }
	var found [classes]kept
	reached := [classes]bool{}
	for range b.rounds {
		plain, err := b.offer("all upstreams answer", rate*without, wholeMix, d)
		if err != nil {
			return nil, err
		}
		hole, err := b.offer("one does not", rate, holeMix, d)
		if err != nil {
			return nil, err
		}
		for class := range found {
			p, h := plain.Class[class], hole.Class[class]
			found[class].rate = append(found[class].rate, h.share()/max(p.share(), 0.001))
			found[class].latency = append(found[class].latency, (h.P99-besideSlack)/max(p.P99, 1))
		}
	}
	var lines []string
	for _, class := range []int{hotClass, authorityClass, missClass} {
		r, l := spreadOf(found[class].rate), spreadOf(found[class].latency)
		reached[class] = r.median >= beside && l.median <= besideLatency
		lines = append(lines, fmt.Sprintf("%s beside a dead upstream: answered %s of what was answered without, target ≥ %g; p99 less 1 ms: %s times, target ≤ %d: %s",
			classNames[class], r.format(3), beside, l.format(2), besideLatency, verdict(reached[class])))
	}
	return lines, nil
}
