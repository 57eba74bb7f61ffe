package upstream

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirdns/weir/host/message"
)

// own is the answer to a query for "nN.test.": 10.0.0.N. A probe gets 10.0.0.0.
func own(query []byte) []byte {
	var n int
	_, _ = fmt.Sscanf(string(query[13:13+query[12]]), "n%d", &n)
	return answer(query, fmt.Sprintf("10.0.%d.%d", n/256, n%256))
}

// askOwn asks for names at the same time and checks that each gets its own answer.
func askOwn(t *testing.T, r message.Resolver, names int) {
	t.Helper()
	var asking sync.WaitGroup
	for i := range names {
		asking.Go(func() {
			got, want := askName(t, r, fmt.Sprintf("n%d.test.", i)), fmt.Sprintf("NOERROR 10.0.%d.%d", i/256, i%256)
			if got != want {
				t.Errorf("n%d: got %q, want %q", i, got, want)
			}
		})
	}
	asking.Wait()
}

// collect reads n queries.
func collect(t *testing.T, conn net.Conn, n int) [][]byte {
	var queries [][]byte
	for range n {
		query, err := readMessage(conn, nil)
		if err != nil {
			t.Errorf("after %d queries: %v", len(queries), err)
			return queries
		}
		queries = append(queries, query)
	}
	return queries
}

// TestStream is what a server may do over TCP or TLS, right or wrong. Three queries wait on its first connection; those after it are fine.
func TestStream(t *testing.T) {
	const names = 3
	good := func(conn net.Conn) {
		frames(conn, func(query []byte) { conn.Write(frame(own(query))) })
	}
	tests := []struct {
		name    string
		first   func(t *testing.T, conn net.Conn)
		streams int // connections in the end
		took    time.Duration
	}{
		{"in order", func(t *testing.T, conn net.Conn) { good(conn) }, 1, 0},
		{"reordered", func(t *testing.T, conn net.Conn) {
			queries := collect(t, conn, names)
			for i := range queries {
				conn.Write(frame(own(queries[len(queries)-1-i])))
			}
			good(conn)
		}, 1, 0},
		{"twice, and to nobody", func(t *testing.T, conn net.Conn) {
			for _, query := range collect(t, conn, names) {
				right := frame(own(query))
				nobody := bytes.Clone(right)
				nobody[2] ^= 0x55
				conn.Write(nobody)
				conn.Write(right)
				conn.Write(right)
			}
			good(conn)
		}, 1, 0},
		{"answers exchanged", func(t *testing.T, conn net.Conn) {
			queries := collect(t, conn, names)
			for i, query := range queries { // the right ID, the question of another
				other := own(queries[(i+1)%names])
				copy(other, query[:2])
				conn.Write(frame(other))
			}
			for _, query := range queries {
				conn.Write(frame(own(query)))
			}
			good(conn)
		}, 1, 0},
		{"octet by octet", func(t *testing.T, conn net.Conn) {
			for _, query := range collect(t, conn, names) {
				for _, c := range frame(own(query)) {
					conn.Write([]byte{c})
				}
			}
			good(conn)
		}, 1, 0},
		{"all in one write", func(t *testing.T, conn net.Conn) {
			var all []byte
			for _, query := range collect(t, conn, names) {
				all = append(all, frame(own(query))...)
			}
			conn.Write(all)
			good(conn)
		}, 1, 0},
		{"closes at once", func(t *testing.T, conn net.Conn) { conn.Close() }, 2, 0},
		{"closes after the queries", func(t *testing.T, conn net.Conn) { collect(t, conn, names) }, 2, 0},
		{"closes after one answer", func(t *testing.T, conn net.Conn) {
			conn.Write(frame(own(collect(t, conn, names)[1])))
		}, 2, 0},
		{"closes in the middle of an answer", func(t *testing.T, conn net.Conn) {
			conn.Write(frame(own(collect(t, conn, names)[0]))[:20])
		}, 2, 0},
		{"closes in the middle of a length", func(t *testing.T, conn net.Conn) {
			collect(t, conn, names)
			conn.Write([]byte{0})
		}, 2, 0},
		{"length of zero", func(t *testing.T, conn net.Conn) {
			collect(t, conn, names)
			conn.Write([]byte{0, 0})
			good(conn)
		}, 2, 0},
		{"length too small", func(t *testing.T, conn net.Conn) {
			msg := frame(own(collect(t, conn, names)[0]))
			binary.BigEndian.PutUint16(msg, 11)
			conn.Write(msg)
			good(conn)
		}, 2, 0},
		{"length too large", func(t *testing.T, conn net.Conn) {
			msg := frame(own(collect(t, conn, names)[0]))
			binary.BigEndian.PutUint16(msg, 1000)
			conn.Write(msg)
			good(conn)
		}, 2, minWait}, // the second try does not wait until the connection is given up
		{"an octet a second", func(t *testing.T, conn net.Conn) {
			for _, c := range frame(own(collect(t, conn, names)[0])) {
				if _, err := conn.Write([]byte{c}); err != nil {
					return
				}
				<-time.After(time.Second)
			}
		}, 2, minWait},
		{"silent", func(t *testing.T, conn net.Conn) {
			collect(t, conn, names)
			good(conn) // it reads on, but what waits gets no answer
		}, 2, minWait},
		{"does not read", func(t *testing.T, conn net.Conn) { <-time.After(2 * time.Second) }, 2, minWait},
	}
	a, certificate := authority(t)
	for _, transport := range []string{"tcp", "tls"} {
		for _, tt := range tests {
			t.Run(tt.name+" over "+transport, func(t *testing.T) {
				n := newFakeNet(ip1)
				one := n.server(ip1)
				one.stream = func(conn net.Conn, nth int) {
					if transport == "tls" {
						secret := tls.Server(conn, serverTLS(certificate))
						defer secret.Close()
						if secret.Handshake() != nil {
							return
						}
						conn = secret
					}
					if nth == 1 {
						tt.first(t, conn)
					} else {
						good(conn)
					}
				}
				c := Config{Servers: []string{transport + "://" + ip1}}
				took := tt.took
				if transport == "tls" {
					c.Servers, c.CA = []string{"tls://" + net.JoinHostPort(ip1, "53")}, a.File
					took += closeTimeout // in which a server that does not read is told of the end
				}
				bubble(t, n, c, func(t *testing.T, g *Group) {
					start := time.Now()
					askOwn(t, g, names)
					if since := time.Since(start); since > took {
						t.Errorf("took %v, want %v", since, took)
					}
					one.mu.Lock()
					defer one.mu.Unlock()
					if one.streams != tt.streams {
						t.Errorf("%d connections, want %d", one.streams, tt.streams)
					}
				})
			})
		}
	}
}

