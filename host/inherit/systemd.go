package inherit

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// firstDescriptor is where a service manager puts what it passes: behind standard error. See sd_listen_fds(3).
	firstDescriptor = 3
	// maxDescriptors is more than anybody writes into a unit.
	maxDescriptors = 1024
)

// variables are how a service manager tells what it passed.
var variables = []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}

// FromEnvironment returns the sockets that a service manager passed to this process, nil if it passed none, as sd_listen_fds(3) says. The variables are unset, so
// that no child takes them for its own. It is called once, before anything opens files.
func FromEnvironment() (*Sockets, error) {
	pid, count, names := os.Getenv(variables[0]), os.Getenv(variables[1]), os.Getenv(variables[2])
	for _, v := range variables {
		os.Unsetenv(v) //nolint:errcheck // the name is a good one
	}
	if count == "" || pid != strconv.Itoa(os.Getpid()) { // meant for another process
		return nil, nil
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 || n > maxDescriptors {
		return nil, fmt.Errorf("sockets of the service manager: LISTEN_FDS is %q, want a number from 0 to %d", count, maxDescriptors)
	}
	return passed(firstDescriptor, n, names)
}

// passed makes Sockets of n descriptors.
func passed(first, n int, names string) (*Sockets, error) {
	var files []*os.File
	for fd := first; fd < first+n; fd++ {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC); err != nil {
			return nil, fmt.Errorf("sockets of the service manager: LISTEN_FDS counts %d, but descriptor %d can't be had: %w", n, fd, err)
		}
		files = append(files, os.NewFile(uintptr(fd), ""))
	}
	s, err := Of(files, strings.Split(names, ":"))
	if err != nil {
		return nil, fmt.Errorf("sockets of the service manager: %w", err)
	}
	return s, nil
}
