package upstream

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// watchInterval is how often resolv.conf is read in any case: there are file systems without notification.
	watchInterval = 5 * time.Second
	// maxResolvConf bounds what is read of a resolv.conf, in octets.
	maxResolvConf = 64 << 10
	// maxNameserver bounds the address of a nameserver, in octets: [IPv6%interface]:port has at most 69, where the address ends with one of IPv4.
	maxNameserver = 80
)

var errNoNameserver = errors.New("has no nameserver line with an address")

// parseResolvConf returns the servers of the nameserver lines, in order and each once, and the values of those lines that are no
// address. All other lines are for stub resolvers. The forms are those of resolv.conf(5), an address, IPv6 with a scope id perhaps,
// and OpenBSD's [ADDRESS]:PORT.
func parseResolvConf(text []byte) (servers []netip.AddrPort, invalid []string) {
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, maxResolvConf)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		value := fields[1]
		if len(value) > maxNameserver {
			invalid = append(invalid, value[:maxNameserver]+"...")
			continue
		}
		if host, port, ok := strings.Cut(value, "]:"); ok && !strings.Contains(host, ":") {
			value = strings.TrimPrefix(host, "[") + ":" + port // an IPv4 address in brackets, as OpenBSD has it
		}
		l, err := parseServer(value, Auto)
		switch {
		case err != nil || strings.Contains(value, "://") || l.host != "":
			invalid = append(invalid, fields[1])
		case !slices.Contains(servers, l.addr):
			servers = append(servers, l.addr)
		}
	}
	return servers, invalid
}

// readResolvConf returns the text of resolv.conf, up to a limit.
func (g *Group) readResolvConf() ([]byte, error) {
	file, err := os.Open(g.resolvConf)
	if err != nil {
		return nil, err
	}
	defer file.Close() // only read
	return io.ReadAll(io.LimitReader(file, maxResolvConf))
}

// useResolvConf makes the servers in a resolv.conf those of the group, behind the configured ones, as far as the policy allows. If
// there are none that is an error, and the servers stay.
func (g *Group) useResolvConf(text []byte) error {
	servers, invalid := parseResolvConf(text)
	for _, value := range invalid {
		g.log.Warn("nameserver is not an address", "file", g.resolvConf, "nameserver", value)
	}
	servers = slices.DeleteFunc(servers, func(addr netip.AddrPort) bool {
		err := g.allowed.check(addr)
		if err != nil {
			g.log.Warn("nameserver is not used", "file", g.resolvConf, "error", err)
		}
		return err != nil
	})
	if len(servers) == 0 {
		return fmt.Errorf("%s: %w", g.resolvConf, errNoNameserver)
	}
	g.changing.Lock()
	defer g.changing.Unlock()
	g.nameservers = servers
	g.setServers(g.merge(servers))
	return nil
}

// merge returns the configured servers and behind them those of resolv.conf, up to the limit of servers.
func (g *Group) merge(more []netip.AddrPort) []target {
	targets := slices.Clone(g.configured)
	for _, addr := range more {
		if !slices.ContainsFunc(targets, func(t target) bool { return t.addr == addr }) {
			targets = append(targets, target{addr: addr, transport: g.transport})
		}
	}
	if len(targets) > g.allowed.MaxServers {
		g.log.Warn("more servers than allowed, using the first", "file", g.resolvConf, "servers", len(targets), "limit", g.allowed.MaxServers)
		targets = targets[:g.allowed.MaxServers]
	}
	return targets
}

// watch has the group follow its resolv.conf.
func (g *Group) watch(ctx context.Context) {
	changes := make(chan struct{})
	watcher, err := watchFile(g.resolvConf)
	if err != nil {
		g.log.Warn("no notification when the file changes, it is read every few seconds", "file", g.resolvConf, "error", err)
		g.follow(ctx, changes)
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	forwarded := make(chan struct{})
	go func() {
		defer close(forwarded)
		defer watcher.Close() // its goroutine ends with it
		g.guard.Keep(ctx, func(ctx context.Context) { forward(ctx, watcher, changes) })
	}()
	g.follow(ctx, changes)
	cancel()
	<-forwarded
}

// forward makes changes of what a watcher says, until ctx is done.
func forward(ctx context.Context, watcher *fsnotify.Watcher, changes chan<- struct{}) {
	for {
		select {
		case <-watcher.Events:
		case <-watcher.Errors: //nolint:errcheck // events were lost, perhaps; reading the file tells
		case <-ctx.Done():
			return
		}
		select {
		case changes <- struct{}{}:
		case <-ctx.Done():
			return
		}
	}
}

// watchFile watches the directory of a file, since files are replaced, not written; and that of the file behind a symbolic link, as
// /etc/resolv.conf often is.
func watchFile(path string) (*fsnotify.Watcher, error) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	directories := []string{filepath.Dir(path)}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		directories = append(directories, filepath.Dir(real))
	}
	for _, directory := range directories {
		if err := watcher.Add(directory); err != nil {
			return nil, errors.Join(err, watcher.Close())
		}
	}
	return watcher, nil
}

// follow reads resolv.conf after each change and every few seconds, and makes its servers those of the group. While it can't be read,
// or has no server in it, the servers stay: a file is empty for a moment when it is written in place, and a network that
// went away comes back with the same ones more often than not.
func (g *Group) follow(ctx context.Context, changes <-chan struct{}) {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	known, broken := g.resolvText, ""
	for {
		select {
		case <-changes:
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		text, err := g.readResolvConf()
		if err == nil {
			if bytes.Equal(text, known) {
				continue
			}
			known = text
			if err = g.useResolvConf(text); err == nil {
				broken = ""
				g.log.Info("servers changed", "file", g.resolvConf)
				continue
			}
		}
		if err.Error() != broken { // once, not every few seconds
			broken = err.Error()
			g.log.Warn("file is of no use, keeping the servers", "file", g.resolvConf, "error", err)
		}
	}
}
