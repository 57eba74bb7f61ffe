//go:build linux

package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weirdns/weir/host/datagram"
)

// The classes of queries that a load is made of.
const (
	hotClass       = iota // 1,000 names that are in the cache
	authorityClass        // 1,000 names of the zone that weir holds
	missClass             // names that nobody has asked for
	holeClass             // likewise, in a zone whose upstream does not answer
	classes
)

var classNames = [classes]string{"hot", "authority", "miss", "hole"}

// load is an open-loop load: it is offered at its rate whether or not responses come, as clients do who know nothing of each other. dnsperf waits
// for responses, so that it can't offer more than a server manages.
type load struct {
	port  int
	rate  float64      // queries a second
	parts [classes]int // percent
	time  time.Duration
	tag   string // in the names of misses, so that those of two loads differ
}

// outcome is what became of the queries of one class.
type outcome struct {
	Sent, Answered int64 // answered before the end
	Good           int64 // of those, NOERROR
	P50, P99       float64
}

// offered is what became of a load.
type offered struct {
	Seconds float64
	Class   [classes]outcome
}

func (o *offered) sent() (n int64) {
	for _, c := range o.Class {
		n += c.Sent
	}
	return n
}

func (o *offered) good() (n int64) {
	for _, c := range o.Class {
		n += c.Good
	}
	return n
}

// rate is n in a second.
func (o *offered) rate(n int64) float64 { return float64(n) / o.Seconds }

// offer runs a load in a process of its own.
func (l load) offer() (offered, perf, error) {
	parts := make([]string, classes)
	for i, part := range l.parts {
		parts[i] = strconv.Itoa(part)
	}
	cmd := command(generatorCPU, "/proc/self/exe", "load", "-port", strconv.Itoa(l.port), "-rate", fmt.Sprint(l.rate), "-time", l.time.String(), "-tag", l.tag,
		"-parts", strings.Join(parts, ","))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	if err := cmd.Run(); err != nil {
		return offered{}, perf{}, fmt.Errorf("load: %w", err)
	}
	var o offered
	if err := json.Unmarshal(out.Bytes(), &o); err != nil {
		return offered{}, perf{}, fmt.Errorf("load: %w", err)
	}
	p := perf{sent: o.sent(), completed: o.good(), cpu: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}
	if p.completed == 0 {
		return o, p, fmt.Errorf("load: no query was answered")
	}
	return o, p, nil
}

// runLoad is that process: bench load FLAG...
func runLoad(args []string) error {
	var l load
	flags := flag.NewFlagSet("load", flag.ContinueOnError)
	flags.IntVar(&l.port, "port", 0, "of the server")
	flags.Float64Var(&l.rate, "rate", 0, "queries a second")
	flags.DurationVar(&l.time, "time", time.Second, "how long")
	flags.StringVar(&l.tag, "tag", "", "a label for the names of misses")
	parts := flags.String("parts", "100,0,0,0", "percent of each class")
	if err := flags.Parse(args); err != nil {
		return err
	}
	for i, part := range strings.SplitN(*parts, ",", classes) {
		var err error
		if l.parts[i], err = strconv.Atoi(part); err != nil {
			return fmt.Errorf("load: parts: %w", err)
		}
	}
	s, err := newSender(&l)
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	o, err := s.run()
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	return json.NewEncoder(os.Stdout).Encode(o)
}

// sockets is how many a load is sent from. Each has 65,536 IDs, and one that comes again makes the query before it count as lost: at 600,000 queries
// a second that is after 1.7 s.
const sockets = 16

// sender sends a load and takes its responses, in one loop that never blocks.
type sender struct {
	*load
	random  *rand.Rand
	fds     [sockets]int
	out     [sockets]*datagram.Socket // to write to fds
	next    [sockets]uint16           // ID
	flights [sockets][1 << 16]flight
	batch   *batch
	misses  int
	outcome [classes]outcome
	latency [classes]histogram
}

// flight is a query without a response. At 0 there is none.
type flight struct {
	at    time.Duration // since the start, and one nanosecond
	class int8
}

