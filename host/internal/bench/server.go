//go:build linux

package main

import (
	"bufio"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/template"
	"time"
)

//go:embed conf
var configurations embed.FS

// peer is a kind of server.
type peer struct {
	name   string
	binary string
	conf   string // in conf, and of the file that the arguments name
	extra  string // a line for it
	args   []string
	only   string // the one workload that it is there for

	encrypted []string // the workloads over encrypted transports that it can be asked
}

const (
	confFile   = "{conf}"
	portNumber = "{port}"
	upNumber   = "{up}"
)

// The names of the peers that others are compared with.
const (
	weirName    = "weir"
	dnsdistName = "dnsdist"
)

// peers are all that there may be beside weir. Each has a cache of more than 100,000 names, one thread, and no log.
var peers = []peer{
	{name: dnsdistName, binary: "dnsdist", conf: "dnsdist.conf", encrypted: []string{overTLS, overHTTPS}, args: []string{"--supervised", "--disable-syslog", "-C", confFile}},
	{name: "dnsdist-recvmmsg", binary: "dnsdist", conf: "dnsdist.conf", encrypted: []string{overTLS, overHTTPS}, extra: "setUDPMultipleMessagesVectorSize(64)",
		args: []string{"--supervised", "--disable-syslog", "-C", confFile}},
	{name: "unbound", binary: "unbound", conf: "unbound.conf", encrypted: []string{overTLS, overHTTPS}, args: []string{"-d", "-p", "-c", confFile}},
	{name: "coredns", binary: "coredns", conf: "coredns.conf", encrypted: []string{overTLS, overHTTPS, overHTTP3, overQUIC}, args: []string{"-quiet", "-conf", confFile}},
	{name: "coredns-alternate", binary: "coredns-alternate", conf: "coredns-alternate.conf", args: []string{"-quiet", "-conf", confFile}, only: "alternate"},
	{name: "mosdns", binary: "mosdns", conf: "mosdns.conf", args: []string{"start", "-c", confFile}},
	{name: "dnsproxy", binary: "dnsproxy", args: []string{"--listen=127.0.0.1", "--port=" + portNumber, "--upstream=127.0.0.1:" + upNumber, "--cache",
		"--cache-size=67108864", "--ratelimit=0", "--bootstrap=127.0.0.1:" + upNumber, "--output=/dev/null"}},
}

// server is one that runs.
type server struct {
	*process
	ports
}

// ports are what a configuration is made of.
type ports struct {
	Name, Dir, Extra string
	Port             int // where it serves
	TLS, HTTPS, QUIC int // where it serves so (HTTPS: HTTP/3 too), with cert.pem and key.pem of Dir
	Alternate        int // where it asks the upstream that knows nothing first
	Admin            int // of weir
	Up, NX           int // upstreams
	Hole             int // one that does not answer, 0 for none
}

// choosePorts returns free ports for a server before two upstreams.
func choosePorts(dir, name string, up, nx *upstream) (ports, error) {
	p := ports{Name: name, Dir: dir, Up: up.port, NX: nx.port}
	for _, port := range []*int{&p.Port, &p.TLS, &p.HTTPS, &p.QUIC, &p.Alternate, &p.Admin} {
		var err error
		if *port, err = freePort(); err != nil {
			return p, err
		}
	}
	return p, nil
}

// start starts a peer and waits until it answers.
func (p *peer) start(dir string, up, nx *upstream) (*server, error) {
	chosen, err := choosePorts(dir, p.name, up, nx)
	if err != nil {
		return nil, err
	}
	chosen.Extra = p.extra
	if p.only == "alternate" {
		chosen.Alternate = chosen.Port
	}
	conf := filepath.Join(dir, p.name+".conf")
	if p.conf != "" {
		if err := render(conf, p.conf, chosen); err != nil {
			return nil, err
		}
	}
	filled := strings.NewReplacer(confFile, conf, portNumber, fmt.Sprint(chosen.Port), upNumber, fmt.Sprint(up.port))
	args := make([]string, len(p.args))
	for i, arg := range p.args {
		args[i] = filled.Replace(arg)
	}
	return startServer(chosen, serverCPU, p.binary, args...)
}

