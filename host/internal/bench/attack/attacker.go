//go:build linux

package attack

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Target is where a server is attacked, and asked by new clients: ports of 127.0.0.1.
type Target struct {
	UDP   int // and TCP
	TLS   int
	HTTPS int // over TCP, and QUIC
	QUIC  int
}

// flags defines flags for the ports.
func (t *Target) flags(f *flag.FlagSet) {
	f.IntVar(&t.UDP, "udp", 0, "port of UDP and TCP")
	f.IntVar(&t.TLS, "tls", 0, "port of TLS")
	f.IntVar(&t.HTTPS, "https", 0, "port of HTTPS")
	f.IntVar(&t.QUIC, "quic", 0, "port of QUIC")
}

// Args are the flags that say the same.
func (t *Target) Args() []string {
	return []string{"-udp", strconv.Itoa(t.UDP), "-tls", strconv.Itoa(t.TLS), "-https", strconv.Itoa(t.HTTPS), "-quic", strconv.Itoa(t.QUIC)}
}

// Tally is what attackers did in one way, and what became of it.
type Tally struct {
	Begun int64 // connections, streams or requests
	Ended int64 // by the server
	Most  int64 // that were open at a time since the attackers were in place, or -1 where that says nothing
	Least int64 // likewise
	// Failed is how many did not come about: refused, or given up.
	Failed int64
}

// counter counts for a Tally, and has the attackers of one kind take turns.
type counter struct {
	begun, ended, failed, open atomic.Int64
	turns                      chan struct{} // of those who connect

	most, least int64 // open at a time; of the goroutine of watch, until that has ended
}

// attacks are all that there are, by name.
var attacks = map[string]func(context.Context, *attacker){
	"slow": attackSlowly, "contents": attackContents, "reset": attackResets, "streams": attackStreams, "connections": attackConnections,
}

// Names returns the names of all attacks.
func Names() []string { return slices.Sorted(maps.Keys(attacks)) }

// attacker is one attack.
type attacker struct {
	Target
	scale    float64 // of what it is made of, 0 to 1
	counters map[string]*counter
	present  sync.WaitGroup // done when those who attack have tried once
	all      sync.WaitGroup // done when they have ended
}

// Run is the process of an attack: NAME FLAG... It writes an empty line when all attackers are in place, goes on until in ends, and writes what became of it, in JSON: a Tally
// for each way of attacking.
func Run(args []string, in io.Reader, out io.Writer) error {
	if len(args) == 0 || attacks[args[0]] == nil {
		return fmt.Errorf("attack: want one of %v", Names())
	}
	a := &attacker{counters: map[string]*counter{}}
	flags := flag.NewFlagSet("attack", flag.ContinueOnError)
	a.flags(flags)
	flags.Float64Var(&a.scale, "scale", 1, "how many of the attackers there are")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	attacks[args[0]](ctx, a)
	a.wait(inPlace)
	fmt.Fprintln(out)
	watching, unwatch := context.WithCancel(ctx)
	defer unwatch()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		a.watch(watching)
	}()
	if _, err := io.Copy(io.Discard, bufio.NewReader(in)); err != nil {
		return fmt.Errorf("attack: %w", err)
	}
	unwatch()
	<-watched
	tallies := map[string]Tally{}
	for name, c := range a.counters { // now, since all end after this
		tallies[name] = Tally{Begun: c.begun.Load(), Ended: c.ended.Load(), Failed: c.failed.Load(), Most: c.most, Least: c.least}
	}
	cancel()
	a.all.Wait()
	return json.NewEncoder(out).Encode(tallies)
}

const (
	// inPlace is how long the attackers may take until they are in place. On a server that they keep busy, some are not until then.
	inPlace = 30 * time.Second
	// connectTurns is how many of a kind connect at a time: more would wait for the generator, whose one CPU makes all the handshakes.
	connectTurns = 32
	// patience is how long an attacker waits for a connection.
	patience = 5 * time.Second
	// turnTime is how long an attacker waits from one connection to the next, when it is not let stay. It is as long as weir waits for a message, so that who is thrown
	// out has no more connections than who is not.
	turnTime = 3 * time.Second
)

func (a *attacker) wait(most time.Duration) {
	done := make(chan struct{})
	go func() {
		a.present.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(most):
	}
}

// watch keeps how many are open at most and at least.
func (a *attacker) watch(ctx context.Context) {
	for _, c := range a.counters {
		c.most, c.least = c.open.Load(), c.open.Load()
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, c := range a.counters {
			n := c.open.Load()
			c.most, c.least = max(c.most, n), min(c.least, n)
		}
	}
}

// some is how many there are of n.
func (a *attacker) some(n int) int { return max(1, int(float64(n)*a.scale)) }

// counter returns the one of a name. It is called before the attackers begin.
func (a *attacker) counter(name string) *counter {
	if a.counters[name] == nil {
		a.counters[name] = &counter{turns: make(chan struct{}, connectTurns)}
	}
	return a.counters[name]
}

// addressOf is the address of the n-th attacker. Few share one, so that it's not the limit for one client that holds them off.
func addressOf(n int) netip.Addr {
	const each = 50
	n /= each
	return netip.AddrFrom4([4]byte{127, 1, byte(n >> 8), byte(n)})
}

func local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// turn waits until the attacker may connect; the function that it returns is for when it has, or nil when ctx is done.
func (c *counter) turn(ctx context.Context) func() {
	select {
	case c.turns <- struct{}{}:
		return func() { <-c.turns }
	case <-ctx.Done():
		return nil
	}
}

// connect connects the n-th attacker, one of c, to a port, with TLS if there is an ALPN.
func (c *counter) connect(ctx context.Context, n, port int, alpn string) (net.Conn, error) {
	done := c.turn(ctx)
	if done == nil {
		return nil, ctx.Err()
	}
	defer done()
	dialer := &net.Dialer{Timeout: patience, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(addressOf(n), 0))}
	if alpn == "" {
		return dialer.DialContext(ctx, "tcp", local(port))
	}
	return (&tls.Dialer{NetDialer: dialer, Config: clientTLS(alpn)}).DialContext(ctx, "tcp", local(port))
}

// clientTLS doesn't look at certificates, and has the server make a whole handshake, with the curve that costs the generator least.
func clientTLS(alpn string) *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, NextProtos: []string{alpn}, CurvePreferences: []tls.CurveID{tls.X25519}, MinVersion: tls.VersionTLS13}
}

// pause waits until a moment, or until ctx is done.
func pause(ctx context.Context, until time.Time) {
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
