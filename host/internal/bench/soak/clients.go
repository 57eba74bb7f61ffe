//go:build linux

package soak

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// transport is a way to ask.
type transport uint8

const (
	udp transport = iota
	tcp
	dot
	doh2
	doh3
	doq
	transports
)

var transportNames = [transports]string{"UDP", "TCP", "TLS", "HTTP/2", "HTTP/3", "QUIC"}

// parts are those of the load, in percent.
var parts = [transports]int{udp: 60, tcp: 12, dot: 10, doh2: 8, doh3: 3, doq: 7}

// asker asks, on a connection of its own or one that several share. It is safe for concurrent use if it says so.
type asker interface {
	// ask returns the response, within buf if it fits.
	ask(query, buf []byte) ([]byte, error)
}

// clients are those of all transports.
type clients struct {
	setting *setting
	oracle  *oracle
	workers [transports][]asker
	closers []io.Closer
	skipped atomic.Int64 // queries that nobody was free to ask
}

const (
	udpWorkers    = 256
	streamClients = 8 // connections of TCP, and of TLS
	streamWorkers = 8 // on each of them
	httpWorkers   = 32
	quicWorkers   = 16
)

func newClients(s *setting, o *oracle) (*clients, error) {
	c := &clients{setting: s, oracle: o}
	secret := func(protocol string) *tls.Config {
		return &tls.Config{RootCAs: s.authority.Pool(), ServerName: serverName, NextProtos: []string{protocol}}
	}
	for i := range udpWorkers {
		var local *net.UDPAddr
		if i == 0 {
			local = &net.UDPAddr{IP: net.IPv4(127, 255, 0, 1)} // in the scope of the chain strict
		}
		conn, err := net.DialUDP("udp", local, net.UDPAddrFromAddrPort(s.Plain))
		if err != nil {
			c.close()
			return nil, err
		}
		c.closers = append(c.closers, conn)
		c.workers[udp] = append(c.workers[udp], &udpAsker{conn})
	}
	for range streamClients {
		plain := &streamAsker{dial: func() (net.Conn, error) { return net.Dial("tcp", s.Plain.String()) }}
		encrypted := &streamAsker{dial: func() (net.Conn, error) { return tls.Dial("tcp", s.Encrypted.String(), secret("dot")) }}
		c.closers = append(c.closers, plain, encrypted)
		for range streamWorkers {
			c.workers[tcp] = append(c.workers[tcp], plain)
			c.workers[dot] = append(c.workers[dot], encrypted)
		}
	}
	h2 := &http.Transport{TLSClientConfig: secret("h2"), ForceAttemptHTTP2: true}
	h3 := &http3.Transport{TLSClientConfig: secret("h3")}
	c.closers = append(c.closers, closerFunc(func() error { h2.CloseIdleConnections(); return nil }), h3)
	for i := range httpWorkers {
		c.workers[doh2] = append(c.workers[doh2], &httpAsker{"https://" + s.HTTPS.String() + "/dns-query", &http.Client{Transport: h2, Timeout: patience}, i%2 == 0})
		c.workers[doh3] = append(c.workers[doh3], &httpAsker{"https://" + s.HTTPS.String() + "/dns-query", &http.Client{Transport: h3, Timeout: patience}, i%2 == 0})
	}
	overQUIC := &quicAsker{addr: s.Encrypted.String(), tls: secret("doq")}
	c.closers = append(c.closers, overQUIC)
	for range quicWorkers {
		c.workers[doq] = append(c.workers[doq], overQUIC)
	}
	return c, nil
}

type closerFunc func() error

// Close calls f.
func (f closerFunc) Close() error { return f() }

func (c *clients) close() {
	for _, closer := range c.closers {
		_ = closer.Close() // the server may have been first
	}
}

// offer asks at a rate until ctx ends, and returns when all answers are there or given up.
func (c *clients) offer(ctx context.Context, rate float64) {
	var all sync.WaitGroup
	var turns [transports]chan struct{}
	for over := range transports {
		turns[over] = make(chan struct{}, 100)
		for i, a := range c.workers[over] {
			all.Go(func() { c.work(over, i, a, turns[over]) })
		}
	}
	all.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		random := rand.New(rand.NewPCG(1, 1))
		begin, n := time.Now(), 0.0
		for ctx.Err() == nil {
			<-tick.C
			due := time.Since(begin).Seconds() * rate
			if due-n > rate { // after a stall there is no flood
				n = due
			}
			for ; n < due; n++ {
				select {
				case turns[pickTransport(random.IntN(100))] <- struct{}{}:
				default:
					c.skipped.Add(1)
				}
			}
		}
		for over := range turns {
			close(turns[over])
		}
	})
	all.Wait()
}

// pickTransport returns the transport for a number below 100.
func pickTransport(n int) transport {
	for over, part := range parts {
		if n < part {
			return transport(over)
		}
		n -= part
	}
	return udp
}

func (c *clients) work(over transport, number int, a asker, turns <-chan struct{}) {
	random := rand.New(rand.NewPCG(uint64(over), uint64(number)))
	buf := make([]byte, 4096)
	for range turns {
		class := pickClass(random.IntN(100))
		switch mine := over == udp && number == 0; {
		case mine:
			class = strict
		case class == strict:
			class = hot
		}
		q := c.oracle.question(over, class, random)
		response, err := a.ask(q.wire, buf)
		c.oracle.judge(q, response, err)
	}
}

