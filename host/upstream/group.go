package upstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weirdns/weir/host/cookie"
	"github.com/weirdns/weir/host/due"
	"github.com/weirdns/weir/host/message"
	"github.com/weirdns/weir/host/rescue"
	"github.com/weirdns/weir/host/share"
)

// Env is what a group needs from around it. The zero value is good for use.
type Env struct {
	Policy  Policy
	Index   uint16       // of the group, for message.Response.Upstream
	Log     *slog.Logger // slog.Default() when nil
	Metrics *Metrics     // unregistered ones when nil
	Lookup  LookupFunc   // for servers that are given by name; by Config.Bootstrap or the system when nil
	Dial    DialFunc     // Dial when nil; not for QUIC, which needs a socket of another kind
}

// Group is a named group of servers. It implements message.Resolver, and is safe for concurrent use.
//
//  1. New checks the configuration, reads files and looks names up. Nothing runs yet.
//  2. Run probes servers that are down, watches resolv.conf, looks names up again and closes idle sockets, until its context ends. Resolve works
//     before and beside it; TCP connections that Resolve opens are the group's.
//  3. When Run returns, all sockets and connections are closed, all goroutines have ended, and Resolve returns ErrClosed.
type Group struct {
	name, policy  string
	index         uint16
	log           *slog.Logger
	metrics       *Metrics
	dialer        dialer
	security      *security   // non-nil
	locations     []location  // from Config.Servers
	names         []*hostName // those in it; after New they are followNames's own
	lookup        LookupFunc
	transport     Transport
	resolvConf    string
	resolvText    []byte // what New read
	allowed       Policy
	healthyRCODEs []uint16
	probeQuery    *message.Query
	randomCase    bool
	failDown      bool
	trusted       bool
	subnet        []byte               // option of all queries, nil for none
	subnets       message.SubnetLimits // how much of the client's own network is told instead
	secret        *cookie.Secret       // nil if no cookies are shown
	overStale     bool
	noTrains      bool // of datagrams, see datagram.Socket.NoTrains
	maxFails      int
	maxConcurrent int64
	expire        time.Duration
	healthCheck   time.Duration
	readTimeout   time.Duration
	dialTimeout   time.Duration

	servers    atomic.Pointer[[]*server] // non-nil; replaced as a whole when resolv.conf changes
	turn       atomic.Uint64             // of round_robin
	waiting    *atomic.Int64             // queries in Resolve, those of older groups of the name included
	exchanges  sync.Pool                 // of *exchange
	waiters    sync.Pool                 // of *waiter
	queues     [queues]due.Queue         // of the deadlines of exchanges
	made       atomic.Uint32             // exchanges
	loopProbes atomic.Int32              // on their way
	looping    atomic.Int64              // due.Moment until which servers are probed for loops at once, and not asked what is known to go round
	overLimit  prometheus.Counter
	overShare  prometheus.Counter
	shares     *share.Table
	guard      rescue.Guard

	changing    sync.Mutex       // guards following, and changes of servers
	configured  []target         // where locations are, as far as that is known
	nameservers []netip.AddrPort // from resolv.conf

	healthDue chan struct{} // has room for one: a server went down

	// ctx is good until Run ends; it is for what Resolve opens and others use after it.
	ctx    context.Context
	cancel context.CancelFunc
	ended  atomic.Bool // it has

	mu      sync.Mutex // guards following
	closed  bool
	running sync.WaitGroup
}

// overEDE goes with the REFUSED for queries above max_concurrent.
var overEDE = message.AppendEDE(nil, message.EDEOther, "too many queries wait for the upstream")

