package sandbox

import (
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// refused are system calls that a DNS proxy never makes, and by which much can be done to the rest of the system, or to the kernel, which had most
// of its holes there. It is a list of what is refused and not of what is allowed, since the Go runtime, its libraries and libc choose their calls
// themselves, and another one next year.
var refused = append([]uintptr{
	// Other processes.
	unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_KCMP, unix.SYS_PIDFD_GETFD, unix.SYS_PROCESS_MADVISE,
	// File systems and their namespaces.
	unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT, unix.SYS_OPEN_TREE, unix.SYS_MOVE_MOUNT, unix.SYS_FSOPEN, unix.SYS_FSCONFIG,
	unix.SYS_FSMOUNT, unix.SYS_FSPICK, unix.SYS_MOUNT_SETATTR, unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_QUOTACTL,
	unix.SYS_UNSHARE, unix.SYS_SETNS, unix.SYS_ACCT, unix.SYS_FANOTIFY_INIT, unix.SYS_MKNODAT,
	// The kernel, its modules and its programs.
	unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_KEXEC_LOAD, unix.SYS_REBOOT, unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN,
	unix.SYS_SYSLOG, unix.SYS_PERSONALITY, unix.SYS_USERFAULTFD, unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER,
	unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY,
	// The machine's clock and name.
	unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME, unix.SYS_CLOCK_ADJTIME, unix.SYS_ADJTIMEX, unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME,
	unix.SYS_VHANGUP,
}, refusedHere...)

// namespaces are the bits of clone(2) that make one.
const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWCGROUP

// families are those of the sockets that there may be. Netlink is how addresses of interfaces are read.
var families = []uint32{unix.AF_UNIX, unix.AF_INET, unix.AF_INET6, unix.AF_NETLINK}

// Offsets in struct seccomp_data, seccomp(2). The lower half of an argument comes first on all processors that are known here.
const (
	offNumber       = 0
	offArchitecture = 4
	offArgument     = 16
)

// refuseSystemCalls has the kernel answer them with EPERM, on all threads.
func refuseSystemCalls() error {
	if architecture == 0 {
		return errMissing
	}
	program := filter()
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(program)
	switch errno {
	case 0:
		return nil
	case unix.EINVAL: // a kernel without filters
		return errMissing
	}
	return os.NewSyscallError("seccomp", errno)
}

// filter is the program that the kernel runs for each system call.
//
//	another architecture?       refuse
//	in the list?                refuse
//	clone with a namespace?     refuse
//	clone3?                     ENOSYS, so that libc takes clone
//	socket of another family?   refuse
//	                            allow
func filter() []unix.SockFilter {
	load := func(at uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
	}
	jump := func(op uint16, k uint32, yes, no uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | op | unix.BPF_K, Jt: yes, Jf: no, K: k}
	}
	end := func(action uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action}
	}
	refuse := end(unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM))
	p := []unix.SockFilter{
		load(offArchitecture),
		jump(unix.BPF_JEQ, architecture, 1, 0),
		refuse,
		load(offNumber),
		jump(unix.BPF_JGE, 0x40000000, 0, 1), // x32, which has its own numbers for the same
		refuse,
	}
	for _, number := range refused {
		p = append(p, jump(unix.BPF_JEQ, uint32(number), 0, 1), refuse)
	}
	p = append(p,
		jump(unix.BPF_JEQ, unix.SYS_CLONE3, 0, 1),
		end(unix.SECCOMP_RET_ERRNO|uint32(unix.ENOSYS)),
		jump(unix.BPF_JEQ, unix.SYS_CLONE, 0, 4),
		load(offArgument),
		jump(unix.BPF_JSET, namespaces, 0, 1),
		refuse,
		end(unix.SECCOMP_RET_ALLOW),
		jump(unix.BPF_JEQ, unix.SYS_SOCKET, 1, 0),
		end(unix.SECCOMP_RET_ALLOW),
		load(offArgument))
	for _, family := range families {
		p = append(p, jump(unix.BPF_JEQ, family, 0, 1), end(unix.SECCOMP_RET_ALLOW))
	}
	return append(p, end(unix.SECCOMP_RET_ERRNO|uint32(unix.EAFNOSUPPORT)))
}
