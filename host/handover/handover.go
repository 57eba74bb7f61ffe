// Package handover has a new weir take the place of the one that serves, with its sockets, so that no query finds nobody there.
//
//	new: weir run --upgrade                      the one that serves
//	      │ connects to the Unix-domain socket ──► the same user, or root? otherwise it is hung up on
//	      │ hello ───────────────────────────────► writes snapshots of its caches
//	      │ ◄──────────── descriptors of all its sockets, by SCM_RIGHTS
//	      │ reads snapshots, binds what is new, confines itself, serves
//	      │ ready ───────────────────────────────► tells the service manager; commits
//	      │ ◄───────────────────────────── yours   stops reading, answers what is in flight, ends
//
// Both have the same sockets, not two sets of them: what waits in one is read by either, and nothing is lost when one of them closes its own. As long as the new one
// has not said that it is ready, the old one serves as if nothing were, and so it does when the new one ends or takes too long.
//
// Messages are JSON, one in each packet of a SOCK_SEQPACKET. The socket is itself among those that are handed over.
package handover

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weirdns/weir/host/inherit"
)

const (
	// version is that of the messages. Another one is refused, and the old process serves on.
	version = 1
	// helloTimeout is how long whoever connects may take to say what it wants.
	helloTimeout = 10 * time.Second
	// offerTimeout is how long the sockets may take to come: a reload that is under way and snapshots come first.
	offerTimeout = 30 * time.Second
	// readyTimeout is how long the new process may take from its sockets to its being ready. It has compiled and checked everything before; what is left is
	// reading snapshots.
	readyTimeout = time.Minute
	// perMessage descriptors go with one message. Linux has at most 253 (SCM_MAX_FD).
	perMessage = 64
	// maxSockets is more than any configuration has.
	maxSockets = 16384
	// maxMessage octets has a message.
	maxMessage = 64 << 10
)

// message is what is said, in either direction. Each has one of its parts.
type message struct {
	Weir int `json:"weir"` // version

	Hello bool `json:"hello,omitempty"`

	Sockets int      `json:"sockets,omitempty"` // how many come in all, with this and following messages
	Files   []string `json:"files,omitempty"`   // of Unix-domain sockets, which go with them

	Ready bool     `json:"ready,omitempty"`
	Kept  []string `json:"kept,omitempty"` // of Files, those whose sockets the new process took

	Yours bool   `json:"yours,omitempty"`
	Error string `json:"error,omitempty"` // why not
}

// refusal is what the other end says why not.
type refusal string

func (r refusal) Error() string { return string(r) }

// channel is a connection of the two.
type channel struct{ conn *net.UnixConn }

// send sends m with descriptors of files, within timeout.
func (c channel) send(m message, timeout time.Duration, files ...*os.File) error {
	m.Weir = version
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := c.conn.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	var fds []int
	for _, f := range files {
		raw, err := f.SyscallConn()
		if err != nil {
			return err
		}
		if err := raw.Control(func(fd uintptr) { fds = append(fds, int(fd)) }); err != nil { // the files are open until this returns
			return err
		}
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	_, _, err = c.conn.WriteMsgUnix(text, rights, nil)
	return err
}

// receive returns the next message, within timeout, or whenever it comes if that is 0, and the files that came with it, which are the caller's.
func (c channel) receive(timeout time.Duration) (m message, files []*os.File, err error) {
	var end time.Time
	if timeout > 0 {
		end = time.Now().Add(timeout)
	}
	if err := c.conn.SetReadDeadline(end); err != nil {
		return m, nil, err
	}
	text, rights := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(4*perMessage))
	n, size, flags, _, err := c.conn.ReadMsgUnix(text, rights)
	if err != nil {
		return m, nil, err
	}
	if files, err = received(rights[:size]); err != nil {
		return m, nil, err
	}
	switch {
	case n == 0: // so a SOCK_SEQPACKET says that there is no more
		err = io.EOF
	case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0:
		err = errors.New("a message is larger than any of weir's")
	default:
		err = json.Unmarshal(text[:n], &m)
	}
	switch {
	case err != nil:
	case m.Weir != version:
		err = fmt.Errorf("it speaks version %d of the protocol, and this is version %d: stop the old weir and start the new one", m.Weir, version)
	case m.Error != "":
		err = refusal(m.Error)
	}
	if err != nil {
		closeAll(files)
		return m, nil, err
	}
	return m, files, nil
}

