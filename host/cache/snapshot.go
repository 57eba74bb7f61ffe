package cache

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
)

// A snapshot is a cache in a file, so that weir knows after a restart what it knew before. Numbers are little-endian.
//
//	 0 | "weircach"                                               8 |
//	 8 | version, 4                  | 0                           4 |
//	16 | wall clock, Unix time in ns 8 | clock of the cache, ns    8 |
//	32 | identity: what answers depend on besides the question    16 |
//	48 | checksum of what is above                                 8 |
//	56 | block ... | block of 0 octets
//
// A block is what a segment of the store holds, between its ends: entries as they are there, dead ones too. So writing one is copying it, and a new
// layout of entries is a new version. The number of a block counts from 0, and is under its checksum together with the checksum of the file's head, so
// that a block counts only where it was written.
//
//	 0 | number, 4 | octets, 3 | log 1 | checksum 8 |
//	16 | entries ...
const (
	snapshotMagic   = "weircach"
	snapshotVersion = 1
	snapshotHead    = 56
	snapshotSum     = 48
	blockHead       = 16
	// maxBlock is above the size of any segment: an entry can't say that it has more room.
	maxBlock = 1 << 16 * unit

	snapshotSuffix = ".snapshot"
	partialSuffix  = ".new" // of a file that is being written
)

// Identity is what the answers of a cache depend on besides the question, hashed: the servers that are asked and the bounds of TTLs. A snapshot of
// a cache with another one is not read.
type Identity [16]byte

// snapshots is what a cache does about its snapshots. The zero value has none.
type snapshots struct {
	path     string // empty: there are none
	identity Identity

	mu       sync.Mutex // guards following: one writer at a time
	buf      []byte     // of a block
	failures int        // since it was last written
	told     time.Time  // when that was last logged
}

// tellFailure is how often it is logged that snapshots can't be written.
const tellFailure = time.Hour

// Save writes a snapshot, if the configuration wants any, beside the one there is, and then puts it in its place, so that there is a whole one at any
// moment. A shard is locked for as long as it takes to copy 16 KiB. What goes wrong is counted, and logged once an hour; ctx ends it.
func (c *Cache) Save(ctx context.Context) error {
	s := &c.snapshots
	if s.path == "" {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	err := c.save(ctx)
	if err == nil {
		c.saved.Add(1)
		if s.failures > 0 {
			c.log.Info("cache snapshots are written again", "upstream", c.name, "file", s.path, "failures", s.failures)
		}
		s.failures = 0
		return nil
	}
	if ctx.Err() != nil {
		return err // weir ends: that is no fault of the disk
	}
	c.unsaved.Add(1)
	if now := c.now(nil); s.failures == 0 || now.Sub(s.told) >= tellFailure {
		c.log.Warn("a cache snapshot can't be written, which matters at the next start only", "upstream", c.name, "file", s.path, "error", err)
		s.told = now
	}
	s.failures++
	return err
}

func (c *Cache) save(ctx context.Context) (err error) {
	path := c.snapshots.path
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*"+partialSuffix)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			file.Close() //nolint:errcheck // the error that there is tells more
			os.Remove(file.Name())
		}
	}()
	w := bufio.NewWriterSize(file, 4*segmentOctets)
	if err := c.writeSnapshot(ctx, w); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if err := file.Sync(); err != nil { // or the new name could be on the disk before what it names
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir has the names in a directory outlast a crash of the system.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// writeSnapshot writes to w. The caller has the lock of the snapshots.
func (c *Cache) writeSnapshot(ctx context.Context, w io.Writer) error {
	le, now := binary.LittleEndian, c.now(nil)
	head := make([]byte, snapshotHead)
	copy(head, snapshotMagic)
	le.PutUint32(head[8:], snapshotVersion)
	le.PutUint64(head[16:], uint64(now.UnixNano()))
	le.PutUint64(head[24:], uint64(now.Sub(c.epoch)))
	copy(head[32:], c.snapshots.identity[:])
	sum := xxhash.Sum64(head[:snapshotSum])
	le.PutUint64(head[snapshotSum:], sum)
	if _, err := w.Write(head); err != nil {
		return err
	}
	number := uint32(0)
	for i := range c.store.shards {
		sh := &c.store.shards[i]
		for n := uint32(1); ; n++ {
			if err := ctx.Err(); err != nil {
				return err
			}
			block, log, more := sh.copySegment(n, append(c.snapshots.buf[:0], make([]byte, blockHead)...))
			c.snapshots.buf = block
			if !more {
				break
			}
			if len(block) == blockHead {
				continue
			}
			sealBlock(block, number, log, sum)
			number++
			if _, err := w.Write(block); err != nil {
				return err
			}
		}
	}
	end := make([]byte, blockHead)
	sealBlock(end, number, 0, sum)
	_, err := w.Write(end)
	return err
}

// copySegment appends what is between the ends of segment n, and returns its log. more is false when there is no segment n, nor one behind it.
func (sh *shard) copySegment(n uint32, dst []byte) (block []byte, log uint8, more bool) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if int(n) >= len(sh.segments) {
		return dst, 0, false
	}
	seg := &sh.segments[n]
	from := 0
	if l := &sh.logs[seg.home]; l.first == n {
		from = l.passed
	}
	if seg.octets == nil {
		return dst, 0, true
	}
	return append(dst, seg.octets[from:seg.used]...), seg.home, true
}

// sealBlock writes the head of a block, behind which its entries are.
func sealBlock(block []byte, number uint32, log uint8, sum uint64) {
	le := binary.LittleEndian
	le.PutUint32(block, number)
	le.PutUint32(block[4:], uint32(len(block)-blockHead)|uint32(log)<<24)
	le.PutUint64(block[8:], blockSum(block, sum))
}

// blockSum is the checksum of a block in a file whose head has the checksum sum.
func blockSum(block []byte, sum uint64) uint64 {
	var h xxhash.Digest
	h.ResetWithSeed(sum)
	h.Write(block[:8])         //nolint:errcheck // it has no error to return
	h.Write(block[blockHead:]) //nolint:errcheck // likewise
	return h.Sum64()
}

// prepareSnapshots makes the directory, and removes what was being written when weir was killed.
func (c *Cache) prepareSnapshots() error {
	path := c.snapshots.path
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	names, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return err
	}
	for _, n := range names {
		if ok, _ := filepath.Match(filepath.Base(path)+".*"+partialSuffix, n.Name()); ok { // names of upstreams have nothing that a pattern minds
			os.Remove(filepath.Join(filepath.Dir(path), n.Name()))
		}
	}
	return nil
}

// saveRegularly saves until ctx is done.
func (c *Cache) saveRegularly(ctx context.Context) {
	tick := time.NewTicker(c.config.SnapshotInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			_ = c.Save(ctx) // which tells
		}
	}
}

// damage is what is wrong with a snapshot.
type damage string

func (d damage) Error() string { return string(d) }

func damaged(format string, args ...any) error { return damage(fmt.Sprintf(format, args...)) }

// grown returns b with n octets, whatever they are.
func grown(b []byte, n int) []byte { return slices.Grow(b[:0], n)[:n] }
