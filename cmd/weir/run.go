package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/lmittmann/tint"
	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/weirdns/weir/host"
	"github.com/weirdns/weir/host/config"
	"github.com/weirdns/weir/host/inherit"
)

const defaultFile = "config.toml"

func runCommand() *cobra.Command {
	var upgrade bool
	c := &cobra.Command{
		Use:   "run [FILE]",
		Short: "Serve a configuration",
		Long: `Serve the configuration in FILE, by default config.toml, until SIGINT or SIGTERM. Then weir serves on for the time "lameduck" (0s), stops
taking queries, answers those that are in flight, and ends; a second signal ends it at once.

On SIGHUP, and with watch = true when the file changes, weir reads the file again and goes on with it, without losing a query. If anything is wrong
with the file, that is logged, and weir goes on as before.

With --upgrade, weir takes the place of another that serves, which may be of another version and have another configuration, without losing a query: it
takes over the sockets, and the caches if they have snapshots, and when it serves, the other answers what is in flight and ends. Both configurations have to name
the same path as handover in [process]. If anything goes wrong before, the other serves on.

Under systemd, weir tells when it is ready, reloads and stops (Type=notify-reload), and takes the sockets of a socket unit (LISTEN_FDS) for the listeners at
their addresses; one that no listener takes is an error. On Linux it gives up what it doesn't need of the system once it has its
sockets, unless sandbox = false in [process].

SIGHUP has the file of the log of queries begun anew as well, for those who rotate it.

Keys of the file can be overridden by environment variables such as WEIR_LOG__LEVEL=debug. A file with mistakes is not served: they are printed as
"weir check" does, and the exit code is 1.`,
		Example: `  weir run /etc/weir/weir.toml
  weir run --upgrade /etc/weir/weir.toml
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
			s, err := host.New(cmd.Context(), f, programVersion(), log)
			if err != nil {
				return say(cmd, err)
			}
			collectEarly()
			from := &predecessor{passed: passed}
			err = from.ask(cmd.Context(), f, upgrade)
			if err == nil {
				s.Inherit(from.sockets())
				err = s.Listen(cmd.Context())
			}
			if err == nil {
				err = from.rest(f)
			}
			if err == nil {
				s.Confine()
				err = serve(cmd.Context(), s, f, log, hup, from)
			}
			from.close()
			return errors.Join(say(cmd, err), s.Close())
		},
	}
	c.Flags().BoolVar(&upgrade, "upgrade", false, "take over the sockets of the weir that serves, which then ends")
	return c
}

// serve runs s until ctx is done, or another process has taken over. hup has it read f again.
func serve(ctx context.Context, s *host.Server, f *config.File, log *slog.Logger, hup <-chan os.Signal, from *predecessor) error {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	manager := newNotifier(log)
	s.OnHandOver(manager.handedOver)
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
	context.AfterFunc(ctx, manager.stopping)
	ctx, cancel := context.WithCancel(ctx)
	var following errgroup.Group
	following.Go(func() error {
		select {
		case <-s.Serving():
		case <-ctx.Done():
			return nil
		}
		if err := from.ready(ctx, s, manager); err != nil {
			cancel()
			return err
		}
		s.Follow(ctx, reload, hup, tick.C, reloaded)
		return nil
	})
	err := s.Run(ctx)
	cancel()
	return errors.Join(err, following.Wait())
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

// garbage is what the heap may grow by before garbage is collected, in percent of what lives in it: half of Go's default. What lives is mostly caches and tables, which the
// collector does not walk, and what becomes garbage are connections; so to collect twice as often costs little.
const garbage = 50

// collectEarly sets that, unless the operator has said something else by GOGC.
func collectEarly() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(garbage)
	}
}
