//go:build linux

package soak

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/weirdns/weir/host/upstream/upstreamtest"
)

// faults are what goes wrong, in an order that is always the same: something each second that is not calm.
type faults struct {
	setting *setting
	oracle  *oracle
	second  int  // of those with faults
	calm    int  // seconds without, since the last one with
	wrong   bool // something was, in this second
	made    int  // seconds in which something was
	plain   pair
	secure  pair
	counts  map[string]int
	order   []string // of counts
}

func newFaults(s *setting, o *oracle) *faults {
	return &faults{setting: s, oracle: o, plain: pair{servers: &s.PairServers}, secure: pair{servers: &s.SecureServers}, counts: make(map[string]int)}
}

// Those of servers over TLS: there is no UDP to lie over, or to be truncated.
var secureFaults = []upstreamtest.Fault{
	upstreamtest.Dead, upstreamtest.BlackHole, upstreamtest.Slow, upstreamtest.Reset, upstreamtest.OtherID, upstreamtest.OtherQuestion, upstreamtest.Query,
	upstreamtest.Garbage, upstreamtest.TruncatingOnly,
}

// sickFor and sickEvery are when the only server of sick.test has a fault, in seconds.
const sickFor, sickEvery = 3, 10

// turn is how many seconds one server of a pair has faults, before both rest for rest seconds and the other one has them. In the meantime a query that was
// sent to the first one can be sent to the other: nobody could answer when all who know have a fault within the time of a query.
const turn, rest = 5, 2

// leastRest is what is left of rest at least, where a reload takes so long that seconds are short: weir's time for a query, and some more.
const leastRest = 1900 * time.Millisecond

// pair is two servers of which one is always well.
type pair struct {
	servers *[2]*upstreamtest.Faulty
	bad     [2]bool
	well    [2]time.Time // since when, if it was bad before
}

// next makes the fault of a second.
func (p *pair) next(second int, fault upstreamtest.Fault, set func(*upstreamtest.Faulty, upstreamtest.Fault) error) error {
	whose := second / (turn + rest) % 2
	if second%(turn+rest) >= turn || p.bad[1-whose] || time.Since(p.well[1-whose]) < leastRest {
		fault = upstreamtest.Healthy
	}
	return p.set(whose, fault, set)
}

// heal has both well.
func (p *pair) heal(set func(*upstreamtest.Faulty, upstreamtest.Fault) error) error {
	for whose := range p.servers {
		if err := p.set(whose, upstreamtest.Healthy, set); err != nil {
			return err
		}
	}
	return nil
}

func (p *pair) set(whose int, fault upstreamtest.Fault, set func(*upstreamtest.Faulty, upstreamtest.Fault) error) error {
	err := set(p.servers[whose], fault)
	if was := p.bad[whose]; was && fault == upstreamtest.Healthy {
		p.well[whose] = time.Now()
	}
	p.bad[whose] = fault != upstreamtest.Healthy
	return err
}

// settled reports whether there was no fault for long enough that weir should have nothing open because of one.
func (f *faults) settled() bool { return f.calm > settles }

// rest has a second go by without a fault: in the first one everybody gets well.
func (f *faults) rest() error {
	f.calm++
	if f.calm > 1 {
		return nil
	}
	s, set := f.setting, f.set
	for _, p := range []*pair{&f.plain, &f.secure} {
		if err := p.heal(set); err != nil {
			return err
		}
	}
	if err := set(s.SickServer, upstreamtest.Healthy); err != nil {
		return err
	}
	f.oracle.setSick(false)
	f.oracle.history.note(time.Now(), "resolv.conf", "restored")
	return s.writeResolvConf()
}

// set has a server have a fault, or none.
func (f *faults) set(server *upstreamtest.Faulty, fault upstreamtest.Fault) error {
	f.oracle.history.note(time.Now(), f.setting.name(server), fault.String())
	if fault != upstreamtest.Healthy {
		f.count("a server is " + fault.String())
	}
	return server.Set(fault)
}