// TestStreamAlwaysBreaks: the end comes, and soon.
func TestStreamAlwaysBreaks(t *testing.T) {
	n := newFakeNet(ip1)
	one := n.server(ip1)
	one.stream = func(conn net.Conn, nth int) { collect(t, conn, 1) }
	bubble(t, n, Config{Servers: []string{ip1}, Transport: "tcp", MaxFails: -1}, func(t *testing.T, g *Group) {
		if got, took := timed(t, g); got != ErrUnreachable.Error() || took > 3*minGrace {
			t.Errorf("got %q after %v, want %q after %v", got, took, ErrUnreachable, 3*minGrace)
		}
		one.mu.Lock()
		defer one.mu.Unlock()
		if one.streams > 2*maxTries {
			t.Errorf("%d connections, want %d: each try once more", one.streams, 2*maxTries)
		}
	})
}

// TestStreamBounds has more queries wait than there is room for.
func TestStreamBounds(t *testing.T) {
	n := newFakeNet(ip1)
	one := n.server(ip1)
	one.stream = func(conn net.Conn, nth int) {
		frames(conn, func(query []byte) {
			time.AfterFunc(100*time.Millisecond, func() { conn.Write(frame(own(query))) })
		})
	}
	bubble(t, n, Config{Servers: []string{ip1}, Transport: "tcp"}, func(t *testing.T, g *Group) {
		unsuspected(g) // a probe would take a place
		askOwn(t, g, maxStreams*maxPending)
		one.mu.Lock()
		defer one.mu.Unlock()
		if one.streams != maxStreams {
			t.Errorf("%d connections, want %d", one.streams, maxStreams)
		}
	})
}

// TestReset has a connection reset in the middle of an answer, which only a real one can.
func TestReset(t *testing.T) {
	var mu sync.Mutex
	connections := 0
	addr := script(t, nil, func(conn net.Conn) {
		mu.Lock()
		connections++
		first := connections == 1
		mu.Unlock()
		frames(conn, func(query []byte) {
			if first {
				conn.Write(frame(own(query))[:20])
				conn.(*net.TCPConn).SetLinger(0)
				conn.Close()
				return
			}
			conn.Write(frame(own(query)))
		})
	})
	g := group(t, Config{Servers: []string{"tcp://" + addr.String()}}, Env{})
	askOwn(t, g, 1)
	mu.Lock()
	defer mu.Unlock()
	if connections != 2 {
		t.Errorf("%d connections, want 2", connections)
	}
}

// TestLargeResponse has the largest message there is.
func TestLargeResponse(t *testing.T) {
	n := newFakeNet(ip1)
	n.server(ip1).set(func(s *fakeServer) {
		s.answer = func(query []byte) [][]byte {
			msg := append(bytes.Clone(query[:26]), make([]byte, message.MaxSize-26)...)
			msg[2], msg[7], msg[11] = 0x80, 1, 0
			copy(msg[26:], []byte{0xC0, 12, 0xFF, 0, 0, 1, 0, 0, 0, 60}) // a record of a private type to the end
			binary.BigEndian.PutUint16(msg[36:], uint16(len(msg)-38))
			return [][]byte{msg}
		}
	})
	bubble(t, n, Config{Servers: []string{ip1}, Transport: "tcp"}, func(t *testing.T, g *Group) {
		r, err := g.Resolve(t.Context(), query(t, "www.test.", 0xFF00), nil)
		if err != nil || len(r.Message) != message.MaxSize {
			t.Errorf("got %d octets, error %v, want %d", len(r.Message), err, message.MaxSize)
		}
	})
}

// TestNobodyWaitsForTheGoodbye: the end of a connection is told to a server that does not read, and the connection's lock is free meanwhile.
func TestNobodyWaitsForTheGoodbye(t *testing.T) {
	a, certificate := authority(t)
	n := newFakeNet(ip1)
	n.server(ip1).stream = func(conn net.Conn, _ int) {
		secret := tls.Server(conn, serverTLS(certificate))
		if secret.Handshake() != nil {
			return
		}
		_, _ = secret.Write(frame(own(collect(t, secret, 1)[0])))
		<-time.After(time.Second)
	}
	bubble(t, n, Config{Servers: []string{"tls://" + net.JoinHostPort(ip1, "53")}, CA: a.File}, func(t *testing.T, g *Group) {
		askOwn(t, g, 1)
		s := (*g.servers.Load())[0]
		s.mu.Lock()
		c := s.connections[0].(*stream)
		s.mu.Unlock()
		synctest.Wait() // the query's writer is done, or closing would not say anything
		go c.retire()
		synctest.Wait() // everybody waits now, and the one who closes for the server
		if !c.mu.TryLock() {
			t.Fatal("the lock is held while the server is told of the end")
		}
		c.mu.Unlock()
	})
}
