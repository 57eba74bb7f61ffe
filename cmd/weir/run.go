package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/lmittmann/tint"
	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"github.com/weirdns/weir/host"
	"github.com/weirdns/weir/host/config"
	"github.com/weirdns/weir/host/inherit"
)

const defaultFile = "config.toml"

func runCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "run [FILE]",
		Short: "Serve a configuration",
		Long: `Serve the configuration in FILE, by default config.toml, until SIGINT or SIGTERM. Then weir serves on for the time "lameduck" (0s), stops
taking queries, answers those that are in flight, and ends; a second signal ends it at once.

On SIGHUP, and with watch = true when the file changes, weir reads the file again and goes on with it, without losing a query. If anything is wrong
with the file, that is logged, and weir goes on as before.

Under systemd, weir tells when it is ready, reloads and stops (Type=notify-reload), and takes the sockets of a socket unit (LISTEN_FDS) for the listeners at
their addresses; one that no listener takes is an error. On Linux it gives up what it doesn't need of the system once it has its
sockets, unless sandbox = false in [process].

SIGHUP has the file of the log of queries begun anew as well, for those who rotate it.

Keys of the file can be overridden by environment variables such as WEIR_LOG__LEVEL=debug. A file with mistakes is not served: they are printed as
"weir check" does, and the exit code is 1.`,
		Example: `  weir run /etc/weir/weir.toml
  WEIR_LOG__LEVEL=debug weir run`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			passed, err := inherit.FromEnvironment() // before anything opens files
			if err != nil {
				return err
			}
			hup := make(chan os.Signal, 1)
			signal.Notify(hup, syscall.SIGHUP) // before anything else, for the default is to end
			f, log, err := load(cmd, args)
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			s, err := host.New(ctx, f, programVersion(), log)
			if err != nil {
				return say(cmd, err)
			}
			s.Inherit(passed)
			if err := s.Listen(ctx); err != nil {
				return errors.Join(say(cmd, err), s.Close())
			}
			if left := passed.Left(); len(left) > 0 {
				return errors.Join(fmt.Errorf("the service manager passed sockets that no listener takes: %s: add a [[listener]] with that address and protocol to %s, or delete them from the socket unit",
					strings.Join(left, ", "), f.Path), s.Close())
			}
			s.Confine()
			tick := time.NewTicker(watchInterval)
			defer tick.Stop()
			manager := newNotifier(log)
			reload := func() (*config.File, error) {
				manager.reloading()
				return config.Load(f.Path, os.Environ())
			}
			reloaded := func(f *config.File, err error) {
				manager.ready() // with the new configuration, or as before
				s.ReopenLogs()
				if err == nil {
					level.Set(f.Log.SlogLevel())
				}
			}
			ctx, cancel := context.WithCancel(ctx)
			var following sync.WaitGroup
			following.Go(func() {
				select {
				case <-s.Serving():
					manager.ready()
				case <-ctx.Done():
					return
				}
				s.Follow(ctx, reload, hup, tick.C, reloaded)
			})
			context.AfterFunc(cmd.Context(), manager.stopping)
			err = s.Run(ctx)
			cancel()
			following.Wait()
			return errors.Join(err, s.Close())
		},
	}
}

// watchInterval is how often files are looked at, if the configuration says so.
const watchInterval = time.Second

// level is what is logged, at least.
var level slog.LevelVar

func checkCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check [FILE]",
		Short: "Check a configuration, as a start would, without serving it",
		Long: `Check the configuration in FILE, by default config.toml: everything that a start does short of opening sockets. Zone files are read, filters are
compiled, instantiated and configured. Every mistake is printed on a line of its own, as FILE:LINE: KEY: what is wrong: what would be right, and the exit
code is 1 then. Warnings, such as for what nothing uses, are printed too, and leave the exit code at 0.`,
		Example: `  weir check
  weir check /etc/weir/weir.toml && systemctl reload weir`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			f, log, err := load(cmd, args)
			if err != nil {
				return err
			}
			s, err := host.New(cmd.Context(), f, programVersion(), log)
			if err != nil {
				return say(cmd, err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: ok\n", f.Path)
			return s.Close()
		},
	}
}

// load reads the configuration that the arguments name, and makes the logger that it wants.
func load(cmd *cobra.Command, args []string) (*config.File, *slog.Logger, error) {
	path := defaultFile
	if len(args) > 0 {
		path = args[0]
	}
	f, err := config.Load(path, os.Environ())
	if err != nil {
		return nil, nil, say(cmd, err)
	}
	for _, w := range f.Warnings {
		fmt.Fprintf(cmd.ErrOrStderr(), "%v (warning)\n", w)
	}
	return f, newLogger(f.Log, os.Stderr), nil
}

// say prints the mistakes of a configuration as they are, a line each, so that an editor finds the places.
func say(cmd *cobra.Command, err error) error {
	if mistakes, ok := errors.AsType[config.Errors](err); ok {
		fmt.Fprintln(cmd.ErrOrStderr(), mistakes)
		return errSaid
	}
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// newLogger logs for people on a terminal, and in JSON elsewhere, unless the configuration says which.
func newLogger(c config.Log, w *os.File) *slog.Logger {
	format := c.Format
	if format == "" || format == "auto" {
		format = "json"
		if isatty.IsTerminal(w.Fd()) {
			format = "text"
		}
	}
	level.Set(c.SlogLevel())
	return slog.New(handler(format, &level, w, isatty.IsTerminal(w.Fd())))
}

func handler(format string, level slog.Leveler, w io.Writer, color bool) slog.Handler {
	if format == "json" {
		return slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level})
	}
	return tint.NewTextHandler(w, &tint.Options{Level: level, NoColor: !color})
}