func newSender(l *load) (*sender, error) {
	s := &sender{load: l, random: rand.New(rand.NewPCG(3, 4)), batch: newBatch(false)}
	for i := range s.fds {
		var err error
		if s.fds[i], err = udpSocket(0); err != nil {
			return nil, err
		}
		if err := unix.Connect(s.fds[i], &unix.SockaddrInet4{Port: l.port, Addr: loopback}); err != nil {
			return nil, err
		}
		if s.out[i], err = writer(s.fds[i]); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// writer makes what writes to a socket of it, so that queries pass through the system together, as responses do: otherwise the generator is slower than weir.
func writer(fd int) (*datagram.Socket, error) {
	fd, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	file := os.NewFile(uintptr(fd), "socket")
	defer file.Close()
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, err
	}
	return datagram.Of(conn), nil
}

func (s *sender) run() (*offered, error) {
	start := time.Now()
	var sent int64
	for turn := 0; ; turn++ {
		now := time.Since(start)
		if now >= s.time {
			break
		}
		n := due(s.rate, now, sent)
		if n > 0 {
			s.fill(turn%sockets, n, now)
			if err := s.send(turn%sockets, n); err != nil && !errors.Is(err, unix.ECONNREFUSED) {
				return nil, os.NewSyscallError("sendmmsg", err)
			}
			sent += int64(n) // what an error was for does not count as to be sent again
		}
		if s.receive(start) == 0 && n == 0 {
			time.Sleep(100 * time.Microsecond)
		}
	}
	o := &offered{Seconds: time.Since(start).Seconds(), Class: s.outcome}
	for i := range o.Class {
		o.Class[i].P50, o.Class[i].P99 = s.latency[i].quantile(0.5), s.latency[i].quantile(0.99)
	}
	return o, nil
}

// due returns how many queries are to be sent now, at most a batch, when some have been since the start. Whoever is late catches up.
func due(rate float64, since time.Duration, sent int64) int {
	return int(max(0, min(int64(rate*since.Seconds())-sent, batchSize)))
}

// fill makes n queries for a socket.
func (s *sender) fill(socket, n int, now time.Duration) {
	for i := range n {
		class := pick(&s.parts, s.random.IntN(100))
		id := s.next[socket]
		s.next[socket]++
		s.flights[socket][id] = flight{at: now + 1, class: int8(class)}
		s.outcome[class].Sent++
		s.batch.setSize(i, len(appendQuery(s.batch.octets[i][:0], id, s.name(class))))
	}
}

// send sends the first n datagrams of the batch, and returns one of the errors, if there are any.
func (s *sender) send(socket, n int) (err error) {
	lot := datagram.GetLot()
	defer lot.Put()
	write := func() {
		s.out[socket].Write(lot)
		for i := range lot.Len() {
			err = cmp.Or(err, lot.Err(i))
		}
		lot.Reset()
	}
	for i := range n {
		if lot.Full() {
			write()
		}
		lot.Add(s.batch.octets[i][:s.batch.vectors[i].Len])
	}
	write()
	return err
}

// pick returns the class for a number below 100.
func pick(parts *[classes]int, n int) int {
	for class, part := range parts {
		if n < part {
			return class
		}
		n -= part
	}
	return hotClass
}

func (s *sender) name(class int) string {
	n := strconv.Itoa(s.random.IntN(hotNames))
	switch class {
	case hotClass:
		return "h" + n + ".example.test"
	case authorityClass:
		return "host" + n + ".held.test"
	}
	s.misses++
	zone := ".miss.test"
	if class == holeClass {
		zone = ".hole.test"
	}
	return "x" + strconv.Itoa(s.misses) + "-" + s.tag + zone
}

// receive takes all responses that there are, and returns how many.
func (s *sender) receive(start time.Time) int {
	all := 0
	for socket, fd := range s.fds {
		for {
			n, err := s.batch.receive(fd, unix.MSG_DONTWAIT)
			if err != nil {
				break // none, or an ICMP error of a server that has gone
			}
			all += n
			now := time.Since(start)
			for i := range n {
				s.take(socket, s.batch.received(i), now)
			}
			if n < batchSize {
				break
			}
		}
	}
	return all
}

func (s *sender) take(socket int, m []byte, now time.Duration) {
	if len(m) < headerSize {
		return
	}
	f := &s.flights[socket][int(m[0])<<8|int(m[1])]
	if f.at == 0 {
		return // a response that came twice
	}
	o := &s.outcome[f.class]
	o.Answered++
	if rcode(m) == 0 {
		o.Good++
		s.latency[f.class].add(now - f.at)
	}
	f.at = 0
}

// histogram counts latencies in steps of 10 µs up to 2 s; the last one has all above.
type histogram struct {
	counts [200_001]int64
	n      int64
}

const histogramStep = 10 * time.Microsecond

func (h *histogram) add(d time.Duration) {
	h.counts[max(0, min(int(d/histogramStep), len(h.counts)-1))]++
	h.n++
}

// quantile returns the latency in µs that a part of the queries stays at or below, as the upper end of a step; 0 without any.
func (h *histogram) quantile(part float64) float64 {
	rest := int64(part * float64(h.n))
	for i, n := range h.counts {
		if rest -= n; rest < 0 {
			return float64(i+1) * float64(histogramStep/time.Microsecond)
		}
	}
	return 0
}