// New makes a group. It checks c, by c.Validate(env.Policy), reads the files that it names, which have to be there, and looks up servers that are
// given by name, for 2 s at most. Without a server in resolv.conf, or when no name leads to one, the group has none, and Resolve fails, until that
// changes; later on the servers stay when the file or the answers get worse. It starts nothing.
func New(name string, c Config, env Env) (*Group, error) {
	if err := c.Validate(env.Policy); err != nil {
		return nil, fmt.Errorf("upstream %s: %w", name, err)
	}
	c = c.WithDefaults()
	g := &Group{
		name: name, policy: c.Policy, index: env.Index,
		log:     cmp.Or(env.Log, slog.Default()).With("upstream", name),
		metrics: env.Metrics, transport: parseTransport(c.Transport), resolvConf: c.ResolvConf, allowed: env.Policy.withDefaults(),
		randomCase: c.Case == "random", failDown: c.AllDown == "fail", trusted: c.Trusted, overStale: c.OverLimit == "stale",
		noTrains: c.UDPGSO == UDPGSOOff,
		maxFails: c.MaxFails, maxConcurrent: int64(c.MaxConcurrent),
		expire: c.Expire, healthCheck: c.HealthCheck, readTimeout: c.ReadTimeout, dialTimeout: c.DialTimeout,
		healthDue: make(chan struct{}, 1),
	}
	if g.metrics == nil {
		g.metrics = NewMetrics(nil)
	}
	if c.Cookies {
		g.secret = cookie.NewSecret()
	}
	g.waiting = g.metrics.inFlight(name)
	g.overLimit, g.overShare = g.metrics.overLimit.WithLabelValues(name), g.metrics.overShare.WithLabelValues(name)
	g.shares = share.New()
	g.guard.Log, g.guard.Count = g.log, g.metrics.panics.WithLabelValues(name)
	g.dialer = dialer{dial: env.Dial, log: g.log}
	if env.Dial == nil {
		g.dialer.dial = Dial
	}
	var err error
	if g.security, err = openSecurity(c); err != nil {
		return nil, fmt.Errorf("upstream %s: %w", name, err)
	}
	// What follows has been validated.
	for _, text := range c.Sources {
		addr, _ := parseSource(text)
		g.dialer.sources = append(g.dialer.sources, &source{addr: addr})
	}
	for _, name := range c.HealthyRCODEs {
		rcode, _ := parseRCODE(name)
		g.healthyRCODEs = append(g.healthyRCODEs, rcode)
	}
	g.probeQuery, _ = parseProbe(c.Probe)
	g.subnet, g.subnets, _ = parseSubnet(c.ClientSubnet)
	for _, text := range c.Servers {
		l, _ := parseServer(text, g.transport)
		g.locations = append(g.locations, l)
		if l.host != "" && !slices.ContainsFunc(g.names, func(h *hostName) bool { return h.name == l.host }) {
			g.names = append(g.names, &hostName{name: l.host})
		}
	}
	switch {
	case env.Lookup != nil:
		g.lookup = env.Lookup
	case len(c.Bootstrap) > 0:
		g.lookup = newBootstrap(name, c, env).lookup
	default:
		g.lookup = systemLookup
	}
	g.findNames()
	g.servers.Store(new([]*server))
	g.configured = g.located()
	g.setServers(g.configured)
	if g.resolvConf != "" {
		if g.resolvText, err = g.readResolvConf(); err == nil {
			err = g.useResolvConf(g.resolvText)
		}
		if errors.Is(err, errNoNameserver) { // as on a machine that has no network yet
			g.log.Warn("no servers until the file names some: queries get SERVFAIL", "error", err)
			err = nil
		}
		if err != nil {
			return nil, fmt.Errorf("upstream %s: %w", name, &KeyError{"resolv_conf", err})
		}
	}
	g.exchanges.New = func() any { return newExchange(g) }
	g.waiters.New = func() any { return newWaiter() }
	g.ctx, g.cancel = context.WithCancel(context.Background())
	return g, nil
}

// Changed reports whether a file of certificates that New has read is another now, so that a new group would not be the same.
func (g *Group) Changed() bool { return g.security.changed() }

// Name returns the name of the group in the configuration.
func (g *Group) Name() string { return g.name }

// queues is how many queues the deadlines of exchanges are spread over, so that cores seldom wait for each other.
const queues = 4

// Resolve asks the servers and appends the response to dst. It implements message.Resolver; the errors are those of this package,
// or that of ctx.
//
// The response has AA clear, and AD unless the group is trusted. One that is truncated, which there is only where the transport is "udp" or a server truncates over TCP,
// has TC set, no records, and its RCODE as its Class.
func (g *Group) Resolve(ctx context.Context, q *message.Query, dst []byte) (message.Response, error) {
	w := g.waiters.Get().(*waiter)
	defer g.waiters.Put(w)
	t := &w.transaction
	t.Query, t.Dst, t.Batch = q, dst, nil
	if x := g.begin(ctx, t, 2); x != nil {
		select {
		case <-w.done:
		case <-ctx.Done():
			x.abort(ctx.Err())
			<-w.done
		}
		x.release()
	}
	t.Query, t.Dst = nil, nil
	return t.Response, t.Err
}

