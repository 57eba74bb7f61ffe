package cache

import (
	"math/rand/v2"
	"testing"
)

// The table against a map: ids that share buckets and ids that don't, put in and taken out at random.
func TestFlightTable(t *testing.T) {
	var table flightTable
	model := map[uint64]*flight{}
	random := rand.New(rand.NewPCG(1, 2))
	for range 200_000 {
		id := random.Uint64N(64) + random.Uint64N(4)*uint64(len(table.buckets))
		f := table.get(id)
		if f != model[id] {
			t.Fatalf("flight %d is %p, want %p", id, f, model[id])
		}
		if f == nil {
			f = &flight{id: id}
			table.put(f)
			model[id] = f
		} else {
			table.remove(f)
			delete(model, id)
		}
		if table.n != len(model) {
			t.Fatalf("%d flights, want %d", table.n, len(model))
		}
	}
}

func BenchmarkFlightTable(b *testing.B) {
	const aloft = 100
	flights := make([]flight, aloft)
	ids := rand.New(rand.NewPCG(1, 2))
	b.Run("table", func(b *testing.B) {
		var table flightTable
		for i := 0; b.Loop(); i++ {
			f := &flights[i%aloft]
			if i >= aloft {
				table.remove(f)
			}
			f.id = ids.Uint64()
			if table.get(f.id) == nil {
				table.put(f)
			}
		}
	})
	b.Run("map", func(b *testing.B) {
		table := map[uint64]*flight{}
		for i := 0; b.Loop(); i++ {
			f := &flights[i%aloft]
			if i >= aloft {
				delete(table, f.id)
			}
			f.id = ids.Uint64()
			if table[f.id] == nil {
				table[f.id] = f
			}
		}
	})
}
