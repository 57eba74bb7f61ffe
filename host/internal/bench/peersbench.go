//go:build linux

package main

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// contender is a server that takes part, with what was measured of it.
type contender struct {
	name    string
	peer    *peer // nil for weir
	server  *server
	samples map[string][]sample                     // by workload
	memory  struct{ before, after, more []float64 } // MiB, of the workload memory
}

// benchPeers measures weir beside the peers that there are, and prints the figures and whether weir reaches its targets.
func benchPeers(o *options) error {
	if err := install(o); err != nil {
		return err
	}
	contenders := choose(o)
	up, nx, err := startUpstreams()
	if err != nil {
		return err
	}
	defer up.stop()
	defer nx.stop()
	return compare(o, contenders, up, nx)
}

// choose returns weir, and the peers that there are.
func choose(o *options) []*contender {
	contenders := []*contender{newContender(weirName, nil)}
	for i := range peers {
		p := &peers[i]
		switch {
		case p.name != dnsdistName && !wants(o.peers, p.name):
		case available(p.binary):
			contenders = append(contenders, newContender(p.name, p))
		default:
			fmt.Fprintf(o.out, "skipped: %s, there is no %s\n", p.name, p.binary)
		}
	}
	return contenders
}

// startUpstreams starts the one that answers and the one that knows no name.
func startUpstreams() (up, nx *upstream, err error) {
	if up, err = startUpstream(answers); err != nil {
		return nil, nil, err
	}
	if nx, err = startUpstream(nxdomain); err != nil {
		up.stop()
	}
	return up, nx, err
}

// compare measures all workloads with all contenders in each round, and reports.
func compare(o *options, contenders []*contender, up, nx *upstream) error {
	l, err := newLists(o.dir)
	if err != nil {
		return err
	}
	for i := range o.rounds {
		fmt.Fprintf(o.out, "round %d of %d\n", i+1, o.rounds)
		order := slices.Clone(contenders)
		if i%2 == 1 { // a machine that is quicker for a moment, or after a rest, is so for each of them
			slices.Reverse(order)
		}
		if err := round(o, order, l, up, nx); err != nil {
			return err
		}
	}
	report(o, contenders)
	return nil
}

func newContender(name string, p *peer) *contender {
	return &contender{name: name, peer: p, samples: map[string][]sample{}}
}

// round starts all servers, and measures each workload with one after the other: what is compared is as close in time as it can be.
func round(o *options, contenders []*contender, l *lists, up, nx *upstream) error {
	upstreams := []*upstream{up, nx}
	for _, c := range contenders {
		var err error
		if c.peer == nil {
			c.server, err = startUsual(o, c.name, serverCPU, up, nx, nil)
		} else {
			c.server, err = c.peer.start(o.dir, up, nx)
		}
		if err != nil {
			return err
		}
		defer c.server.stop()
		if err := fill(c.server.Port, l.hot); err != nil {
			return err
		}
	}
	for i := range workloads {
		w := &workloads[i]
		if !wants(o.only, w.name) && !(w.name == memory && wants(o.only, "uniform")) { // which needs full caches
			continue
		}
		for _, c := range contenders {
			port := w.port(c.server, c.peer == nil, c.peer)
			switch {
			case port == 0:
			case w.name == memory:
				if err := c.fillCache(l); err != nil {
					return err
				}
			default:
				s, err := w.run(o, l, c.server, port, upstreams)
				if err != nil {
					return err
				}
				c.samples[w.name] = append(c.samples[w.name], s)
			}
		}
		if w.name == "hot" {
			weir := contenders[slices.IndexFunc(contenders, func(c *contender) bool { return c.peer == nil })]
			if err := printCalls(o, weir.server); err != nil {
				return err
			}
		}
	}
	return nil
}

// fillCache has the server cache 100,000 names more, and takes down what memory that takes.
func (c *contender) fillCache(l *lists) error {
	before, err := memoryOf(c.server.pid())
	if err != nil {
		return err
	}
	if err := fill(c.server.Port, l.all); err != nil {
		return err
	}
	after, err := memoryOf(c.server.pid())
	if err != nil {
		return err
	}
	const mib = 1 << 20
	m := &c.memory
	m.before, m.after = append(m.before, float64(before)/mib), append(m.after, float64(after)/mib)
	m.more = append(m.more, float64(after-before)/mib)
	return nil
}

// figures are the values of a contender that count for a workload: µs for each query, or MiB.
func (c *contender) figures(w *workload) []float64 {
	if w.name == memory {
		return c.memory.more
	}
	return column(c.samples[w.name], sample.cpu)
}

func column(samples []sample, of func(sample) float64) []float64 {
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = of(s)
	}
	return values
}

