package querylog

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// An entry that makes the writer panic is missing in the log, and counted; all others are in it, and without delay.
func TestFaultX24QueryLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said bytes.Buffer
		l := New("", CoreDNS, nil, slog.New(slog.NewTextHandler(&said, nil)))
		line := l.append
		l.append = func(dst []byte, e *Entry) []byte {
			if e.Type == 666 {
				panic("mine")
			}
			return line(dst, e)
		}
		g := newGate()
		l.out = g
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { l.Run(ctx); close(ended) }()
		for range 3 {
			add(l, 2)
			l.Add(func(e *Entry) { e.Type = 666 })
			add(l, 2)
		}
		<-time.After(10 * gather)
		synctest.Wait()
		if n, missing := g.count(), l.dropped.Load(); n != 12 || missing != 3 {
			t.Errorf("%d lines and %d missing, want 12 and 3", n, missing)
		}
		if n := strings.Count(said.String(), "panic=mine"); n != 1 {
			t.Errorf("%d panics are in the log, want the first:\n%s", n, &said)
		}
		add(l, ringSize) // every place of the ring is as good as new
		<-time.After(10 * gather)
		synctest.Wait()
		if n := g.count(); n != ringSize+12 {
			t.Errorf("%d lines, want %d", n, ringSize+12)
		}
		cancel()
		<-ended
	})
}

// mined is a file that panics at first.
type mined struct {
	*gate
	panics int
}

func (m *mined) Write(b []byte) (int, error) {
	if m.panics--; m.panics >= 0 {
		panic("mine")
	}
	return m.gate.Write(b)
}

// When the file is what panics, the lines wait for a moment, and nothing is lost.
func TestFaultX24QueryLogFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New("", CoreDNS, nil, slog.New(slog.DiscardHandler))
		f := &mined{newGate(), 2}
		l.out = f
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { l.Run(ctx); close(ended) }()
		add(l, 5)
		<-time.After(time.Minute)
		synctest.Wait()
		if n := f.count(); n != 5 {
			t.Errorf("%d lines, want 5", n)
		}
		cancel()
		<-ended
	})
}
