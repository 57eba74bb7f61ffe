// Command weir is a DNS proxy whose policy is WebAssembly. See README.md.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/weirdns/weir/host/wasm"
)

func main() {
	// A module that did not come with weir is compiled by a second weir with limits, which ends here.
	wasm.CompileChild()

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := rootCommand().ExecuteContext(ctx); err != nil {
		if !errors.Is(err, errSaid) {
			fmt.Fprintf(os.Stderr, "weir: %v\n", err)
			if strings.HasPrefix(err.Error(), "unknown ") {
				fmt.Fprintln(os.Stderr, "weir --help lists commands and flags.")
			}
		}
		os.Exit(1)
	}
}

// errSaid ends a command with exit code 1 when everything has been said already.
var errSaid = errors.New("said")

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "weir",
		Short: "A DNS proxy whose policy is WebAssembly",
		Long: `weir is a DNS proxy whose policy is WebAssembly: small sandboxed programs decide what happens to each query.

Everything is in one TOML file. Start with "weir check FILE", then "weir run FILE".`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.AddCommand(runCommand(), checkCommand(), queryCommand(), explainCommand(), versionCommand())
	return root
}
