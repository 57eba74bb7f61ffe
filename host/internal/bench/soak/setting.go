//go:build linux

package soak

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"text/template"
	"time"

	_ "embed"

	"github.com/weirdns/weir/host/internal/loopback"
	"github.com/weirdns/weir/host/upstream/upstreamtest"
	"github.com/weirdns/weir/host/wasm/wat"
)

//go:embed weir.toml
var configuration string

var configurationTemplate = template.Must(template.New("weir.toml").Parse(configuration))

const (
	serverName = "dns.example"
	logFile    = "weir.log"
	// trapEvery is how many queries an instance of the filter that traps bears.
	trapEvery = 100
)

// trapFilter traps now and then. Each trap costs the instance, so that the count begins anew.
var trapFilter = fmt.Sprintf(`(module (memory (export "memory") 2)
	(@custom "weir" "{\"name\":\"trap\",\"version\":\"1.0.0\",\"abi\":1}")
	(global $n (mut i32) (i32.const 0))
	(func (export "weir_abi_1") (result i32) (i32.const 1024))
	(func (export "query") (result i64)
		(global.set $n (i32.add (global.get $n) (i32.const 1)))
		(if (i32.eq (global.get $n) (i32.const %d)) (then (unreachable)))
		(i64.const 0)))`, trapEvery)

// setting is weir and the world around it.
type setting struct {
	dir       string
	authority *upstreamtest.Authority

	Plain, Encrypted, HTTPS, Admin netip.AddrPort // where weir listens

	PairServers   [2]*upstreamtest.Faulty
	SecureServers [2]*upstreamtest.Faulty
	SickServer    *upstreamtest.Faulty
	ListedServer  *upstreamtest.Faulty // in resolv.conf

	Generation     int          // of the configuration
	oldest, newest atomic.Int64 // generations that may answer

	weir  *exec.Cmd
	ended chan struct{} // closed when it has
}

// newSetting starts the upstreams.
func newSetting(dir string) (s *setting, err error) {
	s = &setting{dir: dir, ended: make(chan struct{})}
	if s.authority, err = upstreamtest.NewAuthority(dir); err != nil {
		return nil, err
	}
	certificate, err := s.authority.Issue(serverName)
	if err != nil {
		return nil, err
	}
	if _, _, err := s.authority.Write("server", certificate); err != nil {
		return nil, err
	}
	secret := &tls.Config{Certificates: []tls.Certificate{certificate}}
	for _, up := range []struct {
		server **upstreamtest.Faulty
		tls    *tls.Config
	}{
		{&s.PairServers[0], nil}, {&s.PairServers[1], nil}, {&s.SecureServers[0], secret}, {&s.SecureServers[1], secret}, {&s.SickServer, nil}, {&s.ListedServer, nil},
	} {
		if *up.server, err = upstreamtest.ListenFaulty(netip.AddrPortFrom(loopback.Host(), 0), up.tls); err != nil {
			return nil, errors.Join(err, s.close())
		}
	}
	for _, addr := range []*netip.AddrPort{&s.Plain, &s.Encrypted, &s.HTTPS, &s.Admin} {
		if *addr, err = freeAddress(); err != nil {
			return nil, errors.Join(err, s.close())
		}
	}
	module, err := wat.Compile(trapFilter)
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, errors.Join(s.write("trap.wasm", module), s.writeResolvConf(), s.writeGeneration())
}

// name tells a server from the others.
func (s *setting) name(server *upstreamtest.Faulty) string {
	switch server {
	case s.PairServers[0], s.PairServers[1]:
		return fmt.Sprintf("pair %v", server.Addr)
	case s.SecureServers[0], s.SecureServers[1]:
		return fmt.Sprintf("secure %v", server.Addr)
	}
	return fmt.Sprintf("sick %v", server.Addr)
}

// freeAddress returns an address that nobody has. Others are not given one of this IP address by the system.
func freeAddress() (netip.AddrPort, error) {
	for {
		l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(loopback.Host(), 0)))
		if err != nil {
			return netip.AddrPort{}, err
		}
		addr := l.Addr().(*net.TCPAddr).AddrPort()
		c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
		if err == nil {
			return addr, errors.Join(c.Close(), l.Close())
		}
		if err := l.Close(); err != nil {
			return netip.AddrPort{}, err
		}
	}
}

