package cache

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/weirdns/weir/host/message"
)

// restoreTime is how long reading a snapshot may hold up a start. A full cache of the default size takes a tenth of it.
const restoreTime = 3 * time.Second

// Restore reads the snapshot, if the configuration wants any and there is one. It is to be called before the first query. Time goes on while weir does
// not run: an answer whose TTL has ended since comes in as a stale one, if serve_stale allows that, and else not at all. If the clock says that
// the snapshot is yet to be written, nobody knows how much time has gone by, and all answers are stale.
//
// Whatever is in the file, queries get no wrong answer: what has not the right checksum is not taken, and neither is what is behind it. It is
// logged, in one line, how that went.
func (c *Cache) Restore(ctx context.Context) {
	path := c.snapshots.path
	if path == "" {
		return
	}
	log := c.log.With("upstream", c.name, "file", path)
	if err := c.prepareSnapshots(); err != nil {
		log.Warn("there is no place for cache snapshots: none will be written", "error", err)
	}
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return // the first start
	}
	var n restored
	if err == nil {
		defer file.Close()
		ctx, cancel := context.WithTimeout(ctx, restoreTime)
		defer cancel()
		n, err = c.readSnapshot(ctx, bufio.NewReaderSize(file, 4*segmentOctets))
	}
	c.restored.Add(uint64(n.entries))
	switch {
	case err != nil && n.entries == 0:
		log.Warn("a cache snapshot is ignored: the cache is empty", "error", err)
	case err != nil:
		log.Warn("a cache snapshot was read in part", "error", err, "entries", n.entries, "stale", n.stale)
	default:
		log.Info("the cache is as in its snapshot", "entries", n.entries, "stale", n.stale, "over", n.over, "age", n.age.Round(time.Second).String())
	}
}

// restored counts what became of a snapshot.
type restored struct {
	entries int // that are in the cache now
	stale   int // of these
	over    int // left out, since they are too old
	age     time.Duration
}

// reader reads a snapshot.
type reader struct {
	cache   *Cache
	now     int64 // by the clock of the cache
	elapsed int64 // nanoseconds since the snapshot
	clock   int64 // that of the cache then
	unknown bool  // how much time has elapsed: the clock was set back
	query   message.Query
	buf     []byte // of query
	ttls    []byte
	restored
}

// readSnapshot takes entries out of r until something is wrong with it, or there is no room for more. What was taken by then is right.
func (c *Cache) readSnapshot(ctx context.Context, r io.Reader) (restored, error) {
	le, now := binary.LittleEndian, c.now(nil)
	head := make([]byte, snapshotHead)
	switch n, err := io.ReadFull(r, head); {
	case n >= len(snapshotMagic) && string(head[:len(snapshotMagic)]) != snapshotMagic:
		return restored{}, damaged("it is no snapshot of a cache")
	case err != nil:
		return restored{}, damaged("it ends after %d octets: %v", n, err)
	}
	if v := le.Uint32(head[8:]); v != snapshotVersion {
		return restored{}, damaged("it has version %d, and this weir reads version %d only", v, snapshotVersion)
	}
	sum := le.Uint64(head[snapshotSum:])
	if xxhash.Sum64(head[:snapshotSum]) != sum {
		return restored{}, damaged("its checksum is wrong")
	}
	if Identity(head[32:48]) != c.snapshots.identity {
		return restored{}, damaged("it was written under another configuration of the upstream or of its TTLs")
	}
	rd := &reader{cache: c, now: int64(now.Sub(c.epoch)), clock: int64(le.Uint64(head[24:])), elapsed: now.UnixNano() - int64(le.Uint64(head[16:]))}
	if rd.unknown = rd.elapsed < 0; rd.unknown {
		rd.elapsed = 0
	}
	rd.age = time.Duration(rd.elapsed)
	left := c.config.Success.Octets + c.config.Denial.Octets // more than that can't be of use
	var block []byte
	for number := uint32(0); ; number++ {
		if ctx.Err() != nil {
			return rd.restored, damaged("reading it takes more than %v", restoreTime)
		}
		block = grown(block, blockHead)
		if _, err := io.ReadFull(r, block); err != nil {
			return rd.restored, damaged("it ends in the head of block %d: %v", number, err)
		}
		size, log := int(le.Uint32(block[4:])&(1<<24-1)), block[7]
		if le.Uint32(block) != number || size > maxBlock {
			return rd.restored, damaged("block %d is damaged", number)
		}
		block = append(block, make([]byte, size)...)
		if n, err := io.ReadFull(r, block[blockHead:]); err != nil {
			return rd.restored, damaged("it ends after %d octets of block %d: %v", n, number, err)
		}
		if blockSum(block, sum) != le.Uint64(block[8:]) {
			return rd.restored, damaged("block %d is damaged", number)
		}
		if left -= size; size == 0 || left < 0 {
			return rd.restored, nil
		}
		if !rd.block(block[blockHead:], log&1 != 0) {
			return rd.restored, damaged("block %d has an entry that makes no sense", number)
		}
	}
}

