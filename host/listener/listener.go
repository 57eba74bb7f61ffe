package listener

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/weirdns/weir/host/chain"
	"github.com/weirdns/weir/host/cookie"
	"github.com/weirdns/weir/host/inherit"
	"github.com/weirdns/weir/host/message"
	"github.com/weirdns/weir/host/querylog"
	"github.com/weirdns/weir/host/rescue"
	"github.com/weirdns/weir/host/share"
)

const (
	// defaultBudget answers before glibc's timeout of 2 s on cloud images, which would make it ask again.
	defaultBudget = 1800 * time.Millisecond
	// defaultGrace is how long what is in flight may take when a listener ends: as long as any query may.
	defaultGrace = 2 * time.Second
	// messageTimeout is how long one message over TCP may take from its first octet to its last.
	messageTimeout = 3 * time.Second
	// writeTimeout is how long a client may refuse to take its responses.
	writeTimeout = 3 * time.Second
	// lastRead is how long sockets are still read when a listener ends, for what has arrived and was not read yet.
	lastRead = 50 * time.Millisecond
)

// Env is what a listener needs of the process around it. The zero value is fit for tests.
type Env struct {
	Log     *slog.Logger     // nil: nothing is logged
	Guard   *rescue.Guard    // for panics of what goes on as long as the listener; nil: one that only logs
	Metrics *Metrics         // nil: metrics of its own
	Now     func() time.Time // nil: time.Now
	Budget  time.Duration    // from a query to its deadline; 0: 1.8 s
	Grace   time.Duration    // for what is in flight when Serve's context ends; 0: 2 s
	Queries *querylog.Log    // gets every query; nil: none does
	Cookies *cookie.Jar      // for listeners without a secret of their own, and run by somebody else; nil: each has one
	// Share lets the sockets be bound while another listener of this process has the same address, which is how a listener with a changed
	// configuration takes over (Linux only). Without it a second process at the same address is an error instead of a share
	// of the queries.
	Share bool
	// Before is the listener whose place this one takes, nil if there is none. A Unix-domain socket with the same path is taken from it.
	Before *Listener
	// Inherited has sockets that are bound already. Those at the address of the listener are taken from it, instead of binding others. May be nil.
	Inherited *inherit.Sockets
}

// Listener has the sockets of one [[listener]] of the configuration.
//
//  1. New checks the configuration.
//  2. Listen binds the sockets. What arrives from now on waits in them.
//  3. Serve answers, until its context ends and everything in flight is answered, and closes the sockets.
//
// A Listener that is not to be served is closed by Close.
type Listener struct {
	config  Config
	env     Env
	sockets []*socket
	tcp     inherit.Stream
	file    *socketFile  // of a Unix-domain socket, else nil
	udpIn   *entrance    // nil without UDP
	tcpIn   *entrance    // nil without TCP
	tlsIn   *entrance    // nil without TLS
	httpsIn *entrance    // nil without HTTPS
	quicIn  *entrance    // nil without QUIC
	packets *net.UDPConn // of QUIC, which HTTP/3 is over, too
	keeper  *keeper      // nil without what is encrypted
	turns   turns
	addr    netip.AddrPort
	jobs    jobs
	clients registry
	leaving atomic.Bool // to another process, which has the same sockets
	jar     *cookie.Jar // of this listener alone; nil: there is none, or it is that of Env
	proxies *Scopes     // who has to say in whose name it sends; nil: nobody

	messageTimeout, writeTimeout, handshakeTimeout time.Duration     // for tests
	certificateTick                                <-chan time.Time  // for tests; nil: every second
	accepting                                      func(loop string) // for tests, which have it panic; may be nil
	datagrams                                      func(*socket) (datagrams, error)
}

