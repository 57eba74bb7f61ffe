package examples_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirdns/weir/abi"
	"github.com/weirdns/weir/filters/build/driver"
	"github.com/weirdns/weir/host"
	"github.com/weirdns/weir/host/config"
	"github.com/weirdns/weir/host/scenario"
	"github.com/weirdns/weir/host/trial"
	"github.com/weirdns/weir/host/upstream/upstreamtest"
	"github.com/weirdns/weir/host/wasm"
	"github.com/weirdns/weir/sdk/sdktest"
)

// TestMain lets the test binary be the child that compiles modules.
func TestMain(m *testing.M) {
	wasm.CompileChild()
	os.Exit(m.Run())
}

// TestExamples builds each example, runs its cases against the module, which its own test runs natively, and serves its weir.toml.
func TestExamples(t *testing.T) {
	folders, err := filepath.Glob("*/" + driver.Manifest)
	if err != nil || len(folders) < 5 {
		t.Fatalf("examples: got %q, %v", folders, err)
	}
	for _, f := range folders {
		folder := filepath.Dir(f)
		if _, err := os.Stat(filepath.Join(folder, "main.go")); err != nil {
			continue // not in Go: it has a test of its own
		}
		t.Run(folder, func(t *testing.T) {
			module, m, err := driver.Compile(t.Context(), folder)
			if err != nil {
				t.Fatal(err)
			}
			if m.Name != folder {
				t.Errorf("the manifest has the name %s, want that of the folder", m.Name)
			}
			try(t, folder, module, "*.txtar", "testdata/*.txtar")
			serve(t, folder, module)
		})
	}
}

// TestC builds the example in C by the command in its source, and tries it as the others. It takes clang and lld.
func TestC(t *testing.T) {
	for _, tool := range []string{"clang", "wasm-ld"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("skipped: examples/any is not built: %v", err)
		}
	}
	source, err := os.ReadFile("any/any.c")
	if err != nil {
		t.Fatal(err)
	}
	at := strings.Index(string(source), "clang --target")
	command, _, _ := strings.Cut(string(source)[max(at, 0):], "\n")
	words := strings.Fields(command)
	out := filepath.Join(t.TempDir(), "any.wasm")
	for i, w := range words {
		if w == "any.wasm" {
			words[i] = out
		}
	}
	c := exec.CommandContext(t.Context(), words[0], words[1:]...)
	c.Dir = "any"
	if said, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, said)
	}
	module, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	try(t, "any", module, "*.txtar")
	serve(t, "any", module)
}

// try runs the cases against the module as weir runs it.
func try(t *testing.T, folder string, module []byte, patterns ...string) {
	r, err := trial.New(module, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}()
	for _, pattern := range patterns {
		sdktest.Run(t, filepath.Join(folder, pattern), r.Open(t.Context()))
	}
	if r.Fuel() == 0 {
		t.Error("no case called the filter")
	}
}

// serve runs weir with the configuration of the example, and servers that play the outside world by upstreams.txt, and asks what expect.txt says.
// Their addresses are those of the files, but for the ports, which are what is free.
func serve(t *testing.T, folder string, module []byte) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(folder)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, folder+".wasm"), module, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := config.Load(filepath.Join(dir, "weir.toml"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range f.Warnings {
		t.Errorf("warning: %v", w)
	}
	f.Wasm.CacheDir = t.TempDir()
	for i := range f.Listeners {
		f.Listeners[i].Address = "127.0.0.1:0"
	}
	addresses := outside(t, dir)
	for i := range f.Upstreams {
		for n, s := range f.Upstreams[i].Config.Servers {
			if addresses[s] == "" {
				t.Fatalf("upstreams.txt has no server %s", s)
			}
			f.Upstreams[i].Config.Servers[n] = addresses[s]
		}
	}
	var log bytes.Buffer
	s, stop := start(t, f, slog.New(slog.NewTextHandler(&log, nil)))
	address := s.Addrs()[0].String()
	text, err := os.ReadFile(filepath.Join(dir, "expect.txt"))
	if err != nil {
		t.Fatal(err)
	}
	queries, err := scenario.Parse(string(text))
	if err != nil || len(queries) == 0 {
		t.Fatalf("expect.txt: got %d queries, %v", len(queries), err)
	}
	for _, q := range queries {
		if err := q.Play(t.Context(), address); err != nil {
			t.Errorf("expect.txt:%d: %s\n%v", q.Line, q.Text, err)
		}
	}
	stop()
	checkLog(t, dir, log.String())
}

// outside starts the servers of upstreams.txt, and returns their addresses by those of the file.
func outside(t *testing.T, dir string) map[string]string {
	addresses := map[string]string{}
	text, err := os.ReadFile(filepath.Join(dir, "upstreams.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		address, rest, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok {
			t.Fatalf("upstreams.txt: %q has no protocols", line)
		}
		addresses[address] = upstreamtest.Start(t, "127.0.0.1:0 "+rest).Addr.String()
	}
	return addresses
}

// start runs a server; stop ends it.
func start(t *testing.T, f *config.File, log *slog.Logger) (s *host.Server, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	s, err := host.New(ctx, f, "test", log)
	if err == nil {
		err = s.Listen(ctx)
	}
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- s.Run(ctx) }()
	return s, func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
}

// checkLog looks for the lines of log.txt, if there is one, each of words that a line of the log must have.
func checkLog(t *testing.T, dir, log string) {
	want, err := os.ReadFile(filepath.Join(dir, "log.txt"))
	if err != nil {
		return
	}
	for line := range strings.Lines(string(want)) {
		found := false
		for got := range strings.Lines(log) {
			all := true
			for _, word := range strings.Fields(line) {
				all = all && strings.Contains(got, word)
			}
			found = found || all
		}
		if !found {
			t.Errorf("the log has no line with %sit is\n%s", line, log)
		}
	}
}

// TestListed: the list of examples has each of them, and its description is that of the manifest.
func TestListed(t *testing.T) {
	list, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("*/" + driver.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		document, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		m, err := abi.ParseManifest(document)
		if err != nil {
			t.Fatal(err)
		}
		if line := fmt.Sprintf("| [%s](%s/README.md) | %s |\n", m.Name, filepath.Dir(name), m.Description); !strings.Contains(string(list), line) {
			t.Errorf("README.md lacks the line\n%s", line)
		}
	}
}
