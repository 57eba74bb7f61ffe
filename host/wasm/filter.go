package wasm

import (
	"encoding/binary"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/weirdns/weir/abi"
	"github.com/weirdns/weir/host/chain"
	"github.com/weirdns/weir/host/message"
)

// Filter is a module with its configuration, ready to be called. Its methods are safe for concurrent use.
//
// Its life: [Runtime.Open] checks, compiles and configures it; chains call it; faults discard instances, which [Runtime.Run] replaces;
// [Filter.Close] ends it, when no chain has it any more.
type Filter struct {
	name     string
	base     string // path of its config
	role     string
	skip     bool
	version  string
	limits   limits
	may      grants
	interest uint64
	lookup   *lookup // nil when the filter did not ask for it
	names    names

	runtime    *Runtime
	code       *code
	document   document
	guests     []uint16 // by the host's index of an upstream, the guest's
	pool       *pool
	memory     atomic.Int64 // octets of all instances
	quarantine quarantine
	lines      lines
	metrics    guestMetrics
	faults     [causes]prometheus.Counter
	logger     *slog.Logger

	target atomic.Int32 // instances that there should be
	queued atomic.Bool  // Run knows that there are fewer
	closed atomic.Bool
	mu     sync.Mutex // held while instances are made
}

var _ chain.Filter = (*Filter)(nil)

// limits are what an instance may use.
type limits struct {
	fuel  uint64
	pages uint32
	off   defence
}

// Name implements chain.Filter.
func (f *Filter) Name() string { return f.name }

// Role implements chain.Filter.
func (f *Filter) Role() string { return f.role }

// Skip implements chain.Filter.
func (f *Filter) Skip() bool { return f.skip }

// Version is the version that the manifest of the module names.
func (f *Filter) Version() string { return f.version }

// Quarantined reports whether the filter is not called, or only now and then to see if it works again, because it kept failing.
func (f *Filter) Quarantined() bool { return f.quarantine.active() }

// Unique returns the values of the configuration that no other filter of the same module in a chain may have.
func (f *Filter) Unique() []Unique { return f.document.unique }

// Module identifies the module: filters with the same value run the same code. For comparing Unique.
func (f *Filter) Module() string { return f.code.name }

// Interest implements chain.Filter.
func (f *Filter) Interest() chain.Interest {
	return chain.Interest{
		Query:   f.interest&abi.InterestQuery != 0,
		Classes: uint32(f.interest & abi.InterestClasses),
		Final:   f.interest&abi.InterestFinal != 0,
	}
}

// Call implements chain.Filter. It does not wait, allocates nothing unless the filter faults, and its time is bounded by the fuel of the filter.
func (f *Filter) Call(c *chain.Call) (chain.Verdict, error) {
	var at match
	if f.lookup != nil && c.Response == nil {
		// Before all else: a query that the filter has nothing to do with needs no instance, and no fault of it concerns that query.
		if !f.lookup.find(c.Query.Key, c.Query.Labels, &at) {
			c.EDE = abi.None
			if t := c.Query.Trace; t != nil {
				t.Add(message.Step{Part: "filter " + f.name, Event: "explain", Phase: "query"}, "nothing here holds %s", message.NameString(c.Query.Key))
			}
			return chain.Verdict{}, nil
		}
	}
	if !f.quarantine.admit() {
		f.faults[causeQuarantine].Inc()
		return chain.Verdict{}, errQuarantined
	}
	i := f.pool.take(&c.Hint)
	if i == nil {
		return chain.Verdict{}, f.busy()
	}
	v, err := i.decide(c, &at)
	if err != nil {
		f.discard(i, err)
		return chain.Verdict{}, err
	}
	f.quarantine.ok()
	f.put(i)
	return v, nil
}

// decide calls the guest. at is what was found for it; it is zero if nobody looked.
func (i *instance) decide(c *chain.Call, at *match) (chain.Verdict, error) {
	f := i.filter
	i.allow(1)
	i.call = c
	writeFrame(i.frame, c, f.guests)
	if at.snapshot != nil {
		i.writeFound(at, len(c.Query.Message))
	}
	phase, name, function, count := uint8(abi.PhaseQuery), abi.ExportQuery, i.query, &i.did.query
	if c.Response != nil {
		phase, name, function, count = abi.PhaseResponse, abi.ExportResponse, i.response, &i.did.response
	}
	if function == nil { // it answers what the filter asked, though the module has no such export
		i.call, i.cause = nil, causeVerdict
		return chain.Verdict{}, &Fault{Function: name, Cause: causeNames[causeVerdict], err: errVerdict}
	}
	err := i.enter(function)
	i.call = nil
	if len(i.output) > 0 {
		i.flush()
	}
	*count++
	if i.since++; i.since == tellEvery {
		i.tell()
	}
	if err != nil {
		return chain.Verdict{}, i.fault(name, err)
	}
	return i.verdict(c, phase, name)
}

