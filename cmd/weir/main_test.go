package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/weirdns/weir/host/explain"
	"github.com/weirdns/weir/host/wasm"
)

// TestMain lets the test binary be the child that compiles modules, and weir itself.
func TestMain(m *testing.M) {
	wasm.CompileChild()
	if os.Getenv(processVariable) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// run runs weir with these arguments.
func run(t *testing.T, args ...string) (out, errs string, err error) {
	t.Helper()
	root := rootCommand()
	var stdout, stderr bytes.Buffer
	root.SetOut(&stdout)
	root.SetErr(&stderr)
	root.SetArgs(args)
	err = root.ExecuteContext(t.Context())
	return stdout.String(), stderr.String(), err
}

// Every command says what it does, at length, and shows how it is used; the examples are of commands and flags that exist.
func TestHelp(t *testing.T) {
	root := rootCommand()
	var look func(c *cobra.Command)
	look = func(c *cobra.Command) {
		if c.Short == "" || c.Long == "" || c.Example == "" {
			t.Errorf("%s lacks one of Short, Long and Example", c.CommandPath())
		}
		for line := range strings.Lines(c.Example) {
			words := strings.Fields(line)
			for i, w := range words {
				if w != "weir" || i+1 == len(words) {
					continue
				}
				found, _, err := root.Find(words[i+1:])
				if err != nil || found == root {
					if words[i+1] != "completion" {
						t.Errorf("%s: no such command in the example %q", c.CommandPath(), line)
					}
					continue
				}
				for _, flag := range words[i+1:] {
					if name, ok := strings.CutPrefix(flag, "--"); ok && found.Flags().Lookup(name) == nil {
						t.Errorf("%s: %s has no flag %s", c.CommandPath(), found.CommandPath(), flag)
					}
				}
			}
		}
		for _, sub := range c.Commands() {
			look(sub)
		}
	}
	look(root)
}

func TestCompletion(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if out, _, err := run(t, "completion", shell); err != nil || !strings.Contains(out, "weir") {
			t.Errorf("%s: %v, %d octets", shell, err, len(out))
		}
	}
	for _, tt := range []struct {
		name string
		args []string
		want string
	}{
		{"types", []string{"explain", "a.test", "AA"}, "AAAA\n"},
		{"types behind a server", []string{"query", "@192.0.2.1", "a.test", "HTT"}, "HTTPS\n"},
		{"commands", []string{"exp"}, "explain\t"},
		{"listeners", []string{"explain", "--config", configFile(t), "--listener", ""}, "127.0.0.1:0\tchain main\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, _, err := run(t, append([]string{"__complete"}, tt.args...)...)
			if err != nil || !strings.Contains(out, tt.want) {
				t.Errorf("%v: got %q, want %q in it", err, out, tt.want)
			}
		})
	}
}

// configFile writes a configuration and returns its path.
func configFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "weir.toml")
	err := os.WriteFile(path, []byte(`[[listener]]
address = "127.0.0.1:0"
chain = "main"
[chain.main]
filters = ["rules"]
[filter.rules.config]
rule = [
  { zone = "a.test", rcode = "REFUSED" },
  { zone = "b.test", rcode = "NXDOMAIN" },
]
`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestExplain(t *testing.T) {
	path := configFile(t)
	out, errs, err := run(t, "explain", "www.b.test", "MX", "--config", path)
	if err != nil || !strings.Contains(out, "weir.toml:9 rule[1]: zone b.test. -> NXDOMAIN") || !strings.Contains(errs, "empty caches") {
		t.Errorf("%v\n%s\n%s", err, out, errs)
	}
	out, _, err = run(t, "explain", "www.b.test", "--config", path, "--json", "--client", "192.0.2.7", "--tcp")
	var trail explain.Trail
	if err != nil || json.Unmarshal([]byte(out), &trail) != nil || trail.Client != "192.0.2.7" || trail.Over != "tcp" || trail.Response.RCODE != "NXDOMAIN" {
		t.Errorf("%v\n%s", err, out)
	}
	for _, tt := range []struct {
		name string
		args []string
		want string
	}{
		{"name", []string{"a..b"}, "is not a domain name"},
		{"type", []string{"a.test", "NONSENSE"}, "is not a type"},
		{"client", []string{"a.test", "--client", "me"}, "--client: "},
		{"listener", []string{"a.test", "--listener", "192.0.2.1:53", "--config", path}, "there is no listener"},
		{"no admin", []string{"a.test", "--live", "--config", path}, "there is no [admin]"},
		{"nobody there", []string{"a.test", "--admin", "127.0.0.1:1"}, "ask the weir at 127.0.0.1:1"},
		{"both", []string{"a.test", "--live", "--admin", "127.0.0.1:1"}, "none of the others can be"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, _, err := run(t, append([]string{"explain"}, tt.args...)...); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}
