package cookie

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestParseKeys(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       int
		problem    string
	}{
		{"one", secretA + "\n", 1, ""},
		{"without an end of line", secretA, 1, ""},
		{"comments and blanks", "# of 2026\n\n \t" + secretA + "\r\n#\n" + secretB, 2, ""},
		{"none", "\n# nothing\n", 0, "has no secret"},
		{"short", secretA + "\n" + secretB[2:], 0, "secrets:2: is no secret"},
		{"long", secretA + "00", 0, "secrets:1: is no secret"},
		{"no digits", strings.Repeat("g", 32), 0, "secrets:1: is no secret"},
		{"too many", strings.Repeat(secretA+"\n", 5), 0, "secrets:5: has more than 4"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k, err := parseKeys("secrets", []byte(tt.text))
			if tt.problem == "" {
				if err != nil || k.n != tt.want {
					t.Errorf("got %v, %v; want %d secrets", k, err, tt.want)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.problem) || strings.Contains(err.Error(), secretA[:8]) {
				t.Errorf("got %v, want %q and no secret", err, tt.problem)
			}
		})
	}
}

// TestRFC9018Rollover: cookies of the old secret are good while the new one is put in its place, on one server after the other (RFC 9018 section 5).
func TestRFC9018Rollover(t *testing.T) {
	client, now := netip.MustParseAddr("192.0.2.1"), time.Unix(1_800_000_000, 0)
	stages := []*Jar{jarOf(t, secretA), jarOf(t, secretA, secretB), jarOf(t, secretB, secretA), jarOf(t, secretB)}
	for i, from := range stages {
		var given, got [Size]byte
		from.Answer(&given, make([]byte, ClientSize), client, now)
		for n, to := range stages {
			want := Good
			if n-i > 1 && i < 2 && n == 3 || i-n > 1 && n == 0 {
				want = Bad // two steps at once, on servers that are in use together
			}
			if state := to.Answer(&got, given[:], client, now); state != want {
				t.Errorf("of stage %d in stage %d: got %v, want %v", i, n, state, want)
			}
		}
	}
}

// TestRun: a generated secret is replaced, and cookies of the one before last are not good any more.
func TestRun(t *testing.T) {
	j := Generate()
	client, now := netip.MustParseAddr("192.0.2.1"), time.Now()
	var given, got [Size]byte
	j.Answer(&given, make([]byte, ClientSize), client, now)
	tick := run(t, j, new(bytes.Buffer))
	for i, want := range []State{Good, Bad} {
		tick()
		if state := j.Answer(&got, given[:], client, now); state != want {
			t.Errorf("after %d rollovers: got %v, want %v", i+1, state, want)
		}
	}
}

// run starts Run, and returns what has it do its work once, and waits for that.
func run(t *testing.T, j *Jar, log *bytes.Buffer) (tick func()) {
	t.Helper()
	ticks := make(chan time.Time)
	ctx, cancel := context.WithCancel(t.Context())
	start := func() (done chan struct{}) {
		done = make(chan struct{})
		go func() {
			defer close(done)
			j.Run(ctx, ticks, slog.New(slog.NewTextHandler(log, nil)))
		}()
		return done
	}
	done := start()
	t.Cleanup(func() { cancel(); <-done })
	return func() {
		ticks <- time.Time{}
		cancel() // what was begun is done before Run returns
		<-done
		ctx, cancel = context.WithCancel(t.Context())
		done = start()
	}
}

// TestFollow: a file is read when it has changed and is at rest. What can't be used leaves the secrets as they were.
func TestFollow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secrets")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Open(path); err == nil {
		t.Error("there is no file, and no error")
	}
	write(secretA)
	j, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	log := new(bytes.Buffer)
	tick := run(t, j, log)
	is := func(secret string) bool { return j.keys.Load().list[0] == jarOf(t, secret).keys.Load().list[0] }
	tick()
	if !is(secretA) {
		t.Error("the secret changed by itself")
	}
	write(secretB + "\n" + secretA)
	tick()
	if !is(secretA) {
		t.Error("a file that may be being written was read")
	}
	tick()
	if !is(secretB) {
		t.Error("the new file was not read")
	}
	write("nonsense")
	for range 3 {
		tick()
	}
	if !is(secretB) || strings.Count(log.String(), "can't be used") != 1 {
		t.Errorf("after nonsense: kept: %v; log:\n%s", is(secretB), log)
	}
	os.Remove(path)
	tick()
	tick()
	if !is(secretB) {
		t.Error("a removed file took the secrets with it")
	}
}