// New returns a listener for config, defaults filled in. index is its place in the configuration, which filters see. Nothing is opened.
func New(config Config, index uint16, handler chain.Handler, env Env) (*Listener, error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("listener %s: %w", config.Address, err)
	}
	config = config.WithDefaults()
	orDefault(&env.Log, slog.New(slog.DiscardHandler))
	orDefault(&env.Budget, defaultBudget)
	orDefault(&env.Grace, defaultGrace)
	if env.Guard == nil {
		env.Guard = &rescue.Guard{Log: env.Log}
	}
	if env.Metrics == nil {
		env.Metrics = NewMetrics(nil)
	}
	injected := env.Now != nil
	if !injected {
		env.Now = time.Now
	}
	l := &Listener{
		config: config, env: env, messageTimeout: messageTimeout, writeTimeout: writeTimeout, handshakeTimeout: handshakeTimeout, datagrams: newBatch, turns: newTurns(),
	}
	entranceOf := func(t message.Transport) *entrance {
		if !slices.Contains(config.Protocols, t.String()) {
			return nil
		}
		starter, _ := handler.(chain.Starter)
		e := &entrance{
			transport: t, index: index, handler: handler, starter: starter, budget: env.Budget, now: env.Now, injected: injected, log: env.Log.With("listener", config.Address),
			counters: env.Metrics.of(config.Address, t), queries: env.Queries, optional: optional{
				jar: env.Cookies, require: config.Cookies == CookiesRequire && t == message.UDP, nsid: []byte(config.NSID),
			}, maxUDP: config.MaxUDPSize, jobs: &l.jobs, waiting: quota{max: int64(config.MaxInFlight), shares: share.New(), none: make(chan struct{}, 1)},
		}
		if t == message.UDP {
			e.limiter = config.newLimiter(env.Now())
		}
		e.idle.Store(int64(config.TCPIdleTimeout))
		return e
	}
	l.udpIn, l.tcpIn, l.tlsIn = entranceOf(message.UDP), entranceOf(message.TCP), entranceOf(message.TLS)
	l.httpsIn, l.quicIn = entranceOf(message.HTTPS), entranceOf(message.QUIC)
	if config.Encrypted() {
		l.keeper = &keeper{config: config, log: env.Log.With("listener", config.Address), expires: env.Metrics.expiry(config.Address), now: env.Now}
	}
	if len(config.ProxyProtocol) > 0 {
		l.proxies = config.proxies()
	}
	switch {
	case config.Cookies == CookiesOff:
		l.use(nil)
	case env.Cookies == nil:
		l.jar = cookie.Generate()
		l.use(l.jar)
	}
	l.clients = registry{max: config.TCPMaxClients, perClient: config.TCPMaxPerClient}
	return l, nil
}

// use has cookies made and checked with the secrets in a jar; nil: they are ignored.
func (l *Listener) use(jar *cookie.Jar) {
	for _, e := range []*entrance{l.udpIn, l.tcpIn, l.tlsIn, l.httpsIn, l.quicIn} {
		if e != nil {
			e.optional.jar = jar
		}
	}
}

// Listen binds the sockets, so that a port in use or a missing privilege shows before anything is served. With port 0 the system chooses a
// port, the same for UDP and TCP.
func (l *Listener) Listen(ctx context.Context) error {
	var addr netip.AddrPort
	if !l.config.isUnix() {
		var err error
		if addr, err = l.config.addrPort(); err != nil {
			return err
		}
	}
	if l.keeper != nil {
		if err := l.keeper.read(); err != nil {
			return fmt.Errorf("listener %s: %w", l.config.Address, err)
		}
	}
	if l.config.CookieSecret != "" {
		jar, err := cookie.Open(l.config.CookieSecret)
		if err != nil {
			return fmt.Errorf("listener %s: cookie_secret: %w", l.config.Address, err)
		}
		l.jar = jar
		l.use(jar)
	}
	// With port 0 the port that one protocol got may be taken in the other.
	for try := 0; ; try++ {
		err := l.bind(ctx, addr)
		if err == nil {
			l.addr = l.localAddr()
			return nil
		}
		l.Close() //nolint:errcheck // the error above tells why
		if addr.Port() != 0 || try == 20 || !errors.Is(err, syscall.EADDRINUSE) {
			return fmt.Errorf("listener %s: %w", l.config.Address, err)
		}
	}
}

