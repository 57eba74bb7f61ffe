//go:build linux

package main

import (
	"fmt"
	"time"
)

// idleTime is for how long weir is watched while nobody asks it anything, and idleMost what it may take meanwhile: one tick of /proc.
const (
	idleTime = 10 * time.Second
	idleMost = tick
)

// benchPaced measures what waking up costs: at a rate that leaves servers idle most of the time, against dnsdist, and with no queries at all.
func benchPaced(o *options) error {
	if err := install(o); err != nil {
		return err
	}
	o.only, o.peers = "paced", dnsdistName
	up, nx, err := startUpstreams()
	if err != nil {
		return err
	}
	defer up.stop()
	defer nx.stop()
	if err := compare(o, choose(o), up, nx); err != nil {
		return err
	}
	s, err := startUsual(o, "idle", serverCPU, up, nx, nil)
	if err != nil {
		return err
	}
	defer s.stop()
	time.Sleep(2 * time.Second) // until it has done what a start has it do
	before, err := timeOf(s.pid())
	if err != nil {
		return err
	}
	time.Sleep(idleTime)
	after, err := timeOf(s.pid())
	if err != nil {
		return err
	}
	took := after.minus(before).sum()
	fmt.Fprintf(o.out, "\nidle: %v of processor time in %v, target ≤ %v: %s\n", took, idleTime, idleMost, verdict(took <= idleMost))
	return nil
}

func verdict(reached bool) string {
	if reached {
		return "reached"
	}
	return "missed"
}
