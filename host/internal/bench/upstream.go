//go:build linux

package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// What an upstream does with each query.
const (
	answers  = "answers"  // one A record; NODATA for other types
	nxdomain = "nxdomain" // NXDOMAIN
	silent   = "silent"   // nothing
)

// upstream is one that runs as a process of its own.
type upstream struct {
	*process
	port int
	ask  io.WriteCloser // each line that it reads has it say how many queries it got
	said *bufio.Reader
}

// startUpstream starts one on a free port.
func startUpstream(mode string) (*upstream, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	cmd := command(generatorCPU, "/proc/self/exe", "upstream", mode, strconv.Itoa(port))
	cmd.Stderr = os.Stderr
	ask, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	said, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	u := &upstream{port: port, ask: ask, said: bufio.NewReader(said)}
	if u.process, err = launch("upstream "+mode, cmd); err != nil {
		return nil, err
	}
	_, err = u.queries() // it listens when it has answered
	return u, err
}

// queries returns how many queries it has got so far.
func (u *upstream) queries() (int64, error) {
	if _, err := u.ask.Write([]byte("\n")); err != nil {
		return 0, fmt.Errorf("%s: %w", u.name, err)
	}
	line, err := u.said.ReadString('\n')
	if err != nil {
		return 0, fmt.Errorf("%s: %w", u.name, err)
	}
	return strconv.ParseInt(strings.TrimSpace(line), 10, 64)
}

// runUpstream is that process: bench upstream MODE PORT. It ends with its standard input.
func runUpstream(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("upstream: want a mode and a port")
	}
	port, err := strconv.Atoi(args[1])
	if err != nil {
		return fmt.Errorf("upstream: %w", err)
	}
	fd, err := udpSocket(port)
	if err != nil {
		return fmt.Errorf("upstream: port %d: %w", port, err)
	}
	tcp, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", args[1]))
	if err != nil {
		return fmt.Errorf("upstream: %w", err)
	}
	runtime.GOMAXPROCS(2) // the affinity has made it 1, and the loop below would wait for the runtime to notice that a call blocks
	debug.SetGCPercent(-1)
	var count atomic.Int64
	mode := args[0]
	go serveUDP(fd, mode, &count)
	go serveTCP(tcp, mode, &count)
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		fmt.Println(count.Load())
	}
	return in.Err()
}

func serveUDP(fd int, mode string, count *atomic.Int64) {
	runtime.LockOSThread()
	b := newBatch(true)
	for {
		n, err := b.receive(fd, unix.MSG_WAITFORONE)
		if err != nil {
			continue // an ICMP error of a server that has gone
		}
		count.Add(int64(n))
		if mode == silent {
			continue
		}
		for i := range n {
			b.setSize(i, answer(b.octets[i][:], int(b.headers[i].size), mode))
		}
		_, _ = b.send(fd, n) // likewise
	}
}

func serveTCP(l net.Listener, mode string, count *atomic.Int64) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			var m [2 + 65535]byte
			for {
				if _, err := io.ReadFull(c, m[:2]); err != nil {
					return
				}
				size := int(binary.BigEndian.Uint16(m[:]))
				if _, err := io.ReadFull(c, m[2:2+size]); err != nil {
					return
				}
				count.Add(1)
				if mode == silent {
					continue
				}
				size = answer(m[2:], size, mode)
				binary.BigEndian.PutUint16(m[:], uint16(size))
				if _, err := c.Write(m[:2+size]); err != nil {
					return
				}
			}
		}()
	}
}
