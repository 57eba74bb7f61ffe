//go:build !wasip1

// Command build compiles the filters of this repository, gives them their manifests, and puts them into filters/dist, from where
// package filters embeds them; beside them goes the SDK as an archive, for weir filter new. It needs the Go toolchain and nothing
// else. What is of the same sources as before is left alone.
//
//	go run ./filters/build [NAME ...]
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/weirdns/weir/filters/build/driver"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, names []string) error {
	modules, err := driver.Build(ctx, names...)
	if err == nil && len(names) == 0 {
		var sdk driver.Built
		if sdk, err = driver.SDK(ctx); err == nil {
			modules = append(modules, sdk)
		}
	}
	for _, m := range modules {
		state := "built"
		if m.Cached {
			state = "is up to date"
		}
		fmt.Printf("%s %s, %d octets\n", m.Name, state, m.Size)
	}
	return err
}