// verdict reads what the guest decided. The frame is the guest's, so each field is read once.
func (i *instance) verdict(c *chain.Call, phase uint8, name string) (chain.Verdict, error) {
	f := i.filter
	if i.stack[0] == 0 { // Next, which most verdicts are
		c.Cookie, c.EDE = binary.LittleEndian.Uint64(i.frame[abi.FrameCookie:]), abi.None
		return chain.Verdict{Action: chain.Next}, nil
	}
	v, err := decode(i.stack[0], phase, f.may, f.document.upstreams, i.memory.octets(), &c.Octets)
	if err != nil {
		i.cause = causeVerdict
		return chain.Verdict{}, &Fault{Function: name, Cause: causeNames[causeVerdict], err: err}
	}
	c.Cookie, c.EDE = readFrame(i.frame)
	if v.Action != chain.Respond {
		c.EDE = abi.None
	}
	return v, nil
}

// busy is the fault of having no instance.
func (f *Filter) busy() error {
	f.faults[causeBusy].Inc()
	if f.pool.live.Load() == 0 && f.quarantine.active() { // the try failed
		f.quarantine.fault(errBusy)
	}
	f.target.Store(int32(len(f.pool.slots)))
	f.want()
	return errBusy
}

// discard ends an instance that faulted, and has others made: a filter that faults now and then gets some to spare, so that the queries after
// a fault need not wait.
func (f *Filter) discard(i *instance, err error) {
	f.faults[i.cause].Inc()
	f.quarantine.fault(err)
	f.pool.drop(i)
	f.target.Store(int32(len(f.pool.slots)))
	f.want()
}

// counts sums up what calls did. Free instances are asked; of those that are in use the last few calls are left out, until the next time.
func (f *Filter) counts() (c callCounts) {
	for n := range f.pool.slots {
		s := &f.pool.slots[n]
		if i := s.take(); i != nil {
			i.tell()
			f.put(i)
		}
		c.query += s.query.Load()
		c.response += s.response.Load()
		c.fuel += s.fuel.Load()
	}
	return c
}

// put gives an instance back, unless the filter was closed meanwhile.
func (f *Filter) put(i *instance) {
	s := i.home
	s.put()
	if f.closed.Load() { // Close may have looked into the slot before
		if i := s.take(); i != nil {
			f.pool.drop(i)
		}
	}
}

// want tells Run that slots are empty.
func (f *Filter) want() {
	if f.closed.Load() || f.queued.Swap(true) {
		return
	}
	select {
	case f.runtime.wanted <- f:
	default: // more filters than a host has; the next fault asks again
		f.queued.Store(false)
	}
}

// fill makes instances until there are as many as wanted, several at a time. It gives the first error.
func (f *Filter) fill() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.queued.Store(false) // with the lock: while one makes instances, at most one waits to
	missing := int(f.target.Load() - f.pool.live.Load())
	if f.closed.Load() || missing <= 0 {
		return nil
	}
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	made := make(chan *instance, missing)
	for range missing {
		g.Go(func() (err error) {
			defer f.runtime.rescue(&err)
			i, _, err := f.newInstance()
			if err == nil {
				made <- i
			}
			return err
		})
	}
	err := g.Wait()
	close(made)
	for i := range made {
		f.pool.settle(i)
	}
	return err
}

// Close ends the filter and releases everything it has. No call may begin after it; one that is under way ends undisturbed.
func (f *Filter) Close() {
	if f.closed.Swap(true) {
		return
	}
	f.mu.Lock() // until instances that are being made are settled
	defer f.mu.Unlock()
	for n := range f.pool.slots {
		if i := f.pool.slots[n].take(); i != nil {
			f.pool.drop(i)
		}
	}
	f.lines.close()
	f.runtime.metrics.close(f)
	f.code.release()
}
