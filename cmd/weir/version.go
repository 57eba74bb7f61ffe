package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weirdns/weir/abi"
	"github.com/weirdns/weir/filters"
)

// version is set by the linker, see the Makefile.
var version = ""

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "version",
		Short:             "Print the version, and what was built in",
		Long:              `Print the version of weir, the version of the contract with filters (abi/README.md), and the filters that were built in.`,
		Example:           `  weir version`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := cmd.OutOrStdout()
			fmt.Fprintf(out, "weir %s (%s, %s/%s)\n", programVersion(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			fmt.Fprintf(out, "filter ABI %d\n", abi.Version)
			names := filters.Names()
			if len(names) == 0 {
				fmt.Fprintln(out, "built without its filters: run make build")
				return nil
			}
			fmt.Fprintf(out, "filters %s\n", strings.Join(names, ", "))
			return nil
		},
	}
}

func programVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(unknown)"
}
