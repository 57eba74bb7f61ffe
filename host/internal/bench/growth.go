//go:build linux

package main

import (
	"fmt"
	"time"
)

// What may grow, and how much.
const (
	growthMost       = 1.1 // times the processor time for each query
	recordMost       = 150 // octets of memory for a record, over its own
	slopeDeviation   = 0.1 // of a figure, from the line through all
	smallRecords     = 1000
	largeRecords     = 1_000_000
	memorySettleTime = 5 * time.Second
)

// growth is a configuration of some size.
type growth struct {
	ports
	Rules, Zones, Filters int
	records               int
	octets                float64 // of one record on the wire
}

// variant is a growth that runs.
type variant struct {
	title  string
	server *server
	growth
	cpu    []float64
	others float64
}

// benchGrowth measures hot queries before configurations small and large, interleaved.
func benchGrowth(o *options) error {
	up, nx, err := startUpstreams()
	if err != nil {
		return err
	}
	defer up.stop()
	defer nx.stop()
	fmt.Fprintf(o.out, "%s, %d rounds of %d s, %s: µs of processor time for each query, medians\n\n",
		time.Now().UTC().Format("2006-01-02 15:04 UTC"), o.rounds, o.seconds, machine())
	small := growth{Rules: 10, Zones: 0, records: smallRecords}
	for _, axis := range []struct {
		name string
		from string
		to   string
		grow func(*growth)
	}{
		{"rules", "10 rules", "10,000 rules", func(g *growth) { g.Rules = 10_000 }},
		{"zones", "1 zone", "1,000 zones", func(g *growth) { g.Zones = 999 }},
		{"records", "1,000 records", "1,000,000 records", func(g *growth) { g.records = largeRecords }},
	} {
		if !wants(o.only, axis.name) {
			continue
		}
		large := small
		axis.grow(&large)
		if err := compareSizes(o, up, nx, []*variant{{title: axis.from, growth: small}, {title: axis.to, growth: large}}); err != nil {
			return err
		}
	}
	if !wants(o.only, "filters") {
		return nil
	}
	var chains []*variant
	for _, n := range []int{1, 4, 7, 10} {
		chains = append(chains, &variant{title: fmt.Sprintf("%d filters", n), growth: growth{Filters: n}})
	}
	return compareChains(o, up, nx, chains)
}

// compareSizes measures a small and a large one.
func compareSizes(o *options, up, nx *upstream, v []*variant) error {
	var memory [2]float64
	var table float64 // what weir says that it takes
	err := measureAll(o, up, nx, v, func() error {
		if v[1].records == v[0].records {
			return nil
		}
		time.Sleep(memorySettleTime) // reading a file leaves garbage, which the system gets back after a while
		for i := range memory {
			n, err := memoryOf(v[i].server.pid())
			if err != nil {
				return err
			}
			memory[i] = float64(n)
		}
		m, err := metricsOf(v[1].server)
		table = m[`weir_table_octets{table="zone"}`]
		return err
	})
	if err != nil {
		return err
	}
	a, b := spreadOf(v[0].cpu), spreadOf(v[1].cpu)
	fmt.Fprintf(o.out, "%s: %s; %s: %s; ratio %.3f, target ≤ %g: %s (others up to %.0f%%)\n", v[0].title, a.format(2), v[1].title, b.format(2), b.median/a.median,
		growthMost, verdict(b.median <= growthMost*a.median), 100*max(v[0].others, v[1].others))
	if memory[1] > 0 {
		each := (memory[1] - memory[0]) / float64(v[1].records-v[0].records)
		fmt.Fprintf(o.out, "memory of %s: %.0f octets a record more in the process, %.0f in the table; a record itself has %.0f; target ≤ %d over these: %s\n", v[1].title,
			each, table/float64(v[1].records), v[1].octets, recordMost, verdict(each <= recordMost+v[1].octets))
	}
	return nil
}

// compareChains measures chains of several lengths and prints the line through them.
func compareChains(o *options, up, nx *upstream, v []*variant) error {
	if err := measureAll(o, up, nx, v, func() error { return nil }); err != nil {
		return err
	}
	var x, y []float64
	for _, c := range v {
		x, y = append(x, float64(c.Filters)), append(y, spreadOf(c.cpu).median)
	}
	base, slope := fit(x, y)
	deviation := 0.0
	for i, c := range v {
		line := base + slope*x[i]
		deviation = max(deviation, abs(y[i]-line)/line)
		fmt.Fprintf(o.out, "%s: %s, the line says %.2f (others up to %.0f%%)\n", c.title, spreadOf(c.cpu).format(2), line, 100*c.others)
	}
	fmt.Fprintf(o.out, "a filter more costs %.3f µs; off the line by %.1f%% at most, target ≤ %.0f%%: %s\n", slope, 100*deviation, 100*slopeDeviation,
		verdict(deviation <= slopeDeviation))
	return nil
}

// measureAll starts all variants, calls a function, and measures one after the other in each round.
func measureAll(o *options, up, nx *upstream, variants []*variant, started func() error) error {
	l, err := writeNames(o.dir, "half", hotNames, func(i int) string {
		if i%2 == 0 {
			return cachedName(i)
		}
		return fmt.Sprintf("host%d.held.test", i) // in the zone
	})
	if err != nil {
		return err
	}
	for i, v := range variants {
		if v.ports, err = choosePorts(o.dir, fmt.Sprintf("size%d", i), up, nx); err != nil {
			return err
		}
		if v.octets, err = writeZone(o.dir, v.Name, "test", v.records); err != nil {
			return err
		}
		for i := range v.Zones {
			if _, err := writeZone(o.dir, fmt.Sprintf("%s-%d", v.Name, i), fmt.Sprintf("z%d.more", i), 1); err != nil {
				return err
			}
		}
		if v.server, err = startWeir(o, v.ports, serverCPU, "growth.toml", v.growth); err != nil {
			return err
		}
		defer v.server.stop()
		if err := fill(v.Port, l); err != nil {
			return err
		}
	}
	if err := started(); err != nil {
		return err
	}
	for range o.rounds {
		for _, v := range variants {
			s, err := measure(v.server, []*upstream{up, nx}, func() (perf, error) { return runDnsperf(v.Port, l, "-l", fmt.Sprint(o.seconds)) })
			if err != nil {
				return err
			}
			v.cpu, v.others = append(v.cpu, s.cpu()), max(v.others, s.others)
		}
	}
	return nil
}

// fit returns the line through some points with the least squares: y = base + slope*x.
func fit(x, y []float64) (base, slope float64) {
	var meanX, meanY, xx, xy float64
	for i := range x {
		meanX += x[i] / float64(len(x))
		meanY += y[i] / float64(len(y))
	}
	for i := range x {
		xx += (x[i] - meanX) * (x[i] - meanX)
		xy += (x[i] - meanX) * (y[i] - meanY)
	}
	slope = xy / xx
	return meanY - slope*meanX, slope
}

func abs(x float64) float64 { return max(x, -x) }