// next makes the faults of the next second that has some.
func (f *faults) next() error {
	f.calm, f.wrong = 0, false
	err := f.make(f.second)
	f.second++
	if err == nil && !f.wrong { // on a machine that is so busy that both pairs have to rest
		err = f.reload()
	}
	if f.wrong {
		f.made++
	}
	return err
}

// make makes those of second n.
func (f *faults) make(n int) error {
	s, set := f.setting, f.set
	kinds := int(upstreamtest.Faults) - 1
	plain, secure := upstreamtest.Fault(1+n%kinds), secureFaults[n%len(secureFaults)]
	// The two pairs rest at different times, so that there is something each second.
	if err := f.plain.next(n, plain, set); err != nil {
		return err
	}
	if err := f.secure.next(n+turn/2, secure, set); err != nil {
		return err
	}
	switch n % sickEvery {
	case 0:
		f.oracle.setSick(true)
		if err := set(s.SickServer, upstreamtest.Fault(1+n/sickEvery%kinds)); err != nil {
			return err
		}
	case sickFor:
		if err := set(s.SickServer, upstreamtest.Healthy); err != nil {
			return err
		}
		f.oracle.setSick(false)
	}
	switch n % 8 {
	case 1, 5:
		return f.reload()
	case 3:
		return f.badReload()
	case 4:
		f.happens("resolv.conf", "emptied")
		return s.write("resolv.conf", nil)
	case 6:
		f.happens("resolv.conf", "restored")
		return s.writeResolvConf()
	case 7:
		if n%16 == 7 {
			f.happens("resolv.conf", "removed")
			return os.Remove(filepath.Join(s.dir, "resolv.conf"))
		}
	case 0:
		f.oracle.history.note(time.Now(), "resolv.conf", "restored")
		return s.writeResolvConf()
	}
	return nil
}

// happens counts and notes what is done to something.
func (f *faults) happens(who, what string) {
	f.count(who + " is " + what)
	f.oracle.history.note(time.Now(), who, what)
}

func (f *faults) count(what string) {
	f.wrong = true
	if f.counts[what]++; f.counts[what] == 1 {
		f.order = append(f.order, what)
	}
}

// reload has the next generation served.
func (f *faults) reload() error {
	f.count("reload")
	s := f.setting
	f.oracle.history.note(time.Now(), "weir", "reloads")
	defer func() { f.oracle.history.note(time.Now(), "weir", "has reloaded") }()
	s.Generation++
	s.newest.Store(int64(s.Generation))
	if err := s.writeGeneration(); err != nil {
		return err
	}
	if err := s.signalAndWait(`"msg":"reloaded"`); err != nil {
		return err
	}
	s.oldest.Store(int64(s.Generation)) // older ones are not asked any more
	return nil
}

// mistakes are lines that a configuration can't have.
var mistakes = []string{"[", "nonsense = 1", "[upstream.pair]\nservers = []", "[chain.main]\nfilters = [\"nobody\"]", "[filter.broken]\nmodule = \"weir.toml\""}

// badReload has a generation tried that can't be served.
func (f *faults) badReload() error {
	f.count("bad reload")
	s := f.setting
	f.oracle.history.note(time.Now(), "weir", "tries a bad configuration")
	defer func() { f.oracle.history.note(time.Now(), "weir", "has refused it") }()
	good, err := os.ReadFile(filepath.Join(s.dir, "weir.toml"))
	if err != nil {
		return err
	}
	mistake := mistakes[f.counts["bad reload"]%len(mistakes)]
	if err := s.write("weir.toml", fmt.Appendf(nil, "%s\n%s\n", strings.TrimSpace(string(good)), mistake)); err != nil {
		return err
	}
	if err := s.signalAndWait(`"msg":"not reloaded`); err != nil {
		return err
	}
	return s.write("weir.toml", good)
}