// Start implements message.Starter. It is Resolve otherwise.
func (g *Group) Start(t *message.Transaction) bool {
	return g.begin(context.Background(), t, 1) == nil
}

// waiter is a transaction that is waited for.
type waiter struct {
	transaction message.Transaction
	done        chan struct{} // has room for one
}

func newWaiter() *waiter {
	w := &waiter{done: make(chan struct{}, 1)}
	w.transaction.Done = func() { w.done <- struct{}{} }
	return w
}

// begin starts an exchange for t with so many references, or makes t final and returns nil.
func (g *Group) begin(ctx context.Context, t *message.Transaction, refs int32) *exchange {
	t.Response, t.Err = message.Response{Upstream: message.None}, nil
	if g.loopProbes.Load() != 0 && g.cameBack(t.Query, t.Batch.Now()) {
		t.Response.SetRCODE(t.Dst, t.Query, message.REFUSED)
		t.Response.EDE, t.Response.Silent = loopEDE, true
		return nil
	}
	waiting := g.waiting.Add(1)
	var sh share.Share
	crowded := g.maxConcurrent > 0 && waiting > g.maxConcurrent/2
	if crowded {
		var ok bool
		if sh, ok = g.squeeze(t, waiting); !ok {
			g.left(sh)
			return nil
		}
	}
	if t.Err = ctx.Err(); t.Err != nil {
		g.left(sh)
		return nil
	}
	if g.ended.Load() {
		g.left(sh)
		t.Err = ErrClosed
		return nil
	}
	now := t.Batch.Now()
	end := now.Add(g.readTimeout)
	if d := t.Query.Deadline; !d.IsZero() && d.Before(end) {
		end = d
	}
	if d, ok := ctx.Deadline(); ok && d.Before(end) {
		end = d
	}
	x := g.exchange(refs)
	x.share = sh
	servers := *g.servers.Load()
	x.servers = g.order(x.servers[:0], servers, &x.random, now)
	looping := quirk(&g.looping, now)
	spared := looping && x.spare(t.Query, now)
	switch {
	case len(servers) == 0:
		t.Err = ErrNoServers
	case len(x.servers) == 0 && spared:
		t.Err = ErrLoop
	case len(x.servers) == 0:
		t.Err = ErrDown
	default:
		if looping || crowded { // a loop that is fast fills the room before anything is overdue
			x.probe(x.servers[0], t.Query, now)
		}
		if !x.start(t, maxTries, end, now) {
			return x
		}
		refs--
	}
	for range refs {
		x.release()
	}
	g.left(sh)
	return nil
}

// exchange returns an exchange that nobody uses, with so many references.
func (g *Group) exchange(refs int32) *exchange {
	x := g.exchanges.Get().(*exchange)
	x.refs.Store(refs)
	x.used, x.purpose, x.share = 0, forQuery, share.Share{}
	return x
}

// entered and left count a query that waits for the group. sh is what it has taken of the share of its client.
func (g *Group) entered() { g.waiting.Add(1) }

func (g *Group) left(sh share.Share) {
	g.waiting.Add(-1)
	g.shares.Give(sh)
}

// refuse answers a query above max_concurrent.
func (g *Group) refuse(q *message.Query, dst []byte) (message.Response, error) {
	g.overLimit.Inc()
	if q.Trace != nil {
		q.Trace.Add(message.Step{Part: "upstream " + g.name, Event: "refused"}, "%d queries wait already, as many as {upstream.%s.max_concurrent} allows",
			g.maxConcurrent, g.name)
	}
	return g.turnAway(q, dst, overEDE)
}

// turnAway answers a query that there is no room for, as over_limit says.
func (g *Group) turnAway(q *message.Query, dst, ede []byte) (message.Response, error) {
	if g.overStale {
		return message.Response{Upstream: message.None}, ErrBusy
	}
	var r message.Response
	r.SetRCODE(dst, q, message.REFUSED)
	r.EDE, r.Silent = ede, true
	return r, nil
}

