//go:build linux

package main

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
)

const (
	hotNames    = 1000
	cachedNames = 100_000
)

// writeNames writes a list of queries as dnsperf reads them, and returns its path.
func writeNames(dir, file string, n int, name func(i int) string) (string, error) {
	path := filepath.Join(dir, file)
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	w := bufio.NewWriter(f)
	for i := range n {
		fmt.Fprintf(w, "%s A\n", name(i))
	}
	return path, errors.Join(w.Flush(), f.Close())
}

// cachedName is a name that upstreams have, and caches after the first query.
func cachedName(i int) string { return fmt.Sprintf("h%d.example.test", i) }

// lists are the files of queries.
type lists struct {
	dir     string
	hot     string // names 0 to 999
	all     string // the 100,000 names that follow, which no list before it has
	uniform string // these, evenly
	fresh   int    // how many lists of fresh names there were
}

func newLists(dir string) (*lists, error) {
	l := &lists{dir: dir}
	random := rand.New(rand.NewPCG(1, 2))
	var errs [3]error
	l.hot, errs[0] = writeNames(dir, "hot", hotNames, cachedName)
	l.all, errs[1] = writeNames(dir, "all", cachedNames, func(i int) string { return cachedName(hotNames + i) })
	l.uniform, errs[2] = writeNames(dir, "uniform", 10*cachedNames, func(int) string { return cachedName(hotNames + random.IntN(cachedNames)) })
	return l, errors.Join(errs[:]...)
}

// unseen writes names that nobody has asked for.
func (l *lists) unseen(n int) (string, error) {
	l.fresh++
	return writeNames(l.dir, "unseen", n, func(i int) string { return fmt.Sprintf("x%d-r%d.miss.test", i, l.fresh) })
}