// received returns the descriptors in a control message. They are not passed to programs that are executed: package net asks for that.
func received(control []byte) (files []*os.File, err error) {
	if len(control) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return nil, err
	}
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			continue // of another kind
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "socket"))
		}
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// Upgrade is a hand-over as the new process sees it.
type Upgrade struct {
	channel channel
	path    string
	sockets *inherit.Sockets
	files   []string
}

// Connect asks whoever serves, and listens at path, for its sockets. When ctx is done, it gives up. The old process serves on until Ready; Close without Ready leaves
// it at that.
func Connect(ctx context.Context, path string) (*Upgrade, error) {
	d := net.Dialer{Timeout: helloTimeout}
	conn, err := d.DialContext(ctx, "unixpacket", path)
	switch {
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ECONNREFUSED):
		return nil, fmt.Errorf("no weir serves that could be upgraded, for nobody listens at %s: start without --upgrade", path)
	case err != nil:
		return nil, fmt.Errorf("upgrade: %w", err)
	}
	u := &Upgrade{channel: channel{conn.(*net.UnixConn)}, path: path}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if err := u.ask(); err != nil {
		conn.Close()
		return nil, fmt.Errorf("upgrade: the weir at %s hands nothing over: %w", path, hungUp(err))
	}
	return u, nil
}

// hungUp says what an end of the connection means.
func hungUp(err error) error {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return errors.New("it hung up: its log says why, if it has not ended")
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errors.New("it does not answer: another upgrade may be under way")
	}
	return err
}

func (u *Upgrade) ask() (err error) {
	if err := trusted(u.channel.conn, os.Geteuid() == 0); err != nil { // root may take from anybody, it is asked to
		return err
	}
	if err := u.channel.send(message{Hello: true}, helloTimeout); err != nil {
		return err
	}
	var files []*os.File
	for want := 1; len(files) < want; {
		m, more, err := u.channel.receive(offerTimeout)
		if err != nil {
			closeAll(files)
			return err
		}
		files, want = append(files, more...), m.Sockets
		u.files = append(u.files, m.Files...)
		if len(more) == 0 || want > maxSockets {
			closeAll(files)
			return fmt.Errorf("%d of %d sockets came", len(files), want)
		}
	}
	if u.sockets, err = inherit.Of(files, nil); err != nil {
		return err
	}
	u.sockets.Own(u.files)
	return nil
}

// Sockets are those of the old process. What is not taken of them is closed by Close.
func (u *Upgrade) Sockets() *inherit.Sockets { return u.sockets }

// Ready says that this process serves, and returns when the old one has let go. kept are the files of Unix-domain sockets that this process sees to from
// now on. An error means that the old one serves on, so that this one has to end.
//
// The old process lets go when it hears that this one is ready, so from then on only its own word can say that it did not. If it dies before it says anything, or however long
// it takes, this one serves.
func (u *Upgrade) Ready(ctx context.Context, kept []string) error {
	stop := context.AfterFunc(ctx, func() { u.channel.conn.Close() })
	defer stop()
	err := u.channel.send(message{Ready: true, Kept: kept}, helloTimeout)
	if err == nil {
		_, _, err = u.channel.receive(0)
		if _, said := errors.AsType[refusal](err); !said {
			return ctx.Err() // nil, unless this process is to end anyway
		}
	}
	return fmt.Errorf("upgrade: the weir at %s does not let go: %w", u.path, hungUp(err))
}

// Close frees what was not taken. It may be called more than once.
func (u *Upgrade) Close() {
	u.sockets.Close()
	u.channel.conn.Close()
}
