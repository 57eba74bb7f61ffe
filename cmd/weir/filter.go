package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weirdns/weir/filters"
	"github.com/weirdns/weir/filters/build/driver"
	"github.com/weirdns/weir/filters/scaffold"
)

func filterCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "filter",
		Short: "Make, build, test and look into filters",
		Long: `Make, build, test and look into filters, the programs that decide what happens to each query.

A filter is a folder with a Go program (main.go), a manifest (filter.json) and cases that it is tested with (*.txtar). It becomes one file,
a WebAssembly module, which a configuration names. Making, building and testing take the go command, and no network.`,
		Example: `  weir filter new no-ads
  cd no-ads
  weir filter test
  weir filter build
  weir filter inspect no-ads.wasm`,
	}
	cmd.AddCommand(filterNewCommand(), filterBuildCommand(), filterTestCommand(), filterInspectCommand())
	return cmd
}

func filterNewCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "new NAME",
		Short: "Make the folder of a new filter",
		Long: `Make a folder NAME with a small filter that works, its manifest, its tests, and the SDK, so that it builds and passes its tests
offline. NAME is lower-case letters, digits and hyphens; a path may stand before it. A folder that exists is left alone.`,
		Example: `  weir filter new no-ads
  weir filter new filters/no-ads`,
		Args: oneArgument("NAME", "weir filter new no-ads"),
		RunE: func(cmd *cobra.Command, args []string) error {
			sdk, err := filters.SDK()
			if err != nil {
				return err
			}
			files, err := scaffold.New(args[0], sdk)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			fmt.Fprintf(out, "made %s with %s, and the SDK in vendor\n", args[0], strings.Join(files, ", "))
			fmt.Fprintf(out, "now: cd %s && weir filter test\n", args[0])
			return nil
		},
	}
}

func filterBuildCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "build [FOLDER]",
		Short: "Compile a filter to a module",
		Long: `Compile the filter in FOLDER, by default the current one, to WebAssembly, and put its manifest, filter.json, into the module. It is written to
FOLDER/NAME.wasm, with the name of the manifest. This takes Go 1.26 or newer.

Filters in other languages are compiled with the tools of those; "go run github.com/weirdns/weir/sdk/pack" gives their modules a manifest.`,
		Example: `  weir filter build
  weir filter build no-ads -o /etc/weir/no-ads.wasm`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			folder := folderOf(args)
			module, name, err := compile(cmd, folder)
			if err != nil {
				return err
			}
			if output == "" {
				output = filepath.Join(folder, name+".wasm")
			}
			if err := os.WriteFile(output, module, 0o666); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %d octets\n", output, len(module))
			return nil
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "write the module to this file")
	return cmd
}

// folderOf returns the first argument, or the current folder.
func folderOf(args []string) string {
	if len(args) == 0 {
		return "."
	}
	return args[0]
}

// compile compiles the filter in a folder, and returns the module and the name of the filter.
func compile(cmd *cobra.Command, folder string) (module []byte, name string, err error) {
	if _, err := os.Stat(filepath.Join(folder, driver.Manifest)); err != nil {
		return nil, "", fmt.Errorf("%s is not the folder of a filter, since it has no %s: weir filter new NAME makes one", folder, driver.Manifest)
	}
	if err := driver.CheckToolchain(cmd.Context(), folder); err != nil {
		return nil, "", err
	}
	module, m, err := driver.Compile(cmd.Context(), folder)
	return module, m.Name, err
}

// oneArgument wants exactly one argument, and says what for.
func oneArgument(what, example string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != 1 {
			return fmt.Errorf("needs one %s, such as: %s", what, example)
		}
		return nil
	}
}
