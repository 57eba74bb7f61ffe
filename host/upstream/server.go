package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirdns/weir/host/due"
)

const (
	// rttHalfLife is the time in which what is known of a server's round trip time loses half of its weight in the policy
	// "fastest": a server that was slow a few minutes ago gets a chance to show that it isn't any more.
	rttHalfLife = 30 * time.Second
	// rttMax bounds the smoothed round trip time, and with it how long a server that came back is held to be slow.
	rttMax = 2 * time.Second
	// quirkMemory is how long a server that can't do EDNS, does not keep the case of names, or takes no cookie, is remembered for that.
	quirkMemory = 10 * time.Minute
)

// server is one server of a group. All of it is safe for concurrent use.
type server struct {
	target
	name    string // of addr, for logs and traces
	group   *Group
	metrics *serverMetrics
	sockets sockets
	tls     *tls.Config // nil in clear text

	health                // by the transport that it is asked over first
	tcp      health       // over TCP, where that is not the first
	expected atomic.Int32 // answers to dropped tries
	inFlight atomic.Int32
	rtt      atomic.Int64 // smoothed round trip time in nanoseconds, 0 while unknown
	rttAt    atomic.Int64 // due.Moment of its last change
	dialTime atomic.Int64 // smoothed duration of opening a connection in nanoseconds, half of its limit if that was too short, 0 while unknown
	noEDNS   atomic.Int64 // due.Moment until which queries go without EDNS
	noCase   atomic.Int64 // due.Moment until which the server is known not to keep the case of the QNAME
	noCookie atomic.Int64 // due.Moment until which queries go without a cookie

	loop    loopDetector
	cookies cookieJar

	mu          sync.Mutex // guards following
	connections []connection
	retired     bool // not in the group any more
}

func newServer(g *Group, t target) *server {
	s := &server{target: t, name: t.addr.String(), group: g}
	s.metrics = g.metrics.server(g.name, s.name, t.transport)
	s.metrics.healthy.Set(1)
	s.sockets.open = make(map[*socket]struct{})
	if t.transport.encrypted() {
		s.tls = g.security.config(t)
	}
	return s
}

// observe notes a round trip time. The smoothing is that of TCP, RFC 6298 section 2.3. Two at the same time may lose one sample,
// which is of no matter.
func (s *server) observe(rtt time.Duration, now time.Time) {
	old := time.Duration(s.rtt.Load())
	if old != 0 {
		rtt = old + (rtt-old)/8
	}
	s.rtt.Store(int64(max(1, min(rtt, rttMax))))
	if at := int64(due.At(now)); at-s.rttAt.Load() > int64(rttHalfLife/1024) {
		s.rttAt.Store(at)
	}
}

// expectedRTT is the smoothed round trip time, less and less of it as it gets old. A server that was never asked comes first.
func (s *server) expectedRTT(now time.Time) time.Duration {
	age := time.Duration(int64(due.At(now)) - s.rttAt.Load())
	return time.Duration(s.rtt.Load()) >> min(max(0, age/rttHalfLife), 62)
}

// ok notes a response to t, which took that long. One with an RCODE that is not healthy counts as a fail.
func (s *server) ok(t *try, rcode uint16, took time.Duration, now time.Time) {
	s.metrics.response(t.exchange.batch, rcode, took)
	if !s.group.isHealthy(rcode) {
		s.fail(t, causeRCODE, nil, 0, now)
		return
	}
	if t.exchange.purpose == forLoop {
		return
	}
	if !t.tcpOnly && s.health.good(now) {
		s.metrics.healthy.Set(1)
		s.group.log.Info("server is up", "server", s.name)
	}
	if t.over == TCP && s.transport == Auto && s.tcp.good(now) {
		s.group.log.Info("server responds over TCP again", "server", s.name)
	}
}

// fail notes a try without a healthy response, after it has been waited for. problem says more about the cause, if anything does. A server that has just spoken over UDP, and says nothing over TCP, is not
// down for that: it is asked on, and only what it truncates is asked elsewhere.
func (s *server) fail(t *try, cause int, problem error, waited time.Duration, now time.Time) {
	s.metrics.failures[cause].Inc()
	if t.exchange.purpose == forLoop || cause == causeLoop { // for other names it may be well
		return
	}
	if cause == causeTimeout && int64(waited) > s.rtt.Load() {
		// The answer takes at least as long. Without this a server that answers late would never be known to: its answers lose
		// against those of the server that is asked next.
		s.rtt.Store(int64(min(waited, rttMax)))
		s.rttAt.Store(int64(due.At(now)))
	}
	limit, what, h := s.group.maxFails, "server is down", &s.health
	if t.tcpOnly {
		what, h = "server does not respond over TCP", &s.tcp
	}
	hold, fell := h.bad(limit, now)
	if !fell {
		return
	}
	log := s.group.log
	if problem != nil {
		log = log.With("error", problem)
	}
	if hold > 0 {
		log = log.With("for_at_least", hold)
	}
	log.Warn(what, "server", s.name, "fails", limit, "cause", causeNames[cause])
	if h == &s.health {
		s.metrics.healthy.Set(0)
	}
	s.group.wakeHealth()
}