func (l *Listener) bind(ctx context.Context, addr netip.AddrPort) error {
	if l.config.isUnix() {
		return l.bindUnix()
	}
	host := addr.Addr().String()
	family := "6"
	switch {
	case l.config.Address[0] == ':':
		host, family = "", "" // both families, or the one that there is
	case addr.Addr().Is4():
		family = "4"
	}
	port := addr.Port()
	at := func() string { return net.JoinHostPort(host, fmt.Sprint(port)) }
	if l.tcpIn != nil || l.tlsIn != nil || l.httpsIn != nil {
		if l.tcp = l.env.Inherited.Stream("tcp"+family, at()); l.tcp == nil {
			config := net.ListenConfig{Control: controlTCP(l.env.Share), KeepAlive: -1} // idle connections are closed anyway
			ln, err := config.Listen(ctx, "tcp"+family, at())
			if err != nil {
				return err
			}
			l.tcp = ln.(*net.TCPListener)
		}
		if err := letShare(l.tcp); err != nil {
			return err
		}
		port = uint16(l.tcp.Addr().(*net.TCPAddr).Port)
	}
	if l.quicIn != nil || l.httpsIn != nil {
		if conns := l.env.Inherited.Packets("udp"+family, at()); len(conns) > 0 {
			l.packets = conns[0]
			for _, c := range conns[1:] { // they were for plain DNS: one socket has all of QUIC
				c.Close()
			}
		} else {
			config := net.ListenConfig{Control: controlUDP(l.env.Share)}
			pc, err := config.ListenPacket(ctx, "udp"+family, at())
			if err != nil {
				return err
			}
			l.packets = pc.(*net.UDPConn)
		}
		if err := letShareUDP(l.packets); err != nil {
			return err
		}
	}
	if l.udpIn == nil {
		return nil
	}
	// What was inherited is served whatever the number is: the kernel goes on to spread queries over all of them.
	for _, conn := range l.env.Inherited.Packets("udp"+family, at()) {
		s, err := newSocket(conn)
		if err != nil {
			return err
		}
		l.add(s)
	}
	for i := len(l.sockets); i < udpSockets(); i++ {
		s, err := bindUDP(ctx, "udp"+family, at(), l.env.Share || i > 0)
		if err != nil && i > 0 {
			break // fewer sockets serve as well
		}
		if err != nil {
			return err
		}
		l.add(s)
		port = s.port()
	}
	return nil
}

// add has l serve a UDP socket.
func (l *Listener) add(s *socket) {
	if l.config.UDPGSO == UDPGSOOff {
		s.out.NoTrains()
	}
	l.sockets = append(l.sockets, s)
}

// udpSockets is how many sockets share a UDP address: one for each CPU, so that they do not wait for each other in the kernel.
func udpSockets() int {
	if !canShare {
		return 1
	}
	return min(runtime.GOMAXPROCS(0), 16)
}

// Addr is the address that Listen bound, with the port of all sockets. It is the zero AddrPort before, and for a Unix-domain socket.
func (l *Listener) Addr() netip.AddrPort { return l.addr }

// At is Addr for the log, or the path of a Unix-domain socket behind "unix:".
func (l *Listener) At() string {
	if l.config.isUnix() {
		return l.config.Address
	}
	return l.addr.String()
}

