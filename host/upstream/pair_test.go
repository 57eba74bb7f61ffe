package upstream

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// moody is what a server does that has another fault each second.
type moody struct {
	server *fakeServer
	mood   atomic.Int32
}

// The moods.
const (
	well      = iota
	dead      // refuses
	mute      // takes queries
	slow      // 700 ms late
	lossy     // answers every second query over UDP
	cut       // says TC over UDP
	cutOnly   // and closes TCP connections
	otherID   // over UDP and TCP
	liesFirst // and tells the truth then
	breaks    // says TC over UDP, and breaks off within an answer over TCP
	moods
)

func newMoody(n *fakeNet, ip string) *moody {
	m := &moody{server: n.server(ip)}
	forge := func(query []byte) []byte {
		wrong := answer(query, ip)
		wrong[1] ^= 1
		return wrong
	}
	m.server.set(func(s *fakeServer) {
		s.answer = func(query []byte) [][]byte {
			switch m.mood.Load() {
			case cut, cutOnly, breaks:
				return [][]byte{counts(tc(query))}
			case otherID:
				return [][]byte{forge(query)}
			case liesFirst:
				return [][]byte{forge(query), answer(query, ip)}
			case lossy:
				if rand.IntN(2) == 0 {
					return nil
				}
			}
			return [][]byte{answer(query, ip)}
		}
		s.stream = func(end net.Conn, _ int) {
			frames(end, func(query []byte) {
				switch m.mood.Load() {
				case dead, cutOnly:
					end.Close()
				case mute:
				case slow:
					time.AfterFunc(700*time.Millisecond, func() { _, _ = end.Write(frame(answer(query, ip))) })
				case otherID:
					_, _ = end.Write(frame(forge(query)))
				case breaks:
					_, _ = end.Write(frame(answer(query, ip))[:20])
					end.Close()
				default:
					_, _ = end.Write(frame(answer(query, ip)))
				}
			})
		}
	})
	return m
}

func (m *moody) become(mood int32) {
	m.mood.Store(mood)
	m.server.set(func(s *fakeServer) {
		s.silent, s.refused, s.delay = mood == mute, mood == dead, 0
		if mood == slow {
			s.delay = 700 * time.Millisecond
		}
	})
}

// Of two servers one at a time has faults, another one each second, and the other one is well, and was so for longer than a query takes: each query is
// answered, over UDP and TCP.
func TestPairOfServers(t *testing.T) {
	const turn, rest = 5, 2 // seconds
	for _, transport := range []string{"auto", "tcp"} {
		for seed := range uint64(4) {
			t.Run(fmt.Sprint(transport, " ", seed), func(t *testing.T) {
				n := newFakeNet(ip1, ip2)
				servers := [2]*moody{newMoody(n, ip1), newMoody(n, ip2)}
				random := rand.New(rand.NewPCG(seed, 1))
				bubble(t, n, Config{Servers: []string{ip1, ip2}, Transport: transport}, func(t *testing.T, g *Group) {
					var all sync.WaitGroup
					defer all.Wait()
					var past [20]int32 // moods
					for second := range 20 * (turn + rest) {
						mood := int32(well)
						if second%(turn+rest) < turn {
							mood = random.Int32N(moods)
						}
						past[second%len(past)] = mood
						servers[second/(turn+rest)%2].become(mood)
						for range 50 {
							<-time.After(20 * time.Millisecond)
							all.Go(func() {
								if got, took := timed(t, g); got != "NOERROR "+ip1 && got != "NOERROR "+ip2 {
									t.Errorf("second %d, moods %v: got %q in %v", second, past, got, took)
								}
							})
						}
					}
				})
			})
		}
	}
}
