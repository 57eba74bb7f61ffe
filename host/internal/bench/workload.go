//go:build linux

package main

import (
	"slices"
	"strconv"
	"time"
)

// workload is what servers are asked, and what weir has to reach.
type workload struct {
	name   string
	title  string
	target target
	// prepare returns a list of names and the arguments of dnsperf. Over HTTPS and QUIC, streams asks.
	prepare func(l *lists, seconds int) (list string, args []string, err error)
}

// target is what weir has to reach: at most a multiple of dnsdist's figure, or at most a figure. The figure of dnsdist is that of the same workload, or of
// the one that beside names.
type target struct {
	ratio, most float64
	beside      string
}

// alternateOverMiss is what asking a second upstream may cost: 9 µs where dnsdist asks one in 6.3, so that it means the same on each machine.
const alternateOverMiss = 9 / 6.3

// The paced workload is what wakes a server up for nearly each query.
const pacedRate = 20_000

// memory is the workload that fills the caches. Its figure is MiB, not µs.
const memory = "memory"

// The workloads for which a peer may have a port, see its field encrypted.
const (
	overTLS   = "tls"
	overHTTPS = "https"
	overHTTP3 = "http3"
	overQUIC  = "quic"
)

// workloads in the order in which they are measured: those with the names of a full cache after those with few.
var workloads = []workload{
	{"hot", "1,000 cached names", target{ratio: 1}, func(l *lists, _ int) (string, []string, error) { return l.hot, nil, nil }},
	{"paced", "the same, 20,000 queries/s", target{ratio: 1.5}, func(l *lists, _ int) (string, []string, error) {
		return l.hot, []string{"-Q", strconv.Itoa(pacedRate)}, nil
	}},
	{"tcp", "the same, over TCP", target{ratio: 1.1}, func(l *lists, _ int) (string, []string, error) { return l.hot, []string{"-m", "tcp"}, nil }},
	{overTLS, "the same, over TLS", target{ratio: 1.1}, func(l *lists, _ int) (string, []string, error) { return l.hot, []string{"-m", "dot"}, nil }},
	{overHTTPS, "the same, over HTTPS", target{}, func(l *lists, _ int) (string, []string, error) { return l.hot, nil, nil }},
	{overHTTP3, "the same, over HTTP/3", target{}, func(l *lists, _ int) (string, []string, error) { return l.hot, nil, nil }},
	{overQUIC, "the same, over QUIC", target{}, func(l *lists, _ int) (string, []string, error) { return l.hot, nil, nil }},
	{memory, "MiB for 100,000 more cached answers", target{most: 20}, nil},
	{"uniform", "100,000 cached names, evenly", target{ratio: 1}, func(l *lists, _ int) (string, []string, error) { return l.uniform, nil, nil }},
	{"miss", "every name new", target{ratio: 1.1}, unseen},
	{"alternate", "every name new, first NXDOMAIN, second answers", target{ratio: alternateOverMiss, beside: "miss"}, unseen},
}

// unseen prepares more names than any server manages in that time: dnsperf would begin anew, and find them in the cache.
func unseen(l *lists, seconds int) (string, []string, error) {
	list, err := l.unseen(200_000 * seconds)
	return list, nil, err
}

// port returns where a server is asked a workload, 0 if it has none.
func (w *workload) port(s *server, weir bool, p *peer) int {
	switch {
	case w.name == "alternate" && (weir || p.only == w.name):
		return s.Alternate
	case w.name == "alternate" || !weir && p.only != "":
		return 0
	}
	encrypted, ok := map[string]int{overTLS: s.TLS, overHTTPS: s.HTTPS, overHTTP3: s.HTTPS, overQUIC: s.QUIC}[w.name]
	switch {
	case !ok:
		return s.Port
	case !weir && !slices.Contains(p.encrypted, w.name):
		return 0
	}
	return encrypted
}

// run measures a server under the workload.
func (w *workload) run(o *options, l *lists, s *server, port int, upstreams []*upstream) (sample, error) {
	return measure(s, upstreams, func() (perf, error) {
		// In here, since a second attempt needs other names.
		list, args, err := w.prepare(l, o.seconds)
		if err != nil {
			return perf{}, err
		}
		if w.name == overQUIC || w.name == overHTTPS || w.name == overHTTP3 {
			return askStreams(w.name, port, list, o.seconds)
		}
		return runDnsperf(port, list, append(args, "-l", strconv.Itoa(o.seconds))...)
	})
}

// fill asks a server for all names of a list, three times, so that each is in its cache.
func fill(port int, list string) error {
	for range 3 {
		if _, err := runDnsperf(port, list, "-n", "1", "-q", "50", "-c", "4"); err != nil {
			return err
		}
	}
	time.Sleep(300 * time.Millisecond) // for what it does afterwards
	return nil
}
