package host

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weirdns/weir/host/internal/testcert"
	"github.com/weirdns/weir/host/message"
	mt "github.com/weirdns/weir/host/message/messagetest"
)

// played is a server that answers with the octets that a test gives for a query, over UDP and TCP, none for no answer. What is too large for UDP is truncated.
type played func(query []byte) []byte

// startPlayed starts a server, whose queries are kept, and returns its address.
func (e *encrypted) startPlayed(respond played) string {
	e.t.Helper()
	var pc net.PacketConn
	var l net.Listener
	for chance := 0; l == nil; chance++ { // the port that is free on UDP may be taken on TCP
		var err error
		if pc, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
			e.t.Fatal(err)
		}
		if l, err = net.Listen("tcp", pc.LocalAddr().String()); err != nil && chance == 10 {
			e.t.Fatal(err)
		} else if err != nil {
			pc.Close()
		}
	}
	e.t.Cleanup(func() { pc.Close() })
	e.t.Cleanup(func() { l.Close() })
	keep := func(query []byte) []byte {
		e.mu.Lock()
		e.asked = append(e.asked, query)
		e.mu.Unlock()
		return respond(bytes.Clone(query))
	}
	go func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			wire := keep(bytes.Clone(buf[:n]))
			if len(wire) > message.OwnSize {
				wire = response(buf[:n], message.FlagTC, 0, 0, 0)
			}
			if wire != nil {
				pc.WriteTo(wire, from)
			}
		}
	}()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go playStream(c, keep)
		}
	}()
	return pc.LocalAddr().String()
}

// playStream answers on a connection until that ends.
func playStream(c net.Conn, respond played) {
	defer c.Close()
	for {
		var size [2]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		query := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(c, query); err != nil {
			return
		}
		if wire := respond(query); wire != nil {
			if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(wire))), wire...)); err != nil {
				return
			}
		}
	}
}

// wireText is a weir with every transport and no filters, before UP.
const wireText = everyTransport + `[chain.main]
filters = []
upstream = "up"
[upstream.up]
servers = ["UP"]
`

// startWire runs wireText, before a server that is played octet by octet. In the text, of each pair of changes the first becomes the second; after "file"
// and a name comes what a file beside it has.
func startWire(t *testing.T, respond played, changes ...string) (*encrypted, []wireClient) {
	t.Helper()
	dir := t.TempDir()
	e := &encrypted{authority: testcert.New(t)}
	e.authority.Write(dir, "dns.example")
	e.reloading = &reloading{t: t, path: filepath.Join(dir, "weir.toml"), log: new(lockedBuffer)}
	e.write("ca.pem", string(e.authority.PEM()))
	e.up = e.startPlayed(respond)
	text := wireText
	for pair := range slices.Chunk(changes, 2) {
		if name, ok := strings.CutPrefix(pair[0], "file "); ok {
			e.write(name, pair[1])
			continue
		}
		if !strings.Contains(text, pair[0]) {
			t.Fatalf("no %q in the configuration", pair[0])
		}
		text = strings.Replace(text, pair[0], pair[1], 1)
	}
	e.write("weir.toml", strings.ReplaceAll(text, "UP", e.up))
	e.Server = serve(t, e.path)
	<-e.serving
	var clients []wireClient
	for _, c := range e.clients(t) {
		clients = append(clients, wireClient{c, t})
	}
	return e, clients
}

// wireClient is a client that deals in octets.
type wireClient struct {
	client
	t *testing.T
}

// id is the ID that queries have: over QUIC, and by custom over HTTPS, it is 0.
func (c wireClient) id() uint16 {
	if c.name == "quic" || strings.HasPrefix(c.name, "http") {
		return 0
	}
	return 0xBEEF
}

// exchange sends a query, with the ID of the transport, and returns the response.
func (c wireClient) exchange(query []byte) wireMessage {
	c.t.Helper()
	query = bytes.Clone(query)
	binary.BigEndian.PutUint16(query, c.id())
	got, err := c.ask(query)
	if err != nil || len(got) < 12 {
		c.t.Fatalf("%s: query %x: got %x, error %v", c.name, query, got, err)
	}
	if binary.BigEndian.Uint16(got) != c.id() || got[2]&0x80 == 0 {
		c.t.Errorf("%s: query %x: got %x, which is no response to it", c.name, query, got)
	}
	return got
}

