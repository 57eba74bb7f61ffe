package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/weirdns/weir/filters"
	"github.com/weirdns/weir/host/wasm"
)

func filterInspectCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "inspect FILE.wasm|NAME",
		Short: "Show what a module is and needs, without running it",
		Long: `Show the manifest of a module, the keys of its configuration, the grants it needs, its ABI version, exports, imports, size and memory. Nothing of it is
run or compiled. NAME is a filter that comes with weir.

The exit code is 1 if this weir would not load the module; the last line says why then.`,
		Example: `  weir filter inspect no-ads.wasm
  weir filter inspect rules
  weir filter inspect rules --json | jq .manifest.schema`,
		Args: oneArgument("FILE.wasm, or NAME of a filter that comes with weir", "weir filter inspect rules"),
		RunE: func(cmd *cobra.Command, args []string) error {
			module, err := readModule(args[0])
			if err != nil {
				return err
			}
			d, err := wasm.Describe(module)
			if err != nil {
				return fmt.Errorf("%s %w", args[0], err)
			}
			out := cmd.OutOrStdout()
			if asJSON {
				e := json.NewEncoder(out)
				e.SetIndent("", "  ")
				e.SetEscapeHTML(false)
				if err := e.Encode(d); err != nil {
					return err
				}
			} else {
				printDescription(out, d)
			}
			if d.Problem != "" {
				return errSaid
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// readModule reads a module from a file, or one that comes with weir.
func readModule(name string) ([]byte, error) {
	if module, ok := filters.Module(name); ok {
		return module, nil
	}
	module, err := os.ReadFile(name)
	if os.IsNotExist(err) && !strings.HasSuffix(name, ".wasm") {
		return nil, fmt.Errorf("there is no file %s, and no filter of that name comes with weir: those are %s", name, strings.Join(filters.Names(), ", "))
	}
	return module, err
}

// whatFor are the grants in words.
var whatFor = map[string]string{
	"forward": "chooses upstreams", "ask": "asks questions of its own", "rewrite": "changes the question",
	"tables": "reads the tables that its configuration names", "log": "writes to the log, granted unasked", "metrics": "has metrics, granted unasked",
}

// printable replaces what is no text by blanks.
func printable(r rune) rune {
	if !unicode.IsPrint(r) {
		return ' '
	}
	return r
}

func printDescription(out io.Writer, d wasm.Description) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(key, format string, a ...any) {
		// The module may be a stranger's: what it says is one line, and tells the terminal nothing.
		fmt.Fprintf(w, "%s\t%s\n", key, strings.Map(printable, fmt.Sprintf(format, a...)))
	}
	if m := d.Manifest; m != nil {
		line("name", "%s %s", m.Name, m.Version)
		if m.Description != "" {
			line("description", "%s", m.Description)
		}
		if m.Role != "" {
			line("role", "%s", m.Role)
		}
	}
	line("ABI", "%s", strings.Join(d.ABI, ", "))
	line("size", "%d octets, %d functions", d.Size, d.Functions)
	line("memory", "%d KiB at once", d.Memory/1024)
	if m := d.Manifest; m != nil {
		for _, g := range m.Grants {
			line("grant", "%s: %s", g, whatFor[g])
		}
		var s schema
		if json.Unmarshal(m.Schema, &s) == nil {
			for _, k := range s.keys() {
				line("config", "%s", k)
			}
		}
	}
	for _, e := range d.Exports {
		line("export", "%s %s", e.Name, e.Signature)
	}
	for _, i := range d.Imports {
		line("import", "%s.%s %s", i.Module, i.Name, i.Signature)
	}
	w.Flush() //nolint:errcheck // as with Fprintf: there is nobody to tell
	if d.Problem != "" {
		fmt.Fprintf(out, "\nthis weir would not load it: %s\n", d.Problem)
	}
}
