package scaffold_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirdns/weir/abi"
	"github.com/weirdns/weir/filters/build/driver"
	"github.com/weirdns/weir/filters/scaffold"
)

// sdk makes the archive of this source tree.
func sdk(t *testing.T) []byte {
	t.Helper()
	b, err := driver.SDK(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	archive, err := os.ReadFile(b.Path)
	if err != nil {
		t.Fatal(err)
	}
	return archive
}

// TestNew: what it makes builds and passes its tests without a network and without a module cache.
func TestNew(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "no-ads")
	files, err := scaffold.New(folder, sdk(t))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(files, " "), "README.md cases.txtar filter.json main.go main_test.go"; got != want {
		t.Errorf("got files %s, want %s", got, want)
	}
	t.Setenv("GOPROXY", "off")
	t.Setenv("GOMODCACHE", filepath.Join(t.TempDir(), "empty"))
	t.Setenv("GOFLAGS", "")
	t.Setenv("GOWORK", "off")
	module, m, err := driver.Compile(t.Context(), folder)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := abi.ReadManifest(module); err != nil || got.Name != "no-ads" || m.Name != got.Name {
		t.Errorf("got manifests %q and %q, %v; want that of no-ads", got.Name, m.Name, err)
	}
	for _, arguments := range [][]string{{"vet", "./..."}, {"test", "./..."}} {
		c := exec.CommandContext(t.Context(), "go", arguments...)
		c.Dir = folder
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("go %s: %v\n%s", strings.Join(arguments, " "), err, out)
		}
	}
	for _, name := range files {
		content, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(content), "starter") {
			t.Errorf("%s speaks of the starter", name)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	archive := sdk(t)
	parent := t.TempDir()
	if err := os.Mkdir(filepath.Join(parent, "taken"), 0o777); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, folder string
		sdk          []byte
		want         string
	}{
		{"exists", "taken", archive, "exists already"},
		{"capitals", "NoAds", archive, "lower-case"},
		{"underscore", "no_ads", archive, "lower-case"},
		{"no parent", "no/ads", archive, "no such file"},
		{"no archive", "ads", []byte("zip"), "archive of the SDK"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			folder := filepath.Join(parent, tt.folder)
			_, err := scaffold.New(folder, tt.sdk)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %v, want one with %q", err, tt.want)
			}
			if _, err := os.Stat(folder); err == nil && tt.folder != "taken" {
				t.Errorf("%s is there nevertheless", tt.folder)
			}
		})
	}
}
