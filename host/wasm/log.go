package wasm

import (
	"bytes"
	"context"
	"log/slog"
	"strconv"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/weirdns/weir/abi"
)

// lines is what a filter says in the log, at most abi.MaxLogRate lines a second.
type lines struct {
	logger *slog.Logger
	now    func() time.Time
	off    defence

	mu      sync.Mutex // guards what follows
	since   time.Time  // the second that is counted
	count   int        // lines in it
	dropped int        // lines that were too many, not yet reported
}

var levels = [...]slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError}

// log writes a line of at most abi.MaxLogSize octets.
func (l *lines) log(level int, text []byte) {
	if !l.logger.Enabled(context.Background(), levels[level]) {
		return
	}
	dropped, ok := l.may()
	if !ok {
		return
	}
	if dropped > 0 {
		l.report(dropped)
	}
	l.logger.Log(context.Background(), levels[level], printable(text[:min(len(text), abi.MaxLogSize)]))
}

// may reports whether one more line may be written, and how many were dropped before it.
func (l *lines) may() (dropped int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := l.now(); now.Sub(l.since) >= time.Second {
		l.since, l.count = now, 0
	}
	if l.count++; l.count > abi.MaxLogRate && l.off&offLogRate == 0 {
		l.dropped++
		return 0, false
	}
	dropped, l.dropped = l.dropped, 0
	return dropped, true
}

func (l *lines) report(dropped int) {
	l.logger.Warn("filter logs too much: some of its lines are left out", "lines", dropped)
}

// close reports what was dropped last.
func (l *lines) close() {
	l.mu.Lock()
	dropped := l.dropped
	l.dropped = 0
	l.mu.Unlock()
	if dropped > 0 {
		l.report(dropped)
	}
}

// print collects what an instance prints until there is a line. The Go runtime prints a panic word by word.
func (i *instance) print(b []byte) {
	for len(b) > 0 {
		line, rest, ended := bytes.Cut(b, []byte{'\n'})
		i.output = append(i.output, line[:min(len(line), abi.MaxLogSize-len(i.output))]...)
		if b = rest; ended {
			i.flush()
		}
	}
}

// flush logs the line that was begun.
func (i *instance) flush() {
	if len(i.output) > 0 {
		i.filter.lines.log(1, i.output)
		i.output = i.output[:0]
	}
}

// printable makes octets from a guest fit for logs and terminals: one line, valid UTF-8, and nothing that moves a cursor or turns the direction
// of writing. What isn't is written as \xNN or \uNNNN.
func printable(b []byte) string {
	clean := true
	for _, c := range b {
		clean = clean && c >= ' ' && c < 0x7F
	}
	if clean {
		return string(b)
	}
	var out []byte
	for len(b) > 0 {
		r, size := utf8.DecodeRune(b)
		switch {
		case r == utf8.RuneError && size == 1:
			out = append(out, `\x`...)
			out = append(out, hexDigits[b[0]>>4], hexDigits[b[0]&0xF])
		case unicode.IsPrint(r):
			out = append(out, b[:size]...)
		default:
			q := strconv.QuoteRuneToASCII(r)
			out = append(out, q[1:len(q)-1]...)
		}
		b = b[size:]
	}
	return string(out)
}

const hexDigits = "0123456789abcdef"

// problem logs something about the filter that it does not say itself, at most as often as its own lines.
func (l *lines) problem(text string, err error) {
	if _, ok := l.may(); ok {
		l.logger.Warn(text, "error", err)
	}
}