// block takes the entries of a block, and reports whether all make sense. main says that they were in a main queue.
func (rd *reader) block(b []byte, main bool) bool {
	for len(b) >= entryHead {
		e := entry(b)
		room := e.room()
		if room < entryHead || room > len(b) || e.size() > room {
			return false
		}
		if !e.dead() && e.kind() != failure && !rd.entry(e[:room], main) {
			return false
		}
		b = b[room:]
	}
	return len(b) == 0
}

// entry takes one, and reports whether it makes sense: it is looked at as what comes from an upstream is.
func (rd *reader) entry(e entry, main bool) bool {
	key, s := e.key(), e.span()
	if !rd.cache.validKey(key) || s.life == 0 || s.life > seconds(maxTTL) {
		return false
	}
	rd.buf = grown(rd.buf, maxKey+64)
	rd.query.Name = nil
	queryOf(&rd.query, key, rd.buf)
	if string(rd.query.Name) != string(qname(key)) || string(rd.query.Key) != string(rd.query.Name) {
		return false // not a name, or not a canonical one
	}
	it := item{key: key, kind: e.kind(), rcode: e.rcode(), tailored: e[atWhat]&whatTailored != 0, ttls: rd.ttls[:0]}
	msg := e[entryHead+len(key):][:e.word(atMessage)]
	it.ede = e[entryHead+len(key)+len(msg)+e.word(atTTLs):][:e.word(atEDE)]
	var r message.Response
	if err := r.Parse(msg, &rd.query.Question); err != nil || len(r.Message) != len(msg) || r.RCODE != it.rcode || !validEDEs(it.ede) {
		return false
	}
	if message.Truncated(msg) || kindOf(&r) != it.kind {
		return false
	}
	it.message, it.class = r.Message, r.Class
	for rr := range message.Records(msg) {
		it.ttls = binary.LittleEndian.AppendUint16(it.ttls, uint16(rr.At))
	}
	rd.ttls = it.ttls
	it.span = span{stored: rd.now - rd.elapsed - max(rd.clock-s.stored, 0), life: s.life}
	if rd.unknown {
		it.stored = min(it.stored, rd.now-int64(s.life)*1e9)
	}
	over := rd.now - it.end()
	if over >= max(rd.cache.store.stale, 0) {
		rd.over++
		return true
	}
	if rd.cache.store.restore(&it, e.uses(), main, rd.now) {
		rd.entries++
		if over >= 0 {
			rd.stale++
		}
	}
	return true
}

// validKey reports whether key can be one of c.
func (c *Cache) validKey(key []byte) bool {
	if len(key) <= keyTail || len(key) > maxKey {
		return false
	}
	if hasSubnet(key) {
		if !c.store.subnets || len(key) <= keyTail+subnetTail || !validSubnet(key) {
			return false
		}
		key = questionOf(key)
	}
	return len(key) <= maxKey-subnetTail && key[len(key)-1] < keyRD<<1
}

// kindOf is the kind that a response has which was kept, failure for one that never is as an answer.
func kindOf(r *message.Response) kind {
	switch {
	case r.RCODE != message.NOERROR && r.RCODE != message.NXDOMAIN:
		return failure
	case r.RCODE == message.NXDOMAIN || r.Class == message.ClassNODATA:
		return denial
	case binary.BigEndian.Uint16(r.Message[6:]) == 0:
		return failure // a referral
	}
	return success
}

// edeOption is the code of the EDNS option with an Extended DNS Error (RFC 8914 section 2).
const edeOption = 15

// validEDEs reports whether b is a list of Extended DNS Errors, as EDNS options.
func validEDEs(b []byte) bool {
	for len(b) >= edeSize {
		n := 4 + int(binary.BigEndian.Uint16(b[2:]))
		if binary.BigEndian.Uint16(b) != edeOption || n < edeSize || n > len(b) {
			return false
		}
		b = b[n:]
	}
	return len(b) == 0
}

// restore keeps an item from a snapshot, unless there is a younger one, and reports whether it does.
func (s *store) restore(it *item, uses uint8, main bool, now int64) bool {
	hash := s.hash(questionOf(it.key))
	sh := s.shard(hash)
	q := sh.queue(it.kind)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if it.size() > q.largest {
		return false
	}
	if p, old := sh.get(it.key, hash); old != nil {
		if old.span().stored >= it.stored {
			return false
		}
		sh.drop(p, old)
	}
	if hasSubnet(it.key) {
		s.displace(sh, it.key, hash, now)
	}
	to := q.small
	if main {
		to = q.main
	}
	s.add(sh, q, to, hash, it, uses, now)
	return true
}