// peak raises the load until it is not borne any more, and returns what was.
func (c *clients) peak(ctx context.Context, out io.Writer) (float64, error) {
	const step, raise = time.Second, 1.4
	best := 0.0
	for rate := 2000.0; rate < 1e6; rate *= raise {
		c.oracle.forget()
		stepCtx, cancel := context.WithTimeout(ctx, step)
		begin := time.Now()
		c.offer(stepCtx, rate)
		cancel()
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		if c.oracle.stalledSince(begin) {
			rate /= raise // that showed nothing
			continue
		}
		sent, right := c.oracle.totals()
		got := float64(right) / step.Seconds() // what came late are a few
		best = max(best, got)
		if got < 0.85*rate {
			fmt.Fprintf(out, "offered %.0f queries/s: %d asked, %d right answers, %.0f/s\n", rate, sent, right, got)
			break
		}
	}
	return best, nil
}

// udpAsker has a socket. One query at a time: it is not safe for concurrent use.
type udpAsker struct{ conn *net.UDPConn }

var errDeadline = errors.New("no response")

func (a *udpAsker) ask(query, buf []byte) ([]byte, error) {
	if err := a.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	if _, err := a.conn.Write(query); err != nil {
		return nil, err
	}
	for {
		n, err := a.conn.Read(buf)
		if err != nil {
			return nil, err
		}
		if n >= 2 && bytes.Equal(buf[:2], query[:2]) { // others are late answers to queries before
			return buf[:n], nil
		}
	}
}

// streamAsker has a connection with queries of several workers in it. When it breaks, all that wait lose theirs, and another one is opened.
type streamAsker struct {
	dial func() (net.Conn, error)

	mu      sync.Mutex // guards following
	conn    net.Conn
	next    uint16
	waiting map[uint16]chan []byte // closed when the connection broke
}

func (a *streamAsker) ask(query, buf []byte) ([]byte, error) {
	a.mu.Lock()
	if a.conn == nil {
		conn, err := a.dial()
		if err != nil {
			a.mu.Unlock()
			return nil, err
		}
		a.conn, a.waiting = conn, make(map[uint16]chan []byte)
		go a.read(conn)
	}
	a.next++
	id := a.next
	answer := make(chan []byte, 1)
	a.waiting[id] = answer
	conn := a.conn
	m := append(binary.BigEndian.AppendUint16(buf[:0], uint16(len(query))), query...)
	binary.BigEndian.PutUint16(m[2:], id)
	copy(query, m[2:4]) // that is its ID from now on
	_, err := conn.Write(m)
	a.mu.Unlock()
	if err != nil {
		return nil, err
	}
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case m, ok := <-answer:
		if !ok {
			return nil, errors.New("the connection was closed")
		}
		return m, nil
	case <-late.C:
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.waiting, id)
		return nil, errDeadline
	}
}

func (a *streamAsker) read(conn net.Conn) {
	for {
		var size [2]byte
		_, err := io.ReadFull(conn, size[:])
		m := make([]byte, binary.BigEndian.Uint16(size[:]))
		if err == nil {
			_, err = io.ReadFull(conn, m)
		}
		a.mu.Lock()
		if err != nil {
			for _, answer := range a.waiting {
				close(answer)
			}
			if a.conn == conn {
				a.conn, a.waiting = nil, nil
			}
			a.mu.Unlock()
			conn.Close()
			return
		}
		if len(m) >= 2 {
			id := binary.BigEndian.Uint16(m)
			if answer, ok := a.waiting[id]; ok {
				delete(a.waiting, id)
				answer <- m
			}
		}
		a.mu.Unlock()
	}
}

// Close closes the connection.
func (a *streamAsker) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.conn == nil {
		return nil
	}
	return a.conn.Close()
}

// httpAsker asks over HTTP/2 or HTTP/3, by GET or POST.
type httpAsker struct {
	url    string
	client *http.Client
	get    bool
}

func (a *httpAsker) ask(query, _ []byte) ([]byte, error) {
	var response *http.Response
	var err error
	if a.get {
		response, err = a.client.Get(a.url + "?dns=" + base64.RawURLEncoding.EncodeToString(query))
	} else {
		response, err = a.client.Post(a.url, "application/dns-message", bytes.NewReader(query))
	}
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %s", response.Status)
	}
	return io.ReadAll(io.LimitReader(response.Body, 65535))
}

// quicAsker asks over one connection, a stream for each query. It is safe for concurrent use.
type quicAsker struct {
	addr string
	tls  *tls.Config

	mu   sync.Mutex // guards following
	conn *quic.Conn
}

func (a *quicAsker) connection(ctx context.Context) (*quic.Conn, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.conn != nil && a.conn.Context().Err() == nil {
		return a.conn, nil
	}
	var err error
	a.conn, err = quic.DialAddr(ctx, a.addr, a.tls, nil)
	return a.conn, err
}

func (a *quicAsker) ask(query, buf []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := a.connection(ctx)
	if err != nil {
		return nil, err
	}
	s, err := conn.OpenStreamSync(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	query[0], query[1] = 0, 0 // RFC 9250 section 4.2.1
	if _, err := s.Write(append(binary.BigEndian.AppendUint16(buf[:0], uint16(len(query))), query...)); err != nil {
		return nil, err
	}
	if err := s.Close(); err != nil {
		return nil, err
	}
	all, err := io.ReadAll(s)
	if err != nil {
		return nil, err
	}
	if len(all) < 2 || int(binary.BigEndian.Uint16(all)) != len(all)-2 {
		return nil, fmt.Errorf("%d octets on the stream", len(all))
	}
	return all[2:], nil
}

// Close closes the connection.
func (a *quicAsker) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.conn == nil {
		return nil
	}
	return a.conn.CloseWithError(0, "")
}
