//go:build linux

// Package soak runs weir as a process for some minutes, under half of the load that it can bear, over every transport, with something going wrong each
// second, and looks at every single answer. Between stretches of faults are calm ones, in which what weir has open can be compared.
//
//	clients ── UDP, TCP, TLS, HTTPS (HTTP/2 and 3), QUIC ──► weir ──► two servers, of which one at a time has a fault     pair.test
//	   │                                                          ├──► two more, over TLS                              secure.test
//	 oracle                                                       ├──► one that has faults for a while                   sick.test
//	                                                              ├──► one that resolv.conf names, now and then           resolv.test
//	                                                              └─── a zone, a rule, and filters that trap
//
// What each name has for an answer can be foretold (see [upstreamtest.Address]), and so can be when there has to be one. It is not for production.
package soak

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// Options are what a run needs.
type Options struct {
	Weir string        // the binary
	Dir  string        // an empty directory for what it needs
	Time time.Duration // with a fault each second, in whole seconds; there are some seconds before, to find the peak and to warm up, and calm ones between and at the end
	Rate float64       // queries a second; 0 means half of what was found to be the peak
	Out  io.Writer     // what happened
}

// ErrMissed is the error of a run that missed its goals. The output says which.
var ErrMissed = errors.New("soak: goals missed")

// patience is how long clients wait. weir has 1.8 s for a query.
const patience = 5 * time.Second

// Run returns nil if all goals were reached, and ErrMissed if one was not.
func Run(ctx context.Context, o Options) error {
	if o.Time <= 0 {
		return fmt.Errorf("soak: %v with faults, want more", o.Time)
	}
	s, err := newSetting(o.Dir)
	if err != nil {
		return err
	}
	defer s.close() //nolint:errcheck // Run has told what is wrong by then
	if err := s.start(o.Weir); err != nil {
		return err
	}
	var all sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	defer all.Wait()
	defer cancel()
	oracle := newOracle(s)
	all.Go(func() { oracle.watchStalls(ctx) })
	clients, err := newClients(s, oracle)
	if err != nil {
		return err
	}
	defer clients.close()

	rate := o.Rate
	if rate == 0 {
		peak, err := clients.peak(ctx, o.Out)
		if err != nil {
			return err
		}
		rate = peak / 2
		fmt.Fprintf(o.Out, "peak of this mix, with clients and upstreams on the same CPUs: %.0f queries/s; the load is half of that\n", peak)
	}
	oracle.forget()
	watch := watch{setting: s}
	var load sync.WaitGroup
	defer load.Wait()
	loadCtx, endLoad := context.WithCancel(ctx)
	defer endLoad()
	load.Go(func() { clients.offer(loadCtx, rate) })
	faults := newFaults(s, oracle)
	plan := newPlan(o.Time)
	begin := time.Now()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var spent times
	for n, last := 0, begin; ; n++ {
		phase := plan.phase(n)
		if phase == over {
			break
		}
		switch phase { //nolint:exhaustive // nothing is done to warm up
		case faulty:
			err = faults.next()
		case calm:
			err = faults.rest()
		}
		if err != nil {
			return errors.Join(err, s.tail())
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.ended:
			return errors.Join(errors.New("soak: weir has ended"), s.tail())
		case <-tick.C:
		}
		now := time.Now()
		spent[phase] += now.Sub(last)
		last = now
		if phase == warming {
			continue
		}
		if err := watch.sample(now.Sub(begin), faults.settled()); err != nil {
			return errors.Join(err, s.tail())
		}
		if phase == calm && plan.phase(n+1) != calm {
			fmt.Fprintf(o.Out, "%4.0f s: %s\n", now.Sub(begin).Seconds(), oracle.progress())
		}
	}
	endLoad()
	load.Wait()
	if !oracle.report(o.Out, &spent, rate, faults, &watch) {
		return errors.Join(ErrMissed, s.keepLog(o.Out))
	}
	return nil
}

// keepLog copies weir's log to where it stays, after a run that somebody will want to understand.
func (s *setting) keepLog(out io.Writer) error {
	text, err := s.log()
	if err != nil {
		return err
	}
	f, err := os.CreateTemp("", "weir-soak-*.log")
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "weir's log is in %s\n", f.Name())
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}