// write replaces a file as editors do, so that nobody sees half of it.
func (s *setting) write(name string, octets []byte) error {
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path+".new", octets, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func (s *setting) writeResolvConf() error {
	addr := s.ListedServer.Addr
	return s.write("resolv.conf", fmt.Appendf(nil, "nameserver [%s]:%d\n", addr.Addr(), addr.Port()))
}

// writeGeneration writes the configuration, and a zone that tells its generation.
func (s *setting) writeGeneration() error {
	n := s.Generation
	zone := fmt.Appendf(nil, "$ORIGIN held.test.\n$TTL 30\n@ IN SOA ns hostmaster %d 3600 600 86400 60\n@ IN NS ns\nns IN A 192.0.2.53\nwww IN A 10.0.%d.%d\n",
		n+1, n>>8&255, n&255)
	if err := s.write(fmt.Sprintf("held%d.zone", n%4), zone); err != nil {
		return err
	}
	var text bytes.Buffer
	if err := configurationTemplate.Execute(&text, s); err != nil {
		return err
	}
	return s.write("weir.toml", text.Bytes())
}

// Zone is the number of the zone file of this generation.
func (s *setting) Zone() int { return s.Generation % 4 }

// start starts weir and waits until it serves.
func (s *setting) start(program string) error {
	program, err := filepath.Abs(program)
	if err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(s.dir, logFile))
	if err != nil {
		return err
	}
	defer log.Close() // weir has its own
	cmd := exec.Command(program, "run", filepath.Join(s.dir, "weir.toml"))
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	s.weir = cmd
	go func() {
		_ = cmd.Wait() // what it said is in the log
		close(s.ended)
	}()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if s.logged(`"msg":"serving"`) == 3 { // listeners
			return nil
		}
		select {
		case <-s.ended:
			return errors.Join(errors.New("soak: weir has ended"), s.tail())
		default:
		}
	}
	return errors.Join(errors.New("soak: weir does not serve"), s.tail())
}

// log returns weir's log.
func (s *setting) log() ([]byte, error) { return os.ReadFile(filepath.Join(s.dir, logFile)) }

// logged counts a text in weir's log.
func (s *setting) logged(text string) int {
	log, err := s.log()
	if err != nil {
		return 0
	}
	return bytes.Count(log, []byte(text))
}

// tail is the end of weir's log, as an error.
func (s *setting) tail() error {
	log, err := s.log()
	return errors.Join(err, fmt.Errorf("weir said at last: %s", log[max(0, len(log)-2000):]))
}

// signalAndWait has weir reload, and waits until its log says what came of it.
func (s *setting) signalAndWait(said string) error {
	before := s.logged(said)
	if err := s.weir.Process.Signal(syscall.SIGHUP); err != nil {
		return fmt.Errorf("soak: reload: %w", err)
	}
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if s.logged(said) > before {
			return nil
		}
	}
	return fmt.Errorf("soak: weir does not say %s", said)
}

// stopped reports whether weir is stopped by a signal, which nothing of its own does.
func (s *setting) stopped() bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.weir.Process.Pid))
	_, state, _ := bytes.Cut(stat, []byte(") "))
	return err == nil && len(state) > 0 && state[0] == 'T'
}

// metrics returns the samples of weir's metrics that have no labels.
func (s *setting) metrics() (map[string]float64, error) {
	response, err := (&http.Client{Timeout: patience}).Get("http://" + s.Admin.String() + "/metrics")
	if err != nil {
		return nil, fmt.Errorf("soak: %w", err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("soak: metrics: %w", err)
	}
	samples := make(map[string]float64)
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if n, err := strconv.ParseFloat(value, 64); err == nil {
			samples[name] = n
		}
	}
	return samples, nil
}

// close ends weir, and then the upstreams.
func (s *setting) close() error {
	var err error
	if s.weir != nil {
		_ = s.weir.Process.Signal(syscall.SIGTERM) // it may have ended
		select {
		case <-s.ended:
		case <-time.After(10 * time.Second):
			err = errors.Join(errors.New("soak: weir does not end"), s.weir.Process.Kill())
			<-s.ended
		}
	}
	for _, f := range append(append(s.PairServers[:], s.SecureServers[:]...), s.SickServer, s.ListedServer) {
		if f != nil {
			f.Close()
		}
	}
	return err
}
