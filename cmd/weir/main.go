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
	context.AfterFunc(ctx, stop) // so that a second signal ends weir at once
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

Everything is in one TOML file, by default config.toml in the working directory. "weir check" says what is wrong in it, and where; "weir run" serves it;
"weir query" asks a question, and "weir explain" tells what becomes of one and why.

The exit code of every command is 0 when it did what it was asked to, and 1 when it could not; then standard error says why.`,
		Example: `  weir check config.toml
  weir run config.toml
  weir query www.home.arpa
  weir explain www.home.arpa
  source <(weir completion bash)`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.AddCommand(runCommand(), checkCommand(), queryCommand(), explainCommand(), filterCommand(), versionCommand())
	return root
}
