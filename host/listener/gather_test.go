package listener

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// gathering has a gatherer run on one end of a pipe, and returns the other end, and what is closed when it has returned.
func gathering(t *testing.T) (g *gatherer, client net.Conn, done chan struct{}) {
	t.Helper()
	server, client := net.Pipe()
	t.Cleanup(func() {
		server.Close()
		client.Close()
	})
	g, done = newGatherer(server, time.Second), make(chan struct{})
	go func() {
		defer close(done)
		g.run()
	}()
	return g, client, done
}

// TestGatherer: all octets arrive in their order, those that are written while others are sent go together, and at the end nothing is left behind.
func TestGatherer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, client, done := gathering(t)
		for _, text := range []string{"first", "second", "third"} {
			if n, err := g.write([]byte(text)); n != len(text) || err != nil {
				t.Errorf("write %q: got %d, %v", text, n, err)
			}
			if text == "first" {
				synctest.Wait() // it is on its way
			}
		}
		g.end()
		g.end()
		buf := make([]byte, 100)
		for _, want := range []string{"first", "secondthird"} {
			if n, err := client.Read(buf); err != nil || string(buf[:n]) != want {
				t.Errorf("got %q, %v; want %q", buf[:n], err, want)
			}
		}
		<-done
		if _, err := g.write([]byte("late")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("after the end: got %v, want %v", err, net.ErrClosed)
		}
	})
}

// TestGathererBounds: of a client that takes nothing there is a bounded number of octets, its connection ends when its time is over, and whoever waits for room
// learns that.
func TestGathererBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, client, done := gathering(t)
		start, written := time.Now(), 0
		var err error
		for err == nil {
			var n int
			n, err = g.write(make([]byte, 1000))
			written += n
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != g.timeout {
			t.Errorf("got %v after %v, want %v after %v", err, time.Since(start), os.ErrDeadlineExceeded, g.timeout)
		}
		if most := 2 * (gathered + 1000); written > most {
			t.Errorf("%d octets were taken, want %d at most", written, most)
		}
		if _, err := client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("the client got %v, want the end", err)
		}
		g.end()
		<-done
	})
}

// TestGathererEnd: at the end, a client has as long as ever to take what is there, and no longer; who waits for room does not.
func TestGathererEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, _, done := gathering(t)
		waiting := make(chan error)
		start := time.Now()
		go func() {
			for {
				if _, err := g.write(make([]byte, gathered)); err != nil {
					waiting <- err
					return
				}
			}
		}()
		synctest.Wait()
		g.end()
		if err := <-waiting; !errors.Is(err, net.ErrClosed) || time.Since(start) > 0 {
			t.Errorf("who waits for room: got %v after %v, want %v at once", err, time.Since(start), net.ErrClosed)
		}
		<-done
		if got := time.Since(start); got != g.timeout {
			t.Errorf("it took %v, want %v", got, g.timeout)
		}
	})
}

// TestGathererHammer: several write at a time, and each write arrives in one piece.
func TestGathererHammer(t *testing.T) {
	g, client, done := gathering(t)
	const writers, each = 8, 500
	ended := make(chan error, writers)
	for w := range byte(writers) {
		go func() {
			p := bytes.Repeat([]byte{w}, 100)
			for range each {
				if _, err := g.write(p); err != nil {
					ended <- err
					return
				}
			}
			ended <- nil
		}()
	}
	var counts [writers]int
	p := make([]byte, 100)
	for range writers * each {
		if _, err := io.ReadFull(client, p); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(p, bytes.Repeat(p[:1], 100)) {
			t.Fatalf("writes are mixed: %x", p)
		}
		counts[p[0]]++
	}
	for range writers {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	g.end()
	<-done
	for w, n := range counts {
		if n != each {
			t.Errorf("writer %d: %d writes arrived, want %d", w, n, each)
		}
	}
}

// BenchmarkGatherer is what a write of a small record costs that is sent with others.
func BenchmarkGatherer(b *testing.B) {
	server, client := net.Pipe()
	defer client.Close()
	go io.Copy(io.Discard, client) //nolint:errcheck // it ends with the connection
	g := newGatherer(server, time.Minute)
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.run()
	}()
	p := make([]byte, 100)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := g.write(p); err != nil {
			b.Fatal(err)
		}
	}
	g.end()
	<-done
}
