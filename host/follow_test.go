package host

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weirdns/weir/host/config"
)

// With watch, a change is taken when it looks the same at two ticks, whether the file is written, replaced or behind a link that is; without, only
// when weir is told. What was refused is not tried again and again.
func TestFollow(t *testing.T) {
	r := startReloading(t)
	told, tick := make(chan os.Signal), make(chan time.Time)
	type try struct {
		file *config.File
		err  error
	}
	tries := make(chan try, 10)
	go r.Follow(t.Context(), func() (*config.File, error) { return config.Load(r.path, nil) }, told, tick, func(f *config.File, err error) { tries <- try{f, err} })
	ticks := func(n int) {
		for range n {
			tick <- time.Time{}
		}
	}
	expect := func(what string, want uint64, ok bool) {
		t.Helper()
		select {
		case got := <-tries:
			if (got.err == nil) != ok || r.number() != want {
				t.Errorf("%s: %v, generation %d; want %d", what, got.err, r.number(), want)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%s: no reload", what)
		}
	}
	quiet := func(what string) {
		t.Helper()
		ticks(3) // the second is taken only when all is done about the first
		select {
		case got := <-tries:
			t.Errorf("%s: a reload, %v", what, got.err)
		default:
		}
	}
	text := r.generationText(1)
	r.write("weir.toml", text)
	quiet("a change without watch")
	told <- os.Interrupt
	expect("told", 2, true)
	r.write("weir.toml", "watch = true\n"+text)
	told <- os.Interrupt
	expect("told", 3, true)
	quiet("no change")
	r.write("weir.toml", "watch = true\n"+r.generationText(3)+"# and more\n")
	ticks(2)
	expect("a change", 4, true)
	r.write("weir.toml", "watch = true\n"+r.generationText(4)+"oops\n")
	ticks(2)
	expect("a bad change", 4, false)
	if log := r.log.take(); !strings.Contains(log, "weir.toml:") || !strings.Contains(log, "serving=4") {
		t.Errorf("the log says %s", log)
	}
	quiet("no other change")
	r.write("new.toml", "watch = true\n"+r.generationText(5))
	if err := os.Rename(filepath.Join(filepath.Dir(r.path), "new.toml"), r.path); err != nil {
		t.Fatal(err)
	}
	ticks(2)
	expect("a file in its place", 5, true)
	// As in Kubernetes: the file is a link to ..data/weir.toml, and ..data a link to a directory, which is what changes.
	dir := filepath.Dir(r.path)
	for i, n := range []int{6, 7} {
		volume := filepath.Join(dir, []string{"a", "b"}[i])
		if err := os.Mkdir(volume, 0o755); err != nil {
			t.Fatal(err)
		}
		text := strings.Replace("watch = true\n"+r.generationText(n), `zonefile = "`, `zonefile = "`+dir+`/`, 1)
		if err := os.WriteFile(filepath.Join(volume, "weir.toml"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		link := filepath.Join(dir, "..data")
		os.Remove(link)
		if err := os.Symlink(volume, link); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			os.Remove(r.path)
			if err := os.Symlink(filepath.Join(link, "weir.toml"), r.path); err != nil {
				t.Fatal(err)
			}
		}
		ticks(2)
		expect("a link", uint64(6+i), true)
	}
}