// fetched is how many queries the cache has sent to the upstream so far. The upstream may see more messages, for after a while without a response weir sends
// another one.
func (e *encrypted) fetched() (n int) {
	e.t.Helper()
	return e.counter("weir_cache_misses_total") - e.counter("weir_cache_joined_total")
}

// askedFor takes what the upstream was asked, and returns the queries for a name.
func (e *encrypted) askedFor(name string) (queries []wireMessage) {
	for _, q := range e.take() {
		if bytes.HasPrefix(q[12:], mt.Name(name)) {
			queries = append(queries, q)
		}
	}
	return queries
}

// counter is the sum of a metric over all labels.
func (e *encrypted) counter(name string) (n int) {
	e.t.Helper()
	families, err := e.registry.Gather()
	if err != nil {
		e.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				n += int(m.GetCounter().GetValue())
			}
		}
	}
	return n
}

// wireMessage is a message as it is sent. The methods want a well-formed one with one question or none.
type wireMessage []byte

func (m wireMessage) flags() uint16 { return binary.BigEndian.Uint16(m[2:]) }
func (m wireMessage) rcode() uint16 { return m.flags() & 0xF }

// counts are those in the header: QDCOUNT, ANCOUNT, NSCOUNT, ARCOUNT.
func (m wireMessage) counts() (n [4]uint16) {
	for i := range n {
		n[i] = binary.BigEndian.Uint16(m[4+2*i:])
	}
	return n
}

// question is the question section.
func (m wireMessage) question() []byte {
	if m[5] == 0 {
		return nil
	}
	end := 12
	for m[end] != 0 {
		end += 1 + int(m[end])
	}
	return m[12 : end+5]
}

// records is what follows the question section, but for an OPT at the end.
func (m wireMessage) records() []byte {
	all := m[12+len(m.question()):]
	if opt := m.opt(); opt != nil {
		all = all[:len(all)-len(opt)]
	}
	return all
}

// opt is the OPT record, which weir puts last, or nil.
func (m wireMessage) opt() []byte {
	var last []byte
	for r := range message.Records(m) {
		if r.Type == message.TypeOPT {
			last = m[r.At-5:]
		}
	}
	return last
}

// options are the options of the OPT: their numbers and data.
func (m wireMessage) options() map[uint16][]byte {
	all := map[uint16][]byte{}
	if opt := m.opt(); opt != nil {
		for rest := opt[11:]; len(rest) > 0; {
			number, data, after, ok := message.NextOption(rest)
			if !ok {
				return all
			}
			all[number], rest = data, after
		}
	}
	return all
}

// response makes a response to a query: with the flags besides QR, the counts of records, and the records.
func response(query []byte, flags uint16, an, ns, ar byte, records ...[]byte) []byte {
	m := wireMessage(query)
	r := mt.Join(query[:4], []byte{0, 1, 0, an, 0, ns, 0, ar}, m.question(), mt.Join(records...))
	binary.BigEndian.PutUint16(r[2:], message.FlagQR|message.FlagRA|m.flags()&message.FlagRD|flags)
	return r
}

// address is a record for the QNAME.
func address() []byte { return mt.Record(mt.Pointer(12), message.TypeA, 192, 0, 2, 1) }

// answerAddress answers each query with an address.
func answerAddress(query []byte) []byte { return response(query, 0, 1, 0, 0, address()) }

// wireQuery makes a query with RD and the additional records given.
func wireQuery(name string, qtype uint16, additional ...[]byte) []byte {
	return flagged(message.FlagRD, name, qtype, additional...)
}

func flagged(flags uint16, name string, qtype uint16, additional ...[]byte) []byte {
	return mt.Join(mt.Header(0, flags, 1, 0, 0, uint16(len(additional))), mt.Question(name, qtype), mt.Join(additional...))
}

// nameFor is a name that is asked for over this transport only, so that the answer isn't from the cache.
func (c wireClient) nameFor(what string, more ...any) string {
	return fmt.Sprint(what, "-", c.name, fmt.Sprint(more...), ".example")
}
