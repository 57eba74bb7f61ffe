//go:build linux

package attack

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// Probed is what new clients noticed on one transport.
type Probed struct {
	Asked, Answered int
	Errors          map[string]int // what those without an answer heard
	P50, P99, Max   time.Duration  // of those with one, from the beginning of the connection to the response
}

// Transports are those on which new clients come, in the order of reports.
var Transports = []string{"UDP", "TCP", "TLS", "HTTP/2", "HTTP/3", "QUIC"}

// probeStep is the time from one new client of a transport to the next.
const probeStep = 100 * time.Millisecond

// Probe is the process of the new clients: FLAG... It writes what they noticed in JSON: a Probed for each of Transports.
func Probe(args []string, out io.Writer) error {
	var t Target
	flags := flag.NewFlagSet("probe", flag.ContinueOnError)
	t.flags(flags)
	d := flags.Duration("time", time.Second, "how long")
	if err := flags.Parse(args); err != nil {
		return err
	}
	clients := map[string]func(context.Context, *dns.Msg) (*dns.Msg, error){
		"UDP": t.plainly("udp", t.UDP, nil), "TCP": t.plainly("tcp", t.UDP, nil), "TLS": t.plainly("tcp-tls", t.TLS, newTLS("dot")),
		"HTTP/2": t.overHTTP2, "HTTP/3": t.overHTTP3, "QUIC": t.overQUIC,
	}
	probed := map[string]Probed{}
	var mu sync.Mutex
	var all sync.WaitGroup
	for i, name := range Transports {
		all.Go(func() {
			pause(context.Background(), time.Now().Add(time.Duration(i)*probeStep/time.Duration(len(Transports)))) // not all at a time
			p := probe(clients[name], *d)
			mu.Lock()
			defer mu.Unlock()
			probed[name] = p
		})
	}
	all.Wait()
	return json.NewEncoder(out).Encode(probed)
}

// probe asks at a steady rate, as clients do who know nothing of each other.
func probe(ask func(context.Context, *dns.Msg) (*dns.Msg, error), d time.Duration) Probed {
	p := Probed{Errors: map[string]int{}}
	var mu sync.Mutex // guards p and took
	var took []time.Duration
	var all sync.WaitGroup
	tick := time.NewTicker(probeStep)
	defer tick.Stop()
	for end := time.Now().Add(d); time.Now().Before(end); <-tick.C {
		n := p.Asked
		p.Asked++
		all.Go(func() {
			begun := time.Now()
			err := newClient(ask, n, begun)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				p.Errors[err.Error()]++
				return
			}
			took = append(took, time.Since(begun))
		})
	}
	all.Wait()
	p.Answered = len(took)
	if len(took) > 0 {
		slices.Sort(took)
		p.P50, p.P99, p.Max = took[len(took)/2], took[(99*len(took)+99)/100-1], took[len(took)-1]
	}
	return p
}

var errOther = errors.New("a response that does not answer the query")

// newClient asks for one of the names in the cache.
func newClient(ask func(context.Context, *dns.Msg) (*dns.Msg, error), n int, begun time.Time) error {
	ctx, cancel := context.WithDeadline(context.Background(), begun.Add(patience))
	defer cancel()
	query := new(dns.Msg).SetQuestion(fmt.Sprintf("h%d.example.test.", n%hotNames), dns.TypeA)
	query.Id = 0
	response, err := ask(ctx, query)
	var address *net.OpError
	switch {
	case errors.As(err, &address): // without the ports, that differ for each
		return fmt.Errorf("%s: %w", address.Op, address.Err)
	case err != nil:
		return err
	case response.Rcode != dns.RcodeSuccess || len(response.Answer) != 1 || len(response.Question) != 1 || response.Question[0] != query.Question[0]:
		return errOther
	}
	return nil
}

// newTLS is for a client that has not been there before.
func newTLS(alpn string) *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, NextProtos: []string{alpn}}
}

func (t *Target) plainly(network string, port int, config *tls.Config) func(context.Context, *dns.Msg) (*dns.Msg, error) {
	return func(ctx context.Context, query *dns.Msg) (*dns.Msg, error) {
		client := dns.Client{Net: network, TLSConfig: config, Timeout: patience}
		response, _, err := client.ExchangeContext(ctx, query, local(port))
		return response, err
	}
}

func (t *Target) overHTTP2(ctx context.Context, query *dns.Msg) (*dns.Msg, error) {
	transport := &http.Transport{TLSClientConfig: newTLS("h2"), ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	return t.overHTTP(ctx, transport, query)
}

func (t *Target) overHTTP3(ctx context.Context, query *dns.Msg) (*dns.Msg, error) {
	transport := &http3.Transport{TLSClientConfig: newTLS(http3.NextProtoH3)}
	defer transport.Close()
	return t.overHTTP(ctx, transport, query)
}

func (t *Target) overHTTP(ctx context.Context, transport http.RoundTripper, query *dns.Msg) (*dns.Msg, error) {
	content, err := query.Pack()
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+local(t.HTTPS)+"/dns-query", bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/dns-message")
	r, err := transport.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return nil, errors.New(r.Status)
	}
	if content, err = io.ReadAll(io.LimitReader(r.Body, dns.MaxMsgSize)); err != nil {
		return nil, err
	}
	response := new(dns.Msg)
	return response, response.Unpack(content)
}

func (t *Target) overQUIC(ctx context.Context, query *dns.Msg) (*dns.Msg, error) {
	conn, err := quic.DialAddr(ctx, local(t.QUIC), newTLS("doq"), nil)
	if err != nil {
		return nil, err
	}
	defer conn.CloseWithError(0, "") //nolint:errcheck // it has none
	s, err := conn.OpenStreamSync(ctx)
	if err != nil {
		return nil, err
	}
	content, err := query.Pack()
	if err != nil {
		return nil, err
	}
	if _, err := s.Write(append([]byte{byte(len(content) >> 8), byte(len(content))}, content...)); err != nil {
		return nil, err
	}
	s.Close() //nolint:errcheck // the read below tells
	deadline, _ := ctx.Deadline()
	s.SetReadDeadline(deadline) //nolint:errcheck // as above
	if content, err = io.ReadAll(io.LimitReader(s, 2+dns.MaxMsgSize)); err != nil {
		return nil, err
	}
	if len(content) < 2 {
		return nil, errOther
	}
	response := new(dns.Msg)
	return response, response.Unpack(content[2:])
}
