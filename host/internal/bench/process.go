//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Where processes run, as lists of CPUs. On a machine with more than two, the rest is idle.
const (
	serverCPU    = "0"
	generatorCPU = "1"
)

// runPinned becomes another program, on some CPUs: bench pinned CPU,CPU PROGRAM ARGUMENT... All threads of that program inherit the affinity of
// the one that called exec.
func runPinned(args []string) error {
	if len(args) < 2 {
		return fmt.Errorf("pinned: want CPUs and a program")
	}
	var set unix.CPUSet
	for number := range strings.SplitSeq(args[0], ",") {
		cpu, err := strconv.Atoi(number)
		if err != nil {
			return fmt.Errorf("pinned: %w", err)
		}
		set.Set(cpu)
	}
	runtime.LockOSThread()
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("pinned: to CPU %s: %w", args[0], err)
	}
	path, err := exec.LookPath(args[1])
	if err != nil {
		return fmt.Errorf("pinned: %w", err)
	}
	return fmt.Errorf("pinned: %s: %w", path, syscall.Exec(path, args[1:], os.Environ()))
}

// runYielding becomes another program, which runs when nobody else wants its CPU: bench yielding PROGRAM ARGUMENT...
func runYielding(args []string) error {
	if len(args) < 1 {
		return fmt.Errorf("yielding: want a program")
	}
	if err := unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}, 0); err != nil {
		return fmt.Errorf("yielding: %w", err)
	}
	return fmt.Errorf("yielding: %s: %w", args[0], syscall.Exec(args[0], args, os.Environ()))
}

// command is a program on some CPUs, that ends when this one does.
func command(cpus, program string, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", append([]string{"pinned", cpus, program}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// process is a program that runs until it is stopped.
type process struct {
	name  string
	cmd   *exec.Cmd
	ended chan struct{} // closed when it has
}

// startProcess starts a program, whose output goes to name.log in dir.
func startProcess(dir, name, cpus, program string, args ...string) (*process, error) {
	log, err := os.Create(filepath.Join(dir, name+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close() // the program has its own
	cmd := command(cpus, program, args...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, dir
	return launch(name, cmd)
}

func launch(name string, cmd *exec.Cmd) (*process, error) {
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &process{name: name, cmd: cmd, ended: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // it is killed, or what it said is in its log
		close(p.ended)
	}()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// stop ends the process, by force after 3 seconds.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(3 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
}

// running tells whether the process has not ended by itself.
func (p *process) running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}
