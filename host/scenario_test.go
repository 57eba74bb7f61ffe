package host

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/weirdns/weir/host/config"
	"github.com/weirdns/weir/host/scenario"
	"github.com/weirdns/weir/host/upstream/upstreamtest"
)

// TestScenarios plays the situations in testdata, each a txtar file with weir.toml, upstreams.txt, expect.txt and what the configuration names.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			for _, f := range a.Files {
				if err := os.WriteFile(filepath.Join(dir, f.Name), f.Data, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			play(t, dir)
		})
	}
}

// TestSharedScenarios plays the situations that lie beside the repository, when they do.
func TestSharedScenarios(t *testing.T) {
	root := os.Getenv("WEIR_SHARED")
	if root == "" {
		root = "../../shared"
	}
	folders, err := filepath.Glob(filepath.Join(root, "scenarios", "*", "expect.txt"))
	if err != nil {
		t.Fatal(err)
	}
	if len(folders) == 0 {
		t.Skipf("no scenarios in %s: set WEIR_SHARED to the directory that has them", root)
	}
	for _, f := range folders {
		dir := filepath.Dir(f)
		t.Run(filepath.Base(dir), func(t *testing.T) { play(t, dir) })
	}
}

// play starts the servers and weir, and asks.
func play(t *testing.T, dir string) {
	expect, err := os.ReadFile(filepath.Join(dir, "expect.txt"))
	if err != nil {
		t.Fatal(err)
	}
	queries, err := scenario.Parse(string(expect))
	if err != nil {
		t.Fatal(err)
	}
	if upstreams, err := os.ReadFile(filepath.Join(dir, "upstreams.txt")); err == nil {
		for line := range strings.Lines(string(upstreams)) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				upstreamtest.Start(t, line)
			}
		}
	}
	s := serve(t, filepath.Join(dir, "weir.toml"))
	for _, q := range queries {
		addr := q.Listener
		if addr == "" {
			addr = s.Addrs()[0].String()
		}
		if err := q.Play(t.Context(), addr); err != nil {
			t.Errorf("expect.txt:%d: %s\n%v", q.Line, q.Text, err)
		}
	}
}

// serve runs the configuration at path until the test ends.
func serve(t testing.TB, path string) *Server {
	t.Helper()
	f, err := config.Load(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return serveFile(t, f)
}

func serveFile(t testing.TB, f *config.File) *Server {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	ctx, cancel := context.WithCancel(context.Background())
	s, err := New(ctx, f, "test", log)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	if err := s.Listen(ctx); err != nil {
		cancel()
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}
