package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// onHangup calls do for each SIGHUP until ctx is done.
func onHangup(ctx context.Context, do func()) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	for {
		select {
		case <-hangups:
			do()
		case <-ctx.Done():
			return
		}
	}
}