// Run does what the group does in the background, until ctx ends. Then it closes everything and returns nil after the last
// goroutine has ended. It is called once.
func (g *Group) Run(ctx context.Context) error {
	// What Resolve started ends with Run as well.
	stop := context.AfterFunc(ctx, g.cancel)
	defer stop()
	g.keep(g.health)
	g.keep(g.sweep)
	if g.resolvConf != "" {
		g.keep(g.watch)
	}
	if len(g.names) > 0 {
		g.keep(g.followNames)
	}
	<-ctx.Done()
	g.ended.Store(true)
	g.cancel()
	for i := range g.queues {
		g.queues[i].Flush()
	}
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	for _, s := range *g.servers.Load() {
		s.cut()
	}
	g.running.Wait()
	return nil
}

// start starts a goroutine that Run waits for, unless Run has ended. A panic in there ends that goroutine and nothing else.
func (g *Group) start(f func(ctx context.Context)) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	g.running.Go(func() { g.survive(f) })
	return true
}

// survive calls f, and reports whether it returned: there was no panic.
func (g *Group) survive(f func(ctx context.Context)) (returned bool) {
	return g.guard.Survive(func() { f(g.ctx) })
}

// keep is start for what goes on until the end of the group: after a panic, and a moment, it begins anew.
func (g *Group) keep(f func(ctx context.Context)) {
	g.start(func(ctx context.Context) { g.guard.Keep(ctx, f) })
}

// sweep closes idle sockets that are spent.
func (g *Group) sweep(ctx context.Context) {
	tick := time.NewTicker(socketAge)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			for _, s := range *g.servers.Load() {
				s.sockets.sweep(now)
			}
		case <-ctx.Done():
			return
		}
	}
}

// setServers makes these the servers of the group. Those that were there already stay as they are, with their connections and
// their health. Those that are not any more get no further queries; the queries that wait for them go on. g.changing is held, or nobody
// else has g.
func (g *Group) setServers(targets []target) {
	old := *g.servers.Load()
	servers := make([]*server, len(targets))
	for i, t := range targets {
		at := slices.IndexFunc(old, func(s *server) bool { return s.target == t })
		if at >= 0 {
			servers[i] = old[at]
		} else {
			servers[i] = newServer(g, t)
		}
	}
	g.servers.Store(&servers)
	for _, s := range old {
		if !slices.Contains(servers, s) {
			s.retire()
			g.metrics.forget(g.name, s.name)
		}
	}
}

// Forget drops the metrics of g, which is not in use any more, but for those that it has in common with the group of the same name that took its
// place; nil if there is none.
func (g *Group) Forget(other *Group) {
	for _, s := range *g.servers.Load() {
		if other == nil || !slices.ContainsFunc(*other.servers.Load(), func(o *server) bool { return o.name == s.name }) {
			g.metrics.forget(g.name, s.name)
		}
	}
	if other == nil {
		g.metrics.forgetGroup(g.name)
	}
}

// Stats is the state of one server.
type Stats struct {
	Server      netip.AddrPort
	Transport   Transport
	Up          bool
	Fails       int           // tries in a row without a healthy response
	RTT         time.Duration // smoothed round trip time, 0 while unknown
	InFlight    int           // queries that wait for it
	Connections int           // that are open, or being opened
	NoEDNS      bool          // is asked without EDNS
	NoCase      bool          // does not keep the case of the QNAME
	NoCookie    bool          // is asked without a cookie
	NoTCP       bool          // responds over UDP, and not over TCP when that is needed
}

// Stats returns the state of all servers, in the order of the configuration.
func (g *Group) Stats() []Stats {
	now := time.Now()
	var stats []Stats
	for _, s := range *g.servers.Load() {
		s.mu.Lock()
		connections := len(s.connections)
		s.mu.Unlock()
		stats = append(stats, Stats{
			Server: s.addr, Transport: s.transport, Up: !s.down.Load(), Fails: int(s.fails.Load()), RTT: time.Duration(s.rtt.Load()),
			InFlight: int(s.inFlight.Load()), Connections: connections, NoEDNS: quirk(&s.noEDNS, now), NoCase: quirk(&s.noCase, now), NoCookie: quirk(&s.noCookie, now), NoTCP: s.tcp.down.Load(),
		})
	}
	return stats
}

var _ message.Resolver = (*Group)(nil)
