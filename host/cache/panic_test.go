package cache

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/host/message"
)

// mined is an upstream that panics for one name after a second, or brings what is no message.
type mined struct {
	*server
	brings bool
}

func (m mined) Resolve(ctx context.Context, q *message.Query, dst []byte) (message.Response, error) {
	if strings.HasPrefix(message.NameString(q.Key), "mine.") {
		pause(ctx, time.Second)
		if m.brings {
			return message.Response{Message: []byte{1}, Upstream: 7}, nil
		}
		panic("mine")
	}
	return m.server.Resolve(ctx, q, dst)
}

func (m mined) Start(t *message.Transaction) bool {
	t.Response, t.Err = m.Resolve(context.Background(), t.Query, t.Dst)
	return true
}

// A panic behind the cache, or of what comes from there, fails the queries that wait for it, at once, and those alone. It is counted, and logged once a minute;
// other names are answered, and when the failure is not remembered any more the name is asked for again: no flight is left.
func TestFaultX24Cache(t *testing.T) {
	for _, tt := range []struct {
		name string
		next func(s *server) message.Resolver
	}{
		{"an upstream that waits", func(s *server) message.Resolver { return resolver{mined{s, false}} }},
		{"an upstream that starts", func(s *server) message.Resolver { return mined{s, false} }},
		{"what is no message", func(s *server) message.Resolver { return mined{s, true} }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := new(bytes.Buffer)
				c := New("test", preset("weir"), tt.next(says(0, "an www.example. 60 IN A 192.0.2.1")), Env{Log: slog.New(slog.NewTextHandler(log, nil))})
				defer c.Close()
				for round := range 2 {
					var clients sync.WaitGroup
					for range 3 {
						clients.Go(func() {
							q, begun := ask("mine.example.", dns.TypeA, time.Now()), time.Now()
							r, err := c.Resolve(t.Context(), q, nil)
							if failed := err == nil && r.RCODE == message.SERVFAIL; !failed && !errors.Is(err, errPanic) || time.Since(begun) > time.Second {
								t.Errorf("got %v, %v after %v", r, err, time.Since(begun))
							}
						})
					}
					clients.Wait()
					if _, err := c.Resolve(t.Context(), ask("www.example.", dns.TypeA, time.Now()), nil); err != nil {
						t.Errorf("another name: %v", err)
					}
					if s := c.Stats(); s.Panics != uint64(round+1) || s.Flights != 0 {
						t.Errorf("%d panics are counted and %d flights left, want %d and none", s.Panics, s.Flights, round+1)
					}
					<-time.After(10 * time.Second)
				}
				if got := strings.Count(log.String(), "a panic"); got != 1 || !strings.Contains(log.String(), "rescue.go") {
					t.Errorf("%d panics are in the log, want the first, with its stack:\n%s", got, log)
				}
			})
		})
	}
}

// resolver hides what an upstream can beside Resolve.
type resolver struct{ message.Resolver }

// What a cache does in the background begins anew.
func TestFaultX24CacheBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := says(0, "an www.example. 60 IN A 192.0.2.1")
		config := preset("weir")
		config.Prefetch.Hits = 1
		c := New("test", config, resolver{s}, Env{Log: slog.New(slog.DiscardHandler)})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { c.Run(ctx); close(ended) }()
		for range 2 * fetchers {
			c.fetches <- fetch{size: maxKey + 1} // which only a mistake could be
		}
		<-time.After(time.Minute)
		if s := c.Stats(); s.Panics != 2*fetchers {
			t.Errorf("%d panics are counted, want %d", s.Panics, 2*fetchers)
		}
		var key [maxKey]byte
		k := appendKey(key[:0], ask("www.example.", dns.TypeA, time.Now()))
		f := fetch{hash: c.store.hash(k), size: uint16(copy(key[:], k))}
		f.key = key
		c.fetches <- f
		synctest.Wait()
		if s := c.Stats(); s.Prefetch != 1 {
			t.Errorf("%d answers are fetched afterwards, want 1", s.Prefetch)
		}
		cancel()
		<-ended
	})
}