// quirk reports whether the time in until, one of noEDNS, noCase and noCookie, is still to come.
func quirk(until *atomic.Int64, now time.Time) bool {
	t := until.Load()
	return t != 0 && int64(due.At(now)) < t
}

// connection is what queries wait on together, other than UDP sockets: a stream or a session.
type connection interface {
	run(ctx context.Context)
	hasRoom() bool
	add(t *try, r *random) bool
	drop(t *try) bool
	suspect(t *try)
	retire()
	end(why outcomeKind)
}

// connection returns a connection on which one more query can wait, and opens one if there is none.
func (s *server) connection() (connection, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.connections {
		if c.hasRoom() {
			return c, nil
		}
	}
	if len(s.connections) >= maxStreams {
		return nil, errTooManyStreams
	}
	if s.retired {
		return nil, ErrClosed
	}
	c := s.newConnection()
	if !s.group.start(c.run) {
		return nil, ErrClosed
	}
	s.connections = append(s.connections, c)
	return c, nil
}

// newConnection makes a connection, which run opens.
func (s *server) newConnection() connection {
	switch s.transport {
	case HTTPS:
		return newSession(s, openHTTPS)
	case QUIC:
		return newSession(s, openQUIC)
	}
	return &stream{server: s, pending: make(map[uint16]*try), writing: true}
}

// dial has a connection opened, within dialTimeout, and notes how long that took. One that was given less than Config.DialTimeout, and takes longer, is a
// lateError.
func (s *server) dial(ctx context.Context, open func(ctx context.Context) error) error {
	start, limit := time.Now(), s.dialTimeout()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := open(ctx)
	switch {
	case err == nil:
		s.observeDial(time.Since(start))
	case limit < s.group.dialTimeout && errors.Is(ctx.Err(), context.DeadlineExceeded):
		s.dialTime.Store(int64(limit / 2)) // the next one is given twice as much: what never succeeds is never observed
		err = &lateError{err}
	}
	return err
}

// lateError says that opening a connection took longer than it used to. The server may be busy, so that queries are sent again, on one that is given more time.
type lateError struct{ err error }

func (e *lateError) Error() string { return "slower than before: " + e.err.Error() }
func (e *lateError) Unwrap() error { return e.err }

func (e *lateError) outcome() outcomeKind { return outcomeBroken }

// observeDial notes how long it took to open a connection.
func (s *server) observeDial(d time.Duration) {
	if old := time.Duration(s.dialTime.Load()); old != 0 {
		d = old + (d-old)/8
	}
	s.dialTime.Store(int64(max(1, d)))
}

// dialTimeout is four times what a handshake took so far, within 300 ms and Config.DialTimeout.
func (s *server) dialTimeout() time.Duration {
	limit := s.group.dialTimeout
	if known := time.Duration(s.dialTime.Load()); known > 0 {
		return min(limit, max(4*known, 300*time.Millisecond))
	}
	return limit
}

// retire lets go of everything that the server holds. Queries that wait on a TCP connection still get their answers.
func (s *server) retire() {
	for _, k := range s.sockets.all(true) {
		k.retire()
	}
	s.mu.Lock()
	s.retired = true
	connections := s.connections
	s.mu.Unlock()
	for _, c := range connections {
		c.retire()
	}
}

// cut closes everything at once.
func (s *server) cut() {
	s.retire()
	s.mu.Lock()
	connections := s.connections
	s.mu.Unlock()
	for _, c := range connections {
		c.end(outcomeBroken)
	}
	for _, k := range s.sockets.all(true) {
		k.end()
	}
}

// remove forgets a connection that has ended.
func (s *server) remove(c connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, other := range s.connections {
		if other == c {
			s.connections = append(s.connections[:i:i], s.connections[i+1:]...) // a copy: retire and cut read the old one
			return
		}
	}
}

// isHealthy reports whether a server that says rcode is well.
func (g *Group) isHealthy(rcode uint16) bool {
	return len(g.healthyRCODEs) == 0 || slices.Contains(g.healthyRCODEs, rcode)
}
