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
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/quic-go/quic-go"
	"golang.org/x/sync/errgroup"
)

// What asks over QUIC, which dnsperf doesn't speak: as many connections as dnsperf has sockets, and as many queries on their way.
const (
	quicConnections = 20
	quicStreams     = 100 / quicConnections // in flight on each connection, a query on each
	// quicPatience is how long a query may take before it counts as lost, as with dnsperf.
	quicPatience = 5 * time.Second
)

// streams asks a server of DNS over QUIC (RFC 9250) what is in a list, for some time. It waits for responses, as dnsperf does.
type streams struct {
	addr    string
	tls     *tls.Config
	queries [][]byte // behind their lengths
	time    time.Duration
}

// tally is what became of the queries.
type tally struct {
	Sent, Completed, Lost, Noerror int64
	Latency                        time.Duration // of all completed ones together
	Time                           time.Duration
}

// askStreams has a process of its own ask a server over QUIC.
func askStreams(port int, list string, seconds int) (perf, error) {
	cmd := command(generatorCPU, "/proc/self/exe", "streams", "-port", strconv.Itoa(port), "-list", list, "-time", fmt.Sprint(seconds, "s"))
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
	s := streams{tls: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"doq"}}} // dnsperf doesn't look at the certificate either
	flags := flag.NewFlagSet("streams", flag.ContinueOnError)
	port := flags.Int("port", 0, "of the server")
	list := flags.String("list", "", "names, as for dnsperf")
	flags.DurationVar(&s.time, "time", time.Second, "how long")
	if err := flags.Parse(args); err != nil {
		return err
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
	var tallies [quicConnections][quicStreams]tally
	all, ctx := errgroup.WithContext(ctx)
	for c := range tallies {
		all.Go(func() error {
			conn, err := quic.DialAddr(ctx, s.addr, s.tls, nil)
			if err != nil {
				return err
			}
			defer conn.CloseWithError(0, "") //nolint:errcheck // it has none
			var those errgroup.Group
			for i := range tallies[c] {
				first := (c*quicStreams + i) * len(s.queries) / (quicConnections * quicStreams)
				those.Go(func() error { return s.ask(conn, first, &tallies[c][i], func() bool { return time.Since(start) < s.time }) })
			}
			return those.Wait()
		})
	}
	if err := all.Wait(); err != nil {
		return tally{}, err
	}
	sum := tally{Time: time.Since(start)}
	for c := range tallies {
		for _, t := range tallies[c] {
			sum.Sent += t.Sent
			sum.Completed += t.Completed
			sum.Lost += t.Lost
			sum.Noerror += t.Noerror
			sum.Latency += t.Latency
		}
	}
	return sum, nil
}

// ask sends one query after the other as long as more says so, from the first of the list on.
func (s *streams) ask(conn *quic.Conn, first int, t *tally, more func() bool) error {
	buf := make([]byte, 2+datagramSize)
	for i := first; more(); i++ {
		begun := time.Now()
		t.Sent++
		code, err := exchange(conn, s.queries[i%len(s.queries)], buf, begun)
		if err != nil {
			if conn.Context().Err() != nil {
				return fmt.Errorf("%s closed a connection: %w", s.addr, err)
			}
			t.Lost++
			continue
		}
		t.Completed++
		t.Latency += time.Since(begun)
		if code == 0 {
			t.Noerror++
		}
	}
	return nil
}

var errNoResponse = errors.New("what is on the stream is no response to the query")

// exchange asks one query, and returns the RCODE of the response. buf is for that.
func exchange(conn *quic.Conn, query, buf []byte, begun time.Time) (code int, err error) {
	ctx, cancel := context.WithDeadline(context.Background(), begun.Add(quicPatience))
	defer cancel()
	stream, err := conn.OpenStreamSync(ctx)
	if err != nil {
		return 0, err
	}
	if err := stream.SetDeadline(begun.Add(quicPatience)); err != nil {
		return 0, err
	}
	if _, err := stream.Write(query); err != nil {
		return 0, err
	}
	if err := stream.Close(); err != nil {
		return 0, err
	}
	n, err := io.ReadFull(stream, buf)
	if !errors.Is(err, io.ErrUnexpectedEOF) { // the end of the stream is within buf, and behind something
		stream.CancelRead(0)
		return 0, errors.Join(err, errNoResponse)
	}
	return checkResponse(buf[:n], query)
}

// checkResponse returns the RCODE of a response behind its length, if it is one to the query.
func checkResponse(response, query []byte) (code int, err error) {
	if len(response) < len(query) || int(binary.BigEndian.Uint16(response)) != len(response)-2 {
		return 0, errNoResponse
	}
	response, query = response[2:], query[2:]
	if response[0] != 0 || response[1] != 0 || response[2]&0x80 == 0 || !bytes.Equal(response[headerSize:len(query)], query[headerSize:]) {
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
