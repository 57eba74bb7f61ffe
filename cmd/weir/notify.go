package main

import (
	"fmt"
	"log/slog"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// notifier tells the service manager what weir is doing, as sd_notify(3) does: by datagrams to the socket that NOTIFY_SOCKET names. Without one it does
// nothing.
type notifier struct {
	socket string
	log    *slog.Logger
}

func newNotifier(log *slog.Logger) notifier { return notifier{os.Getenv("NOTIFY_SOCKET"), log} }

func (n notifier) ready() { n.send("READY=1") }

// handedOver has the manager follow another process, which has to be of the same unit.
func (n notifier) handedOver(pid int) { n.send(fmt.Sprintf("MAINPID=%d", pid)) }

// tookOver is ready of a process that has taken another one's place. The manager has heard of that from the other one too, if it listens to main processes only.
func (n notifier) tookOver() { n.send(fmt.Sprintf("MAINPID=%d\nREADY=1", os.Getpid())) }

func (n notifier) stopping() { n.send("STOPPING=1") }

// reloading has to say when, by the clock that no one sets, so that the manager knows which READY comes after it.
func (n notifier) reloading() {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err == nil {
		n.send(fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", now.Nano()/1000))
	}
}

func (n notifier) send(state string) {
	if n.socket == "" {
		return
	}
	c, err := net.Dial("unixgram", n.socket) // net knows that "@" begins an abstract name
	if err == nil {
		_, err = c.Write([]byte(state))
		c.Close()
	}
	if err != nil {
		n.log.Warn("the service manager can't be told", "state", state, "error", err)
	}
}