// startWeir starts weir with a configuration of conf, filled with data, which the ports are part of.
func startWeir(o *options, p ports, cpus, conf string, data any) (*server, error) {
	path := filepath.Join(o.dir, p.Name+".toml")
	if err := render(path, conf, data); err != nil {
		return nil, err
	}
	return startServer(p, cpus, o.weir, "run", path)
}

// startUsual starts weir with the usual chain.
func startUsual(o *options, name, cpus string, up, nx, hole *upstream) (*server, error) {
	p, err := choosePorts(o.dir, name, up, nx)
	if err != nil {
		return nil, err
	}
	if hole != nil {
		p.Hole = hole.port
	}
	if _, err := writeZone(o.dir, name, "test", hotNames); err != nil {
		return nil, err
	}
	if err := writeCertificate(o.dir); err != nil {
		return nil, err
	}
	return startWeir(o, p, cpus, "weir.toml", p)
}

// writeZone writes NAME.zone with some records besides those of the apex. It returns how many octets one has on the wire, on average: a name, the type,
// class, TTL and size, and an address.
func writeZone(dir, name, origin string, records int) (octets float64, err error) {
	f, err := os.Create(filepath.Join(dir, name+".zone"))
	if err != nil {
		return 0, err
	}
	w := bufio.NewWriter(f)
	fmt.Fprintf(w, "$ORIGIN %s.\n$TTL 300\n@ IN SOA ns hostmaster 1 3600 600 86400 60\n@ IN NS ns\nns IN A 192.0.2.53\n", origin)
	sum := 0
	for i := range records {
		owner := fmt.Sprintf("host%d.held", i)
		fmt.Fprintf(w, "%s IN A 10.%d.%d.%d\n", owner, i>>16&255, i>>8&255, i&255)
		sum += len(owner) + len(origin) + 3 + 10 + 4
	}
	return float64(sum) / float64(max(records, 1)), errors.Join(w.Flush(), f.Close())
}

func render(path, conf string, data any) error {
	t, err := template.ParseFS(configurations, "conf/"+conf)
	if err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(t.Execute(f, data), f.Close())
}

// startServer starts a program and waits until it answers where it serves.
func startServer(p ports, cpus, program string, args ...string) (*server, error) {
	started, err := startProcess(p.Dir, p.Name, cpus, program, args...)
	if err != nil {
		return nil, err
	}
	s := &server{started, p}
	for range 150 { // 30 s: a zone may be large, and the machine busy
		if !s.running() {
			break
		}
		if asks(p.Port, "h0.example.test") {
			return s, nil
		}
	}
	s.stop()
	log, _ := os.ReadFile(filepath.Join(p.Dir, p.Name+".log")) // what there is of it
	return nil, fmt.Errorf("%s does not answer; it said: %s", p.Name, log)
}

// asks tells whether a server answers a query within 200 ms.
func asks(port int, name string) bool {
	c, err := net.Dial("udp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return false
	}
	defer c.Close()
	end := time.Now().Add(200 * time.Millisecond)
	if c.SetDeadline(end) != nil {
		return false
	}
	query := appendQuery(nil, 1, name)
	response := make([]byte, datagramSize)
	if _, err := c.Write(query); err == nil {
		if n, err := c.Read(response); err == nil {
			return n >= headerSize && response[2]&0x80 != 0
		}
	}
	time.Sleep(time.Until(end)) // nobody listens there yet
	return false
}

// freePort returns a port of 127.0.0.1 that nobody has, in UDP nor TCP.
func freePort() (int, error) {
	for range 20 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return 0, err
		}
		port := l.Addr().(*net.TCPAddr).Port
		c, err := net.ListenPacket("udp", l.Addr().String())
		if err == nil {
			return port, errors.Join(l.Close(), c.Close())
		}
		if err := l.Close(); err != nil {
			return 0, err
		}
	}
	return 0, fmt.Errorf("no free port on 127.0.0.1: %w", fs.ErrExist)
}

// available tells whether a program is there. Those in /usr/sbin count, too, which is not on everyone's PATH.
func available(program string) bool {
	_, err := exec.LookPath(program)
	return err == nil
}
