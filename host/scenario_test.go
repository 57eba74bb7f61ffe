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
	"github.com/weirdns/weir/host/upstream/upstreamtest"
)

// TestScenarios plays the situations in testdata, each a txtar file with weir.toml, upstreams.txt, expect.txt and what the configuration names.
func TestScenarios(t *testing.T) {
	for _, file := range storyFiles(t) {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { play(t, unpack(t, file)) })
	}
}

// TestSharedScenarios plays the situations that lie beside the repository, when they do.
func TestSharedScenarios(t *testing.T) {
	dirs := sharedScenarios(t)
	if len(dirs) == 0 {
		t.Skip("there are no scenarios beside the repository: set WEIR_SHARED to the directory that has them")
	}
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) { play(t, dir) })
	}
}

func storyFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	return files
}

func sharedScenarios(t *testing.T) (dirs []string) {
	t.Helper()
	root := os.Getenv("WEIR_SHARED")
	if root == "" {
		root = "../../shared"
	}
	folders, err := filepath.Glob(filepath.Join(root, "scenarios", "*", "expect.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range folders {
		dirs = append(dirs, filepath.Dir(f))
	}
	return dirs
}

// unpack writes the files of a story into a directory.
func unpack(t *testing.T, file string) (dir string) {
	t.Helper()
	a, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	for _, f := range a.Files {
		if err := os.WriteFile(filepath.Join(dir, f.Name), f.Data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// play starts the servers and weir, and asks.
func play(t *testing.T, dir string) {
	startUpstreams(t, dir)
	s := serve(t, filepath.Join(dir, "weir.toml"))
	for _, q := range readQueries(t, dir) {
		addr := q.Listener
		if addr == "" {
			addr = s.Addrs()[0].String()
		}
		if err := q.Play(t.Context(), addr); err != nil {
			t.Errorf("expect.txt:%d: %s\n%v", q.Line, q.Text, err)
		}
	}
}

// startUpstreams starts the servers that play the outside world.
func startUpstreams(t *testing.T, dir string) {
	t.Helper()
	upstreams, err := os.ReadFile(filepath.Join(dir, "upstreams.txt"))
	if err != nil {
		return // a story without any
	}
	for line := range strings.Lines(string(upstreams)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			upstreamtest.Start(t, line)
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
	s, stop := start(t, f)
	t.Cleanup(stop)
	return s
}

// start runs f until stop is called.
func start(t testing.TB, f *config.File) (s *Server, stop func()) {
	t.Helper()
	log := testLog(t)
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

// testLog logs to the test.
func testLog(t testing.TB) *slog.Logger { return slog.New(slog.NewTextHandler(t.Output(), nil)) }
