//go:build linux

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/weirdns/weir/host/internal/bench/attack"
)

// What new clients and the memory of weir have to be like while it is attacked.
const (
	attackedLatency = 100 * time.Millisecond // of 99 % of the new clients; and none is without an answer
	attackedGrowth  = 100.                   // MB
)

// assault is an attack on a weir with some configuration.
type assault struct {
	name   string
	attack string // of package attack
	what   string
	limits string // in each listener; empty: the defaults
	opens  uint64 // descriptors that it needs, in each of the processes
}

// roomForAll is what an operator sets who expects that many clients.
const roomForAll = "tcp_max_clients = 6000"

var assaults = []assault{
	{"slow", "slow", "5,000 clients over TCP, 5,000 over TLS and 1,000 over HTTPS that hold a connection without a whole query", "", 11_000},
	{"many", "slow", "the same, with places for all of them", roomForAll, 11_000},
	{"contents", "contents", "3,000 clients over HTTPS, HTTP/1.1 and HTTP/2, that begin requests whose content does not come", "", 3_000},
	{"reset", "reset", "50,000 requests a second over HTTP/2, on 20 connections, each of them reset as soon as it is sent", "", 100},
	{"streams", "streams", "10,000 streams over QUIC, on 100 connections, with an octet of a query each", "", 100},
	{"connections", "connections", "10,500 such streams, on 1,500 connections", "", 1_500},
}

// benchAttacks attacks weir in several ways, and asks it as new clients do.
func benchAttacks(o *options) error {
	fmt.Fprintf(o.out, "%s, %s; %d s without and %d s with each attack\n", time.Now().UTC().Format("2006-01-02 15:04 UTC"), machine(), o.seconds, o.seconds)
	for i := range assaults {
		if a := &assaults[i]; wants(o.only, a.name) {
			if err := a.run(o); err != nil {
				return fmt.Errorf("%s: %w", a.name, err)
			}
		}
	}
	if wants(o.only, "spoof") {
		return benchSpoof(o)
	}
	return nil
}

// scale is how much of the attack this machine has descriptors for, which weir and the attacker need in about the same number.
func (a *assault) scale() (float64, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, os.NewSyscallError("getrlimit", err)
	}
	const others = 500 // files, and new clients
	return min(1, max(0.01, (float64(limit.Max)-others)/float64(a.opens))), nil
}

func (a *assault) run(o *options) error {
	scale, err := a.scale()
	if err != nil {
		return err
	}
	up, nx, err := startUpstreams()
	if err != nil {
		return err
	}
	defer up.stop()
	defer nx.stop()
	s, err := startLimited(o, a.limits, up, nx)
	if err != nil {
		return err
	}
	defer s.stop()
	limits := a.limits
	if limits == "" {
		limits = "the default limits"
	}
	fmt.Fprintf(o.out, "\n%s: %s; %s", a.name, a.what, limits)
	if scale < 1 {
		fmt.Fprintf(o.out, "; scaled down to %.2f of that, for want of descriptors", scale)
	}
	fmt.Fprint(o.out, "\n\n")

	target := attack.Target{UDP: s.Port, TLS: s.TLS, HTTPS: s.HTTPS, QUIC: s.QUIC}
	if _, err := probeFor(target, time.Second); err != nil { // so that the names are in the cache, and the heap has grown
		return err
	}
	upstreams := []*upstream{up, nx}
	before, err := a.phase(o, s, upstreams, target)
	if err != nil {
		return err
	}
	p, err := startAttack(a.attack, scale, target)
	if err != nil {
		return err
	}
	defer p.stop()
	during, err := a.phase(o, s, upstreams, target, p.process)
	if err != nil {
		return err
	}
	metrics, err := metricsOf(s)
	if err != nil {
		return err
	}
	tallies, err := p.end()
	if err != nil {
		return err
	}
	a.report(o, before, during, tallies, metrics)
	return nil
}

// startLimited starts weir with the usual chain and other limits.
func startLimited(o *options, limits string, up, nx *upstream) (*server, error) {
	p, err := choosePorts(o.dir, weirName, up, nx)
	if err != nil {
		return nil, err
	}
	p.Extra = limits
	if _, err := writeZone(o.dir, weirName, "test", hotNames); err != nil {
		return nil, err
	}
	if err := writeCertificate(o.dir); err != nil {
		return nil, err
	}
	return startWeir(o, p, serverCPU, "weir.toml", p)
}

// phase is a time in which new clients come.
type phase struct {
	probed                    map[string]attack.Probed
	memory                    float64 // MB, at most
	busy, generators, outside float64 // how much of one CPU weir, the attack, and others took
}

// phase asks weir for a time, while some processes attack it.
func (a *assault) phase(o *options, s *server, upstreams []*upstream, t attack.Target, attackers ...*process) (*phase, error) {
	took := func() (sum time.Duration, err error) {
		for _, p := range attackers {
			t, err := timeOf(p.pid())
			if err != nil {
				return 0, err
			}
			sum += t.sum()
		}
		return sum, nil
	}
	before, err := look(s, upstreams)
	if err != nil {
		return nil, err
	}
	attackBefore, err := took()
	if err != nil {
		return nil, err
	}
	memory := watchMemory(s)
	probed, err := probeFor(t, time.Duration(o.seconds)*time.Second)
	most := memory()
	if err != nil {
		return nil, err
	}
	attackAfter, err := took()
	if err != nil {
		return nil, err
	}
	after, err := look(s, upstreams)
	if err != nil {
		return nil, err
	}
	wall, own, attacked := after.at.Sub(before.at), after.server.minus(before.server).sum(), attackAfter-attackBefore
	return &phase{
		probed: probed.of, memory: most, busy: float64(own) / float64(wall), generators: float64(attacked) / float64(wall),
		outside: max(0, float64(after.busy-before.busy-own-attacked-(after.ours-before.ours)-probed.cpu)/float64(wall)),
	}, nil
}

