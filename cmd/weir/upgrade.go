package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/weirdns/weir/host"
	"github.com/weirdns/weir/host/config"
	"github.com/weirdns/weir/host/handover"
	"github.com/weirdns/weir/host/inherit"
)

// predecessor is whoever had the sockets before: the service manager, another weir, or nobody.
type predecessor struct {
	passed  *inherit.Sockets  // by the service manager; nil: none
	upgrade *handover.Upgrade // nil: none
}

// ask asks the weir that serves for its sockets, if there shall be an upgrade.
func (p *predecessor) ask(ctx context.Context, f *config.File, upgrade bool) (err error) {
	switch {
	case !upgrade:
		return nil
	case p.passed != nil:
		return errors.New("there are sockets of the service manager (LISTEN_FDS), and --upgrade would take those of another weir: start without one of them")
	case f.Process.Handover == "":
		return config.Errors{f.Error("process.handover", `is missing, and --upgrade needs it: write the path that the weir which serves has there, such as "/run/weir/handover.sock"`)}
	}
	p.upgrade, err = handover.Connect(ctx, f.Process.Handover)
	return err
}

// sockets are what listeners may take.
func (p *predecessor) sockets() *inherit.Sockets {
	if p.upgrade != nil {
		return p.upgrade.Sockets()
	}
	return p.passed
}

// rest looks at what no listener took: another weir's old addresses are given up, but what the service manager passes is meant to be served.
func (p *predecessor) rest(f *config.File) error {
	left := p.sockets().Left()
	p.sockets().Close()
	if p.upgrade != nil || len(left) == 0 {
		return nil
	}
	return fmt.Errorf("the service manager passed sockets that no listener takes: %s: add a [[listener]] with that address and protocol to %s, or delete them from the socket unit",
		strings.Join(left, ", "), f.Path)
}

// ready says that s serves: to the weir that was there before, which lets go then, and to the service manager.
func (p *predecessor) ready(ctx context.Context, s *host.Server, manager notifier) error {
	if p.upgrade == nil {
		manager.ready()
		return nil
	}
	defer p.upgrade.Close()
	if err := p.upgrade.Ready(ctx, s.Files()); err != nil {
		return err
	}
	s.OwnFiles()
	manager.log.Info("took over: the weir before answers what is in flight, and ends")
	manager.tookOver()
	return nil
}

func (p *predecessor) close() {
	p.passed.Close()
	if p.upgrade != nil {
		p.upgrade.Close()
	}
}