// report prints the summary and the details.
func report(o *options, contenders []*contender) {
	fmt.Fprintf(o.out, "\n%s, %d rounds of %d s, %s: µs of processor time for each query, medians\n\n",
		time.Now().UTC().Format("2006-01-02 15:04 UTC"), o.rounds, o.seconds, machine())
	summary := table{head: []string{""}}
	for _, c := range contenders {
		summary.head = append(summary.head, c.name)
	}
	summary.head = append(summary.head, "weir / dnsdist", "target", "")
	details := table{head: []string{"workload", "server", "n", "CPU µs/query", "user", "system", "/ dnsdist", "queries/s", "latency µs", "lost %",
		"upstream/query", "CPU %", "others %"}}
	for i := range workloads {
		w := &workloads[i]
		if len(contenders[0].figures(w)) == 0 {
			continue
		}
		base := w.target.base(contenders, w)
		row := []string{w.title}
		for _, c := range contenders {
			row = append(row, c.cell(w))
			if s := c.samples[w.name]; len(s) > 0 {
				details.add(c.detail(w, s, base)...)
			}
		}
		own := spreadOf(contenders[0].figures(w)).median
		summary.add(append(row, ratio(own, base), w.target.String(), w.target.verdict(own, base))...)
	}
	summary.print(o.out)
	if len(details.rows) > 0 {
		fmt.Fprintln(o.out)
		details.print(o.out)
	}
}

// cell is the figure of a contender in the summary: the sum, and of what.
func (c *contender) cell(w *workload) string {
	v := c.figures(w)
	if len(v) == 0 {
		return ""
	}
	if w.name == memory {
		return fmt.Sprintf("%.1f (%.0f → %.0f)", spreadOf(v).median, spreadOf(c.memory.before).median, spreadOf(c.memory.after).median)
	}
	s := c.samples[w.name]
	return fmt.Sprintf("%.2f (%.2f + %.2f)", spreadOf(v).median, spreadOf(column(s, func(s sample) float64 { return s.user })).median,
		spreadOf(column(s, func(s sample) float64 { return s.system })).median)
}

func (c *contender) detail(w *workload, samples []sample, base float64) []string {
	of := func(f func(sample) float64) spread { return spreadOf(column(samples, f)) }
	cpu := of(sample.cpu)
	return []string{
		w.name, c.name, fmt.Sprint(len(samples)), cpu.format(2),
		fmt.Sprintf("%.2f", of(func(s sample) float64 { return s.user }).median),
		fmt.Sprintf("%.2f", of(func(s sample) float64 { return s.system }).median),
		ratio(cpu.median, base),
		of(func(s sample) float64 { return s.qps }).format(0),
		of(func(s sample) float64 { return float64(s.latency) / 1e3 }).format(0),
		fmt.Sprintf("%.3f", of(func(s sample) float64 { return 100 * float64(s.lost) / float64(s.sent) }).max),
		fmt.Sprintf("%.2f", of(func(s sample) float64 { return s.asked }).median),
		fmt.Sprintf("%.0f", of(func(s sample) float64 { return 100 * s.busy }).median),
		fmt.Sprintf("%.0f", of(func(s sample) float64 { return 100 * s.others }).max),
	}
}

func ratio(a, b float64) string {
	if b == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", a/b)
}

func (t target) String() string {
	if t.most > 0 {
		return fmt.Sprintf("≤ %g", t.most)
	}
	if t.ratio == 0 {
		return ""
	}
	if t.beside != "" {
		return fmt.Sprintf("≤ %.2f × dnsdist's %s", t.ratio, t.beside)
	}
	return fmt.Sprintf("≤ %g × dnsdist", t.ratio)
}

// maxLost is what part of the queries may be lost in a figure that others stand beside.
const maxLost = 0.05

// lost is the largest part of the queries that a contender lost in a round of w.
func (c *contender) lost(w *workload) float64 {
	if len(c.samples[w.name]) == 0 {
		return 0
	}
	return spreadOf(column(c.samples[w.name], func(s sample) float64 { return float64(s.lost) / float64(max(s.sent, 1)) })).max
}

// base is the figure of dnsdist that weir's under the workload w stands beside, 0 if there is none, or if it lost so many queries that the time for
// each that it completed says nothing.
func (t target) base(contenders []*contender, w *workload) float64 {
	for i := range workloads {
		if workloads[i].name == t.beside {
			w = &workloads[i]
		}
	}
	for _, c := range contenders {
		if v := c.figures(w); c.name == dnsdistName && len(v) > 0 && c.lost(w) < maxLost {
			return spreadOf(v).median
		}
	}
	return 0
}

// verdict tells whether a figure reaches the target, with dnsdist's in the same run, 0 if there is none.
func (t target) verdict(own, base float64) string {
	most := t.most
	if t.ratio > 0 {
		most = t.ratio * base
	}
	switch {
	case t == target{}:
		return ""
	case most == 0:
		return "not known"
	case own <= most:
		return "reached"
	}
	return "missed"
}

// machine says what this was measured on.
func machine() string {
	model := "unknown processor"
	text, _ := os.ReadFile("/proc/cpuinfo") // there are systems without
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			model = strings.TrimSpace(value)
			break
		}
	}
	return fmt.Sprintf("%d CPUs, %s, %s", runtime.NumCPU(), model, runtime.Version())
}
