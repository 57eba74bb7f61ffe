package cookie

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/weirdns/weir/host/change"
)

// SecretSize is the size of a secret in octets (RFC 9018 section 4.4).
const SecretSize = 16

const (
	// maxSecrets are enough for a rollover: the one in use, the one to come or the one before. Each costs a hash for a cookie that is not ours.
	maxSecrets = 4
	maxFile    = 4096
	// rollover is how often a secret is replaced that nobody else knows. RFC 7873 section 7.1 has 36 days as the limit, and a day as what is best.
	rollover = 24 * time.Hour
	// interval is how often a file is looked at, as those of certificates are.
	interval = time.Second
)

// Jar has the secrets of a server. It is safe for concurrent use.
type Jar struct {
	path  string // of the file with the secrets; empty: they are generated
	keys  atomic.Pointer[keys]
	files change.Files // path
}

// keys are the secrets: the first one makes cookies, and those of all are taken.
type keys struct {
	list [maxSecrets]key
	n    int
}

// Generate returns a jar with a random secret, for a server that is alone at its address.
func Generate() *Jar {
	j := new(Jar)
	j.roll()
	return j
}

// roll has a new secret make cookies from now on. Those of the one before are good for as long as they would have been.
func (j *Jar) roll() {
	var secret [SecretSize]byte
	rand.Read(secret[:])
	next := &keys{n: 1}
	next.list[0] = newKey(&secret)
	if old := j.keys.Load(); old != nil {
		next.list[1], next.n = old.list[0], 2
	}
	j.keys.Store(next)
}

// Open returns a jar with the secrets in a file: on each line 32 hexadecimal digits, as for unbound and BIND. The first secret makes cookies, and those made
// with the others, three at most, are taken too. So a secret is replaced in three steps, each on all servers before the next: put the new one second,
// then first, and remove the old one after an hour (RFC 9018 section 5). Empty lines and those that begin with # don't count.
func Open(path string) (*Jar, error) {
	j := &Jar{path: path}
	j.files.Take(path)
	read, err := readKeys(path)
	if err != nil {
		return nil, err
	}
	j.keys.Store(read)
	return j, nil
}

func readKeys(path string) (*keys, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("%s has more than %d octets: write one to %d secrets", path, maxFile, maxSecrets)
	}
	return parseKeys(path, text)
}

// parseKeys reads the text of a file. No error has a secret in it.
func parseKeys(path string, text []byte) (*keys, error) {
	k := new(keys)
	for i, line := range bytes.Split(text, []byte("\n")) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		var secret [SecretSize]byte
		if n, err := hex.Decode(secret[:], line[:min(len(line), 2*SecretSize)]); err != nil || n != SecretSize || len(line) != 2*SecretSize {
			return nil, fmt.Errorf("%s:%d: is no secret: write %d hexadecimal digits", path, i+1, 2*SecretSize)
		}
		if k.n == maxSecrets {
			return nil, fmt.Errorf("%s:%d: has more than %d secrets: remove those that are not in use any more", path, i+1, maxSecrets)
		}
		k.list[k.n] = newKey(&secret)
		k.n++
	}
	if k.n == 0 {
		return nil, fmt.Errorf("%s has no secret: write a line of %d hexadecimal digits", path, 2*SecretSize)
	}
	return k, nil
}

// Run keeps the secrets fresh until ctx is done: it reads the file when that changed, or else replaces the secret once a day. tick tells when to look at
// the file or to replace the secret; nil is the clock. One Run at a time.
func (j *Jar) Run(ctx context.Context, tick <-chan time.Time, log *slog.Logger) {
	if tick == nil {
		every := rollover
		if j.path != "" {
			every = interval
		}
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		tick = ticker.C
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick:
		}
		if j.path == "" {
			j.roll()
		} else {
			j.look(log)
		}
	}
}

// look reads the file if it is another one than that which was read.
func (j *Jar) look(log *slog.Logger) {
	if !j.files.Settled(j.path) {
		return
	}
	j.files.Take(j.path)
	read, err := readKeys(j.path)
	if err != nil {
		log.Error("the cookie secrets on disk can't be used, those before stay: " + err.Error())
		return
	}
	j.keys.Store(read)
	log.Info("new cookie secrets are used", "cookie_secret", j.path, "secrets", read.n)
}
