package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
)

// ledger has the executions of each target, summed over runs.
type ledger map[target]int64

const ledgerHead = `# Executions of fuzz targets

Summed over the runs that were told to write them down, with ` + "`make fuzz LEDGER=host/internal/fuzzall/LEDGER.md`" + `: each of them ended without a failure.
With ` + "`GOAL=10000000`" + ` too, only those targets run that have fewer, until they have as many.

| package | target | executions |
|---|---|---|
`

var ledgerLine = regexp.MustCompile(`^\| (\S+) \| (\w+) \| ([\d,]+) \|$`)

// readLedger reads the file at path. One that does not exist is empty.
func readLedger(path string) (ledger, error) {
	l := make(ledger)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		m := ledgerLine.FindStringSubmatch(lines.Text())
		if m == nil {
			continue
		}
		n, err := strconv.ParseInt(string(bytes.ReplaceAll([]byte(m[3]), []byte(","), nil)), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", path, lines.Text(), err)
		}
		l[target{m[1], m[2]}] = n
	}
	return l, lines.Err()
}

// write replaces the file at path.
func (l ledger) write(path string) error {
	text := []byte(ledgerHead)
	order := slices.SortedFunc(maps.Keys(l), func(a, b target) int {
		if a.dir != b.dir {
			return bytes.Compare([]byte(a.dir), []byte(b.dir))
		}
		return bytes.Compare([]byte(a.name), []byte(b.name))
	})
	for _, t := range order {
		text = fmt.Appendf(text, "| %s | %s | %s |\n", t.dir, t.name, grouped(l[t]))
	}
	return os.WriteFile(path, text, 0o644)
}

// grouped writes a number with a comma at each thousand.
func grouped(n int64) string {
	digits := strconv.FormatInt(n, 10)
	for at := len(digits) - 3; at > 0; at -= 3 {
		digits = digits[:at] + "," + digits[at:]
	}
	return digits
}

var execsField = regexp.MustCompile(`execs: (\d+)`)

// executions returns the last count in the output of the fuzzer, or 0.
func executions(out []byte) int64 {
	all := execsField.FindAllSubmatch(out, -1)
	if len(all) == 0 {
		return 0
	}
	n, err := strconv.ParseInt(string(all[len(all)-1][1]), 10, 64)
	if err != nil {
		return 0
	}
	return n
}
