package host

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"sync"
	"time"

	"github.com/weirdns/weir/host/cache"
	"github.com/weirdns/weir/host/rescue"
	"github.com/weirdns/weir/host/upstream"
)

// saveTime is how long the last snapshots of the caches may hold up the end: less than what process managers wait before they kill.
const saveTime = 5 * time.Second

// warm fills the caches from their snapshots.
func (g *generation) warm(ctx context.Context, guard *rescue.Guard) {
	g.eachCache(guard, func(c *cache.Cache) { c.Restore(ctx) })
}

// save writes the last snapshots. It logs what goes wrong.
func (g *generation) save(ctx context.Context, guard *rescue.Guard) {
	ctx, cancel := context.WithTimeout(ctx, saveTime)
	defer cancel()
	g.eachCache(guard, func(c *cache.Cache) { _ = c.Save(ctx) })
}

func (g *generation) eachCache(guard *rescue.Guard, do func(c *cache.Cache)) {
	var all sync.WaitGroup
	for _, p := range g.caches {
		all.Go(func() { guard.Survive(func() { do(p.cache) }) })
	}
	all.Wait()
}

// identify hashes what decides about the answers in a cache: which servers were asked how, and how their TTLs are clamped.
func identify(u upstream.Config, c cache.Config) (id cache.Identity) {
	text, err := json.Marshal([]any{u, c.Success.MinTTL, c.Success.MaxTTL, c.Denial.MinTTL, c.Denial.MaxTTL})
	if err != nil {
		panic(err) // a configuration is made of strings, numbers and lists
	}
	sum := sha256.Sum256(text)
	copy(id[:], sum[:])
	return id
}
