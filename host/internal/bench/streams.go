//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/quic-go/quic-go/http3"
	"golang.org/x/sync/errgroup"
)

// As many connections as dnsperf has sockets, and as many queries on their way.
const (
	streamConnections = 20
	streamsInFlight   = 100 / streamConnections // on each connection, a query on each
	// patience is how long a query may take before it counts as lost, as with dnsperf.
	patience = 5 * time.Second
)

// streams asks a server over QUIC (RFC 9250), or HTTP/2 or HTTP/3 (RFC 8484), what is in a list, for some time, a query on each stream. It waits for responses, as
// dnsperf does. That speaks neither QUIC nor HTTP/3, and over HTTP/2 it is no measure: its thread that sends and the one that receives are in each other's way, so that
// responses lie about for 100 ms, or for ever.
type streams struct {
	addr    string
	tls     *tls.Config
	queries [][]byte // behind their lengths
	time    time.Duration
	// connect asks on one connection, from a query of the list on, for as long as more says so.
	connect func(ctx context.Context, first int, more func() bool) (tally, error)
}

// tally is what became of the queries.
type tally struct {
	Sent, Completed, Lost, Noerror int64
	Latency                        time.Duration // of all completed ones together
	Time                           time.Duration
}

func (t *tally) add(o tally) {
	t.Sent += o.Sent
	t.Completed += o.Completed
	t.Lost += o.Lost
	t.Noerror += o.Noerror
	t.Latency += o.Latency
}

// completed counts a query that has been sent.
func (t *tally) completed(rcode int, took time.Duration) {
	t.Completed++
	t.Latency += took
	if rcode == 0 {
		t.Noerror++
	}
}

// askStreams has a process of its own ask a server over QUIC, HTTP/2 or HTTP/3, whichever workload that is.
func askStreams(over string, port int, list string, seconds int) (perf, error) {
	cmd := command(generatorCPU, "/proc/self/exe", "streams", "-over", over, "-port", strconv.Itoa(port), "-list", list, "-time", fmt.Sprint(seconds, "s"))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	if err := cmd.Run(); err != nil {
		return perf{}, fmt.Errorf("streams: %w", err)
	}
	var t tally
	if err := json.Unmarshal(out.Bytes(), &t); err != nil {
		return perf{}, fmt.Errorf("streams: %w", err)
	}
	p := t.perf()
	p.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	if p.completed == 0 {
		return p, errors.New("streams: no query was answered")
	}
	return p, nil
}

// runStreams is that process: bench streams FLAG...
func runStreams(args []string) error {
	s := streams{tls: &tls.Config{InsecureSkipVerify: true}} // dnsperf doesn't look at the certificate either
	flags := flag.NewFlagSet("streams", flag.ContinueOnError)
	over := flags.String("over", overQUIC, overQUIC+", "+overHTTPS+" or "+overHTTP3)
	port := flags.Int("port", 0, "of the server")
	list := flags.String("list", "", "names, as for dnsperf")
	flags.DurationVar(&s.time, "time", time.Second, "how long")
	if err := flags.Parse(args); err != nil {
		return err
	}
	switch *over {
	case overQUIC:
		s.connect, s.tls.NextProtos = s.connectQUIC, []string{"doq"}
	case overHTTPS:
		s.connect, s.tls.NextProtos = s.connectHTTPS, []string{"h2"}
	case overHTTP3:
		s.connect, s.tls.NextProtos = s.connectHTTP3, []string{http3.NextProtoH3}
	default:
		return fmt.Errorf("streams: -over: %q is none of %s, %s and %s", *over, overQUIC, overHTTPS, overHTTP3)
	}
	s.addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(*port))
	var err error
	if s.queries, err = readQueries(*list); err != nil {
		return fmt.Errorf("streams: %w", err)
	}
	t, err := s.run(context.Background())
	if err != nil {
		return fmt.Errorf("streams: %w", err)
	}
	return json.NewEncoder(os.Stdout).Encode(t)
}

// readQueries returns queries for the A records of the names of a list, each behind its length. Their ID is 0 (RFC 9250 section 4.2.1).
func readQueries(list string) ([][]byte, error) {
	f, err := os.Open(list)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var all [][]byte
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		name, _, _ := strings.Cut(lines.Text(), " ")
		query := appendQuery([]byte{0, 0}, 0, name)
		binary.BigEndian.PutUint16(query, uint16(len(query)-2))
		all = append(all, query)
	}
	if len(all) == 0 && lines.Err() == nil {
		return nil, fmt.Errorf("%s: there are no names", list)
	}
	return all, lines.Err()
}

// run opens the connections and asks. A connection that ends is an error: servers are to keep those that are used.
func (s *streams) run(ctx context.Context) (tally, error) {
	start := time.Now()
	more := func() bool { return time.Since(start) < s.time }
	var tallies [streamConnections]tally
	all, ctx := errgroup.WithContext(ctx)
	for c := range tallies {
		all.Go(func() (err error) {
			tallies[c], err = s.connect(ctx, c*len(s.queries)/streamConnections, more)
			return err
		})
	}
	if err := all.Wait(); err != nil {
		return tally{}, err
	}
	sum := tally{Time: time.Since(start)}
	for _, t := range tallies {
		sum.add(t)
	}
	return sum, nil
}

var errNoResponse = errors.New("what is on the stream is no response to the query")

// checkResponse returns the RCODE of a response, if it is one to the query.
func checkResponse(response, query []byte) (code int, err error) {
	if len(response) < len(query) || response[0] != 0 || response[1] != 0 || response[2]&0x80 == 0 || !bytes.Equal(response[headerSize:len(query)], query[headerSize:]) {
		return 0, errNoResponse
	}
	return rcode(response), nil
}

// perf is the same in dnsperf's terms.
func (t *tally) perf() perf {
	return perf{
		sent: t.Sent, completed: t.Completed, lost: t.Lost, noerror: t.Noerror, latency: t.Latency / time.Duration(max(t.Completed, 1)),
		qps: float64(t.Completed) / t.Time.Seconds(),
	}
}