func (l *Listener) localAddr() netip.AddrPort {
	if l.config.isUnix() {
		return netip.AddrPort{}
	}
	if l.tcp != nil {
		return l.tcp.Addr().(*net.TCPAddr).AddrPort()
	}
	if l.packets != nil {
		return l.packets.LocalAddr().(*net.UDPAddr).AddrPort()
	}
	return l.sockets[0].conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// Close closes the sockets of a listener that is not being served.
func (l *Listener) Close() error {
	var errs []error
	for _, s := range l.sockets {
		errs = append(errs, s.close())
	}
	if l.tcp != nil {
		errs = append(errs, l.tcp.Close())
	}
	if l.packets != nil {
		errs = append(errs, l.packets.Close())
	}
	if l.file != nil {
		l.file.release()
	}
	l.sockets, l.tcp, l.file, l.packets = nil, nil, nil, nil
	return errors.Join(errs...)
}

// Serve answers queries until ctx is done. Then it stops reading, answers what is in flight within the grace time, closes the sockets, and
// returns when its last goroutine has ended. Listen has been called.
func (l *Listener) Serve(ctx context.Context) error {
	if len(l.sockets) == 0 && l.tcp == nil && l.packets == nil {
		return fmt.Errorf("listener %s: is not bound", l.config.Address)
	}
	// Queries in flight outlive ctx by the grace time.
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	for _, e := range []*entrance{l.udpIn, l.tcpIn, l.tlsIn, l.httpsIn, l.quicIn} {
		if e != nil {
			l.env.Metrics.serves(label{l.config.Address, e.transport.String()}, &e.waiting, true)
			defer l.env.Metrics.serves(label{l.config.Address, e.transport.String()}, &e.waiting, false)
		}
	}
	var all sync.WaitGroup
	for i, s := range l.sockets {
		s.shard = uint8(i % chain.Shards)
		all.Go(func() { l.serveUDP(ctx, work, s) })
	}
	answer := func(c *connection) { c.serve(work) }
	switch {
	case l.tcpIn != nil:
		all.Go(func() { l.serveStreams(ctx, &all, l.tcpIn, nil, answer) })
	case l.tlsIn != nil:
		config := l.keeper.server(l.turns.take, alpnTLS)
		all.Go(func() { l.serveStreams(ctx, &all, l.tlsIn, config, answer) })
	case l.httpsIn != nil:
		all.Go(func() { l.serveHTTPS(ctx, work) })
	}
	if l.quicIn != nil {
		all.Go(func() { l.serveQUIC(ctx, work) })
	}
	if l.keeper != nil {
		all.Go(func() { l.env.Guard.Keep(ctx, l.followCertificate) })
	}
	if l.jar != nil {
		all.Go(func() {
			l.env.Guard.Keep(ctx, func(ctx context.Context) { l.jar.Run(ctx, nil, l.env.Log.With("listener", l.config.Address)) })
		})
	}
	<-ctx.Done()
	for _, e := range []*entrance{l.tcpIn, l.tlsIn, l.httpsIn} {
		if e != nil {
			e.idle.Store(0) // clients had better not count on this connection any more
		}
	}
	now := time.Now()
	end, lastQuery, grace := now.Add(lastRead), now.Add(lastRead), l.env.Grace
	if l.leaving.Load() {
		lastQuery, grace = now.Add(l.env.Grace), 2*l.env.Grace
	}
	for _, s := range l.sockets {
		s.conn.SetReadDeadline(end) //nolint:errcheck // then it is closed already
	}
	if l.tcp != nil {
		l.tcp.SetDeadline(end) //nolint:errcheck // as above
	}
	l.clients.drain(lastQuery)
	late := time.AfterFunc(grace, func() {
		cancel()
		l.clients.abort()
	})
	all.Wait()
	if l.udpIn != nil {
		l.udpIn.waiting.wait() // for those without a goroutine
	}
	late.Stop()
	return l.Close()
}

// HandOver says, before the context of Serve ends, that another process has the same sockets and serves. Then there is no hurry: what is in the sockets is read by
// either process, and connections may ask for the grace time more, after which queries in flight have that time once again. kept are the files of
// Unix-domain sockets that the other process sees to.
func (l *Listener) HandOver(kept []string) {
	l.leaving.Store(true)
	if l.file != nil && slices.Contains(kept, l.file.path) {
		l.OwnFile(false)
	}
}

// Sockets are what Listen bound, and Serve has not closed yet.
func (l *Listener) Sockets() (all []syscall.Conn) {
	for _, s := range l.sockets {
		all = append(all, s.conn)
	}
	if l.tcp != nil {
		all = append(all, l.tcp)
	}
	if l.packets != nil {
		all = append(all, l.packets)
	}
	return all
}

// File is that of a Unix-domain socket which goes with it, empty if there is none.
func (l *Listener) File() string {
	if l.file == nil {
		return ""
	}
	return l.file.path
}

func (l *Listener) followCertificate(ctx context.Context) {
	tick := l.certificateTick
	if tick == nil {
		ticker := time.NewTicker(certificateInterval)
		defer ticker.Stop()
		tick = ticker.C
	}
	l.keeper.follow(ctx, tick)
}

// willAccept is called by each loop that takes connections, before it waits for the next one.
func (l *Listener) willAccept(loop string) {
	if l.accepting != nil {
		l.accepting(loop)
	}
}

// pause waits a moment after an error of the system that may pass, such as too many open files.
func pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(10 * time.Millisecond):
	}
}
