package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weirdns/weir/host/trial"
	"github.com/weirdns/weir/host/wasm"
	"github.com/weirdns/weir/sdk/sdktest"
)

func filterTestCommand() *cobra.Command {
	var verbose bool
	cmd := &cobra.Command{
		Use:   "test [FOLDER|FILE.wasm] [CASES ...]",
		Short: "Run the cases of a filter against its module",
		Long: `Compile the filter in FOLDER, by default the current one, or take the module FILE.wasm, and run cases against it as weir would run it: with its schema,
its grants, metered, in its sandbox. CASES are files; without them, it is *.txtar and testdata/*.txtar in the folder of the filter.

A file of cases has the configuration, the tables and the upstreams of the filter, and then queries, each with the verdict that it must get:

  -- config.json --
  {"zones": ["ads.test"]}
  -- cases --
  query www.ads.test A
  verdict respond NXDOMAIN ede 15

  query www.example.com A from 192.0.2.7 over tcp
  verdict next

"go doc github.com/weirdns/weir/sdk/sdktest", in the folder of a filter, has all of it. The exit code is 1 when something is not as a file says.`,
		Example: `  weir filter test
  weir filter test no-ads.wasm cases.txtar
  weir filter test filters/no-ads --verbose`,
		RunE: func(cmd *cobra.Command, args []string) error {
			folder := folderOf(args)
			var module []byte
			var err error
			if strings.HasSuffix(folder, ".wasm") {
				module, err = os.ReadFile(folder)
				folder = filepath.Dir(folder)
			} else {
				module, _, err = compile(cmd, folder)
			}
			if err != nil {
				return err
			}
			names, err := caseFiles(folder, args)
			if err != nil {
				return err
			}
			t, err := trial.New(module, "")
			if err != nil {
				return err
			}
			err = tryFiles(cmd, t, names, verbose)
			if e := t.Close(); err == nil {
				err = e
			}
			return err
		},
	}
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "list each case, whether or not it fails")
	return cmd
}

// caseFiles returns the files of cases that the arguments name, or those of the folder.
func caseFiles(folder string, args []string) ([]string, error) {
	if len(args) > 1 {
		return args[1:], nil
	}
	var names []string
	for _, pattern := range []string{"*.txtar", filepath.Join("testdata", "*.txtar")} {
		found, err := filepath.Glob(filepath.Join(folder, pattern))
		if err != nil {
			return nil, err
		}
		names = append(names, found...)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%s has no files of cases, *.txtar or testdata/*.txtar: weir filter test --help shows one", folder)
	}
	return names, nil
}

// tryFiles runs the cases of files, and prints what fails and a summary.
func tryFiles(cmd *cobra.Command, t *trial.Trial, names []string, verbose bool) error {
	out := cmd.OutOrStdout()
	cases, failed := 0, 0
	for _, name := range names {
		f, err := sdktest.ReadFile(name)
		if err != nil {
			return err
		}
		f.Check(t.Open(cmd.Context()), func(c *sdktest.Case, failures []sdktest.Failure) {
			if c != nil {
				cases++
			}
			if verbose && c != nil && len(failures) == 0 {
				fmt.Fprintf(out, "ok   %s:%d: %s\n", name, c.Line, c.Steps[0].Call)
			}
			if len(failures) > 0 {
				failed++
			}
			for _, failure := range failures {
				fmt.Fprintf(out, "FAIL %s\n", strings.ReplaceAll(failure.String(), "\n", "\n     "))
			}
		})
		if cmd.Context().Err() != nil {
			return cmd.Context().Err()
		}
	}
	m := t.Manifest()
	if failed > 0 {
		fmt.Fprintf(out, "FAIL %s %s: %d failed, of %s\n", m.Name, m.Version, failed, number(cases, "case"))
		return errSaid
	}
	fmt.Fprintf(out, "ok   %s %s: %s in %s", m.Name, m.Version, number(cases, "case"), number(len(names), "file"))
	if t.Fuel() > 0 {
		fmt.Fprintf(out, "; a call took at most %d units of fuel, of %d", t.Fuel(), wasm.DefaultFuel)
	}
	fmt.Fprintln(out)
	return nil
}

// number is a number of things.
func number(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}
