//go:build linux

package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/weirdns/weir/host/internal/bench/attack"
)

// options are what the make targets pass on.
type options struct {
	rounds  int
	seconds int
	minutes float64 // with faults, of the soak
	rate    float64 // likewise: queries a second; 0 means half of the peak
	only    string  // workloads, separated by spaces; empty is all
	peers   string  // likewise
	weir    string  // the binary
	dir     string  // for configurations, lists of names and logs; removed at the end
	out     io.Writer
}

// Processes are started by the main thread alone: they are to end with it (PR_SET_PDEATHSIG), and other threads of this program come and go.
func init() { runtime.LockOSThread() }

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) > 0 {
		switch args[0] { // what this program starts of itself
		case "pinned":
			return runPinned(args[1:])
		case "yielding":
			return runYielding(args[1:])
		case "upstream":
			return runUpstream(args[1:])
		case "load":
			return runLoad(args[1:])
		case "streams":
			return runStreams(args[1:])
		case "attack":
			return attack.Run(args[1:], os.Stdin, os.Stdout)
		case "spoof":
			return attack.Spoof(args[1:], os.Stdin, os.Stdout)
		case "probe":
			return attack.Probe(args[1:], os.Stdout)
		}
	}
	o := options{out: os.Stdout}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.IntVar(&o.rounds, "rounds", 3, "rounds; figures are the medians of them")
	flags.IntVar(&o.seconds, "seconds", 3, "time of one measurement")
	flags.Float64Var(&o.minutes, "minutes", 10, "time with faults in the soak; calm is on top of that")
	flags.Float64Var(&o.rate, "rate", 0, "queries a second of the soak; 0 is half of the peak, which is found first")
	flags.StringVar(&o.only, "workloads", "", "only these, separated by spaces")
	flags.StringVar(&o.peers, "peers", "", "only these beside weir and dnsdist, separated by spaces")
	flags.StringVar(&o.weir, "weir", "bin/weir", "the binary to measure")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if err := os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin"); err != nil { // where Debian has servers
		return err
	}
	benches := map[string]func(*options) error{
		"peers": benchPeers, "paced": benchPaced, "overload": benchOverload, "growth": benchGrowth, "cores": benchCores,
		"attacks": benchAttacks, "soak": benchSoak,
	}
	bench, ok := benches[flags.Arg(0)]
	if !ok {
		return fmt.Errorf("%q is not one of peers, paced, overload, growth, cores, attacks and soak", flags.Arg(0))
	}
	if runtime.NumCPU() < 2 {
		return fmt.Errorf("there is one CPU: the server and what asks it need one each")
	}
	var err error
	if o.weir, err = filepath.Abs(o.weir); err != nil {
		return err
	}
	if o.dir, err = os.MkdirTemp("", "weir-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(o.dir)
	return bench(&o)
}

// wants tells whether a list from the command line has a name; the empty list has all.
func wants(list, name string) bool {
	if list == "" {
		return true
	}
	for _, s := range strings.Fields(list) {
		if s == name {
			return true
		}
	}
	return false
}
