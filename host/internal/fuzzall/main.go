// Command fuzzall runs every fuzz target of the module for a time, one after the other on each of a few workers, and keeps what it finds as seeds
// (they are written to testdata/fuzz beside the target). It exits with 1 if any target failed. It begins with the inputs of the
// corpus, and with -ledger it adds the executions of each target that passed to a file, and writes the corpus with what is new.
// With -goal too, a target that has that many executions in the file is left alone, and others stop there.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"
)

var targetLine = regexp.MustCompile(`(?m)^func (Fuzz\w+)\(`)

type target struct{ dir, name string }

func main() {
	fuzztime := flag.Duration("fuzztime", 10*time.Minute, "time for each target; 0: only what the corpus has")
	workers := flag.Int("workers", 2, "targets at a time")
	match := flag.String("run", "", "only targets whose directory and name match this expression")
	goal := flag.Int64("goal", 0, "executions in the ledger at which a target is done; 0: none")
	ledgerPath := flag.String("ledger", "", "the file that executions are added up in; none by default")
	corpusPath := flag.String("corpus", "host/internal/fuzzall/corpus.tar.gz", "the file of inputs to begin with")
	flag.Parse()
	only, err := regexp.Compile(*match)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	targets, err := find(only)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	sums, err := readLedger(*ledgerPath)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	inputs, err := openCorpus(*corpusPath)
	if err == nil {
		err = inputs.restore()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Printf("%d targets for %v, %d at a time\n", len(targets), *fuzztime, *workers)
	built, err := newBinaries()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt) // upon which what has been done is written down
	defer stop()
	queue := make(chan target)
	var wg sync.WaitGroup
	var mu sync.Mutex // guards passed, failed, sums and the output
	passed, failed := 0, 0
	for range *workers {
		wg.Go(func() {
			for t := range queue {
				mu.Lock()
				left := *goal - sums[t]
				mu.Unlock()
				if *goal > 0 && left <= 0 || ctx.Err() != nil {
					continue
				}
				out, err := built.fuzz(ctx, t, inputs.cache, *fuzztime, left)
				mu.Lock()
				if err == nil {
					sums[t] += executions(out)
					fmt.Printf("ok   %s %s: %s\n", t.dir, t.name, lastCount(out))
					if *ledgerPath != "" { // after each, as a long run may be stopped
						err = sums.write(*ledgerPath)
					}
				}
				if err == nil {
					passed++
				} else {
					failed++
					fmt.Printf("FAIL %s %s: %v\n%s\n", t.dir, t.name, err, out)
				}
				mu.Unlock()
			}
		})
	}
	for _, t := range targets {
		queue <- t
	}
	close(queue)
	wg.Wait()
	fmt.Printf("%d passed, %d failed\n", passed, failed)
	err = built.remove()
	if *ledgerPath != "" {
		err = errors.Join(err, saveAll(inputs))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if failed > 0 {
		os.Exit(1)
	}
}

// saveAll writes the corpus of all targets, whichever of them have been run.
func saveAll(c *corpus) error {
	targets, err := find(regexp.MustCompile(""))
	if err != nil {
		return err
	}
	return c.save(targets)
}

// find returns the fuzz targets of the module that holds the working directory.
func find(only *regexp.Regexp) ([]target, error) {
	var targets []target
	err := filepath.WalkDir(".", func(path string, d os.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata"):
			return filepath.SkipDir
		case !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range targetLine.FindAllSubmatch(source, -1) {
			if t := (target{"./" + filepath.Dir(path), string(m[1])}); only.MatchString(t.dir + " " + t.name) {
				targets = append(targets, t)
			}
		}
		return nil
	})
	return targets, err
}

var overLine = regexp.MustCompile(`(?m)^--- FAIL: Fuzz\w+ \([0-9.]+s\)\n +context deadline exceeded\nFAIL\n`)

// timeOver reports whether all that a target failed with is that its time was over, as go test says now and then when that meets
// the end of an input (https://go.dev/issue/75804). What an input fails with stands in a line below its name, and the input is kept.
func timeOver(out []byte) bool {
	return overLine.Match(out) && !bytes.Contains(out, []byte("Failing input written to")) && !bytes.Contains(out, []byte("panic:"))
}

// lastCount returns the last progress line of the fuzzer.
func lastCount(out []byte) string {
	lines := bytes.Split(out, []byte("\n"))
	for i := len(lines) - 1; i >= 0; i-- {
		if bytes.Contains(lines[i], []byte("execs:")) {
			return string(bytes.TrimPrefix(lines[i], []byte("fuzz: ")))
		}
	}
	return "no count"
}
