package table

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/weirdns/weir/host/message"
)

// bigZone writes a zone file of n names with an address each, in no order.
func bigZone(b *testing.B, n int) (path string) {
	b.Helper()
	path = filepath.Join(b.TempDir(), "z")
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	w := bufio.NewWriter(f)
	fmt.Fprint(w, "$ORIGIN example.\n$TTL 300\n"+soa)
	for i := range n {
		fmt.Fprintf(w, "host-%d A 192.0.2.%d\n", shuffled(i), i&0xff)
	}
	if err := w.Flush(); err != nil {
		b.Fatal(err)
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
	return path
}

// shuffled is another number for each i below 2^20.
func shuffled(i int) int { return i * 0x1E3779B1 & (1<<20 - 1) }

var sizes = []struct {
	name string
	n    int
}{{"1k", 1_000}, {"100k", 100_000}, {"1M", 1_000_000}}

// BenchmarkSnapshot looks up names in turn, so that in a large zone little is in the processor's caches.
func BenchmarkSnapshot(b *testing.B) {
	for _, size := range sizes {
		table, err := Open("bench", Config{Zonefile: bigZone(b, size.n)}, "", nil)
		if err != nil {
			b.Fatal(err)
		}
		s := table.Snapshot()
		const many = 4096
		var there, below, absent [many][]byte
		for i := range many {
			host := fmt.Sprintf("host-%d.example", shuffled(i*(size.n/1000)%size.n))
			for set, text := range map[*[]byte]string{&there[i]: host, &below[i]: "a.b." + host, &absent[i]: "no-" + host} {
				if *set, err = message.ParseName(text); err != nil {
					b.Fatal(err)
				}
			}
		}
		outside, _ := message.ParseName("www.example.com")
		run := func(what string, f func(i int)) {
			b.Run(what+"/"+size.name, func(b *testing.B) {
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					f(i & (many - 1))
					i++
				}
			})
		}
		run("Get", func(i int) {
			if _, ok := s.Get(there[i]); !ok {
				b.Fatal("not there")
			}
		})
		run("Longest", func(i int) {
			if matched, _, _ := s.Longest(there[i]); matched != len(there[i]) {
				b.Fatal(matched)
			}
		})
		run("LongestBelow", func(i int) {
			if matched, _, _ := s.Longest(below[i]); matched != len(below[i])-4 {
				b.Fatal(matched)
			}
		})
		run("LongestAbsent", func(i int) {
			if matched, _, _ := s.Longest(absent[i]); matched != 9 {
				b.Fatal(matched)
			}
		})
		run("LongestOutside", func(int) {
			if _, _, ok := s.Longest(outside); ok {
				b.Fatal("inside")
			}
		})
		run("Next", func(i int) { s.Next(there[i]) })
		run("NextAbsent", func(i int) { s.Next(absent[i]) })
	}
}

// BenchmarkOpen reads zone files. octets/record is all that the heap grew by; index-octets/record is that without the owner and the
// RDATA of the record.
func BenchmarkOpen(b *testing.B) {
	for _, size := range sizes {
		b.Run(size.name, func(b *testing.B) {
			path := bigZone(b, size.n)
			var before, after runtime.MemStats
			for b.Loop() {
				runtime.GC()
				runtime.ReadMemStats(&before)
				table, err := Open("bench", Config{Zonefile: path}, "", nil)
				if err != nil {
					b.Fatal(err)
				}
				runtime.GC()
				runtime.ReadMemStats(&after)
				runtime.KeepAlive(table)
				own := 0
				s := table.Snapshot()
				for key, _, ok := s.Next(nil); ok; key, _, ok = s.Next(key) {
					own += len(key) + 4
				}
				grown := float64(after.HeapAlloc) - float64(before.HeapAlloc)
				b.ReportMetric(grown/float64(size.n), "octets/record")
				b.ReportMetric((grown-float64(own))/float64(size.n), "index-octets/record")
			}
		})
	}
}

func BenchmarkPrefix(b *testing.B) {
	path := filepath.Join(b.TempDir(), "p")
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	for i := range 100_000 {
		fmt.Fprintf(f, "10.%d.%d.%d/32\n", i>>16, i>>8&0xff, i&0xff)
	}
	f.Close()
	table, err := Open("bench", Config{Prefixes: path}, "", nil)
	if err != nil {
		b.Fatal(err)
	}
	s := table.Snapshot()
	b.ReportAllocs()
	i, address := 0, make([]byte, 4)
	for b.Loop() {
		address[0], address[1], address[2], address[3] = 10, byte(i>>16&1), byte(i>>8), byte(i)
		s.Prefix(address)
		i += 7919
	}
}
