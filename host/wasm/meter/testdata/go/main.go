// The Go guest of the metering tests: work of the kinds that filters do, each export a number in and a number out.
package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
)

func main() {}

// random is a small deterministic generator (xorshift).
type random uint64

func (r *random) next() uint64 {
	x := uint64(*r)
	x ^= x << 13
	x ^= x >> 7
	x ^= x << 17
	*r = random(x)
	return x
}

//go:wasmexport hash
func hash(n uint32) uint64 {
	sum := sha256.Sum256(bytes.Repeat([]byte("weir"), int(n)))
	return binary.BigEndian.Uint64(sum[:])
}

//go:wasmexport sort
func sort(n uint32) uint64 {
	r := random(42)
	values := make([]uint64, n)
	for i := range values {
		values[i] = r.next()
	}
	slices.Sort(values)
	checksum := uint64(0)
	for i, v := range values {
		checksum = checksum*31 + v ^ uint64(i)
	}
	return checksum
}

//go:wasmexport search
func search(n uint32) uint64 {
	text := strings.Repeat("the quick brown fox ", int(n)) + "jumps over"
	return uint64(strings.Index(text, "fox jumps"))<<32 | uint64(strings.Count(text, "own"))
}

//go:wasmexport floats
func floats(n uint32) uint64 {
	sum := 0.0
	for i := range n {
		x := float64(i) + 0.5
		sum += math.Sqrt(x) * math.Sin(x) / math.Floor(x+1)
	}
	return math.Float64bits(sum)
}

//go:wasmexport recurse
func recurse(n uint32) uint64 {
	if n < 2 {
		return uint64(n)
	}
	return recurse(n-1) + recurse(n-2)
}

// parse is recursion with large frames: n nested lists.
//
//go:wasmexport parse
func parse(n uint32) uint64 {
	var v any
	err := json.Unmarshal([]byte(strings.Repeat("[", int(n))+strings.Repeat("]", int(n))), &v)
	depth := uint64(0)
	for list, ok := v.([]any); ok && err == nil; list, ok = v.([]any) {
		depth++
		if len(list) == 0 {
			break
		}
		v = list[0]
	}
	return depth
}

// recovered is a panic in a deferred function's reach.
//
//go:wasmexport recovered
func recovered(n uint32) (result uint64) {
	defer func() {
		if recover() != nil {
			result = 7
		}
	}()
	return uint64([]byte("abc")[n])
}

var (
	names map[string]uint32
	query []byte
)

// fill makes a table of n names for lookup.
//
//go:wasmexport fill
func fill(n uint32) uint64 {
	names = make(map[string]uint32, n)
	for i := range n {
		names["host"+strconv.Itoa(int(i))+".example.net."] = i
	}
	query = []byte("a.www.host" + strconv.Itoa(int(n/2)) + ".example.net.")
	return uint64(len(names))
}

// lookup finds the longest suffix of the query in the table.
//
//go:wasmexport lookup
func lookup(uint32) uint64 {
	for name := query; len(name) > 0; {
		if v, ok := names[string(name)]; ok {
			return uint64(v)
		}
		dot := bytes.IndexByte(name, '.')
		if dot < 0 {
			break
		}
		name = name[dot+1:]
	}
	return math.MaxUint64
}

//go:wasmexport nothing
func nothing(n uint32) uint64 { return uint64(n) }