// watchMemory looks at the memory of weir, until the function that it returns is called, which returns how much it was at most, in MB.
func watchMemory(s *server) func() float64 {
	done, result := make(chan struct{}), make(chan float64)
	go func() {
		most := 0.
		for {
			if n, err := memoryOf(s.pid()); err == nil {
				most = max(most, float64(n)/1e6)
			}
			select {
			case <-done:
				result <- most
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
	return func() float64 {
		close(done)
		return <-result
	}
}

// probes are the new clients of a process.
type probes struct {
	of  map[string]attack.Probed
	cpu time.Duration
}

// probeFor has new clients come for a time.
func probeFor(t attack.Target, d time.Duration) (probes, error) {
	cmd := command(generatorCPU, "/proc/self/exe", append([]string{"probe", "-time", d.String()}, t.Args()...)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	if err := cmd.Run(); err != nil {
		return probes{}, fmt.Errorf("probe: %w", err)
	}
	p := probes{cpu: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}
	if err := json.Unmarshal(out.Bytes(), &p.of); err != nil {
		return probes{}, fmt.Errorf("probe: %w", err)
	}
	return p, nil
}

// attacking is an attack that runs.
type attacking struct {
	*process
	in  io.WriteCloser
	out *bufio.Reader
}

// startAttack starts one, and returns when the attackers are in place. New clients, who are on the same CPU, don't wait for it: it is weir's time that is measured.
func startAttack(name string, scale float64, t attack.Target) (*attacking, error) {
	cmd := command(generatorCPU, "/proc/self/exe", append([]string{"yielding", "/proc/self/exe", "attack", name, "-scale", strconv.FormatFloat(scale, 'f', 3, 64)}, t.Args()...)...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	a := &attacking{in: in, out: bufio.NewReader(out)}
	if a.process, err = launch("attack "+name, cmd); err != nil {
		return nil, err
	}
	if _, err := a.out.ReadString('\n'); err != nil {
		a.stop()
		return nil, fmt.Errorf("attack %s: %w", name, err)
	}
	return a, nil
}

// end ends the attack, and returns what became of it.
func (a *attacking) end() (map[string]attack.Tally, error) {
	if err := a.in.Close(); err != nil {
		return nil, err
	}
	var tallies map[string]attack.Tally
	if err := json.NewDecoder(a.out).Decode(&tallies); err != nil {
		return nil, fmt.Errorf("%s: %w", a.name, err)
	}
	return tallies, nil
}

func (a *assault) report(o *options, before, during *phase, tallies map[string]attack.Tally, metrics map[string]float64) {
	attackers := table{head: []string{"attackers", "begun", "ended by weir", "failed", "open at a time"}}
	for _, name := range slices.Sorted(maps.Keys(tallies)) {
		t := tallies[name]
		open := ""
		if t.Most > 0 {
			open = fmt.Sprintf("%d to %d", t.Least, t.Most)
		}
		attackers.add(name, fmt.Sprint(t.Begun), fmt.Sprint(t.Ended), fmt.Sprint(t.Failed), open)
	}
	attackers.print(o.out)
	fmt.Fprintf(o.out, "\nweir closed %.0f connections for others, and refused %.0f\n\n", total(metrics, "connections_refused_total", `reason="idle"`),
		total(metrics, "connections_refused_total", `reason="limit"`))
	clients := table{head: []string{"new clients", "before: ms, p50", "p99", "max", "unanswered", "during: ms, p50", "p99", "max", "unanswered", ""}}
	for _, name := range attack.Transports {
		b, d := before.probed[name], during.probed[name]
		row := []string{name}
		for _, p := range []attack.Probed{b, d} {
			row = append(row, milliseconds(p.P50), milliseconds(p.P99), milliseconds(p.Max), fmt.Sprintf("%d of %d", p.Asked-p.Answered, p.Asked))
		}
		said := "not known"
		if good(b) || good(d) {
			said = verdict(good(d))
		}
		clients.add(append(row, said)...)
	}
	clients.print(o.out)
	for _, name := range attack.Transports {
		for said, n := range during.probed[name].Errors {
			fmt.Fprintf(o.out, "%s: %d times: %s\n", name, n, said)
		}
	}
	growth := during.memory - before.memory
	fmt.Fprintf(o.out, "\nmemory %.0f MB before, %.0f MB during: %+.0f MB, target < +%.0f MB: %s; weir took %.0f%% of its CPU (%.0f%% before), the attack %.0f%% of the other; others %.0f%%\n",
		before.memory, during.memory, growth, attackedGrowth, verdict(growth < attackedGrowth), 100*during.busy, 100*before.busy, 100*during.generators, 100*during.outside)
}

// good tells whether new clients are served as they are to be. Where they aren't without an attack, since the machine is busy with other things, nothing is known of what one does.
func good(p attack.Probed) bool { return p.Answered == p.Asked && p.P99 < attackedLatency }

func milliseconds(d time.Duration) string { return fmt.Sprintf("%.1f", float64(d)/1e6) }

// total is the sum of a metric of all listeners, where it has a label.
func total(metrics map[string]float64, name, label string) (sum float64) {
	for series, value := range metrics {
		if strings.HasPrefix(series, "weir_listener_"+name+"{") && strings.Contains(series, label) {
			sum += value
		}
	}
	return sum
}
