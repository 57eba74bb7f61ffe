package sandbox

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"github.com/landlock-lsm/go-landlock/landlock"
	fs "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/psx"
)

// systemPaths are read by the Go runtime and its libraries, now and then: names and certificates, time zones, what /metrics tells of the process, and
// how much memory it has. What is not there is left out.
var systemPaths = []string{
	"/proc", "/sys/fs/cgroup", "/sys/kernel/mm/transparent_hugepage",
	"/etc/hosts", "/etc/resolv.conf", "/etc/nsswitch.conf", "/etc/localtime", "/usr/share/zoneinfo",
	"/etc/ssl", "/etc/pki", "/usr/share/ca-certificates", "/usr/local/share/ca-certificates", "/usr/share/pki",
	"/dev/null", "/dev/urandom",
}

// Apply takes away what is not needed. It is called once, by a process that has its sockets open; those it keeps. p are the files that are still to
// be opened.
func Apply(p Paths) *Report {
	r := &Report{}
	r.Privileges = r.step("none are gained by executing a file", noNewPrivileges())
	kept, err := dropCapabilities()
	r.Capabilities = r.step(kept, err)
	files, err := r.restrictFiles(p)
	r.Files = r.step(files, err)
	r.SystemCalls = r.step(fmt.Sprintf("%d are refused, and sockets of other families, and namespaces", len(refused)), refuseSystemCalls())
	return r
}

// step is a line of the report. An error that does not tell of a missing feature is kept.
func (r *Report) step(holds string, err error) string {
	switch {
	case err == nil:
		return holds
	case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, errMissing):
		return "no: the kernel has no such thing, or the container hides it"
	}
	r.Err = errors.Join(r.Err, err)
	return "no: " + err.Error()
}

var errMissing = errors.New("not supported")

func noNewPrivileges() error {
	if _, _, errno := psx.Syscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0); errno != 0 {
		return os.NewSyscallError("prctl(PR_SET_NO_NEW_PRIVS)", errno)
	}
	return nil
}

// dropCapabilities drops all but CAP_NET_BIND_SERVICE, which a reload needs for new ports below 1024, if the process has it. Root without
// capabilities is a user like others, to whom many files belong.
func dropCapabilities() (kept string, err error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return "", os.NewSyscallError("capget", err)
	}
	const bind = 1 << unix.CAP_NET_BIND_SERVICE
	keep := data[0].Permitted & bind
	if data[0].Effective&(1<<unix.CAP_SETPCAP) != 0 { // and a child can't get them back
		for c := uintptr(0); c <= unix.CAP_LAST_CAP; c++ {
			if c == unix.CAP_NET_BIND_SERVICE {
				continue
			}
			// A kernel that knows fewer says EINVAL.
			if _, _, errno := psx.Syscall3(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, c, 0); errno != 0 && errno != unix.EINVAL {
				return "", os.NewSyscallError("prctl(PR_CAPBSET_DROP)", errno)
			}
		}
	}
	// Kernels before 4.3 have none of these, and nothing to clear.
	psx.Syscall6(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0, 0) //nolint:errcheck // see above
	data = [2]unix.CapUserData{{Effective: keep, Permitted: keep}}
	if _, _, errno := psx.Syscall3(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data[0])), 0); errno != 0 {
		return "", os.NewSyscallError("capset", errno)
	}
	if keep != 0 {
		return "only CAP_NET_BIND_SERVICE", nil
	}
	return "none", nil
}

// Rights to files.
const (
	readFile  = fs.AccessFSReadFile
	readDir   = fs.AccessFSReadFile | fs.AccessFSReadDir
	writeFile = fs.AccessFSReadFile | fs.AccessFSWriteFile | fs.AccessFSTruncate
	appendDir = writeFile | fs.AccessFSReadDir | fs.AccessFSMakeReg
	writeDir  = appendDir | fs.AccessFSRemoveFile | fs.AccessFSMakeDir | fs.AccessFSRemoveDir
	socketDir = fs.AccessFSMakeSock | fs.AccessFSRemoveFile
)

// restrictFiles has only the files of p, of the system and of weir itself be opened.
func (r *Report) restrictFiles(p Paths) (string, error) {
	if v, err := fs.LandlockGetABIVersion(); err != nil || v < 1 {
		return "", errMissing
	}
	var rules []landlock.Rule
	allow := func(dirRights, fileRights landlock.AccessFSSet, paths []string) int {
		dirs, files := settle(paths)
		if len(dirs) > 0 {
			rules = append(rules, landlock.PathAccess(dirRights, dirs...).IgnoreIfMissing())
		}
		if len(files) > 0 {
			rules = append(rules, landlock.PathAccess(fileRights, files...).IgnoreIfMissing())
		}
		r.allowed = append(r.allowed, dirs...)
		r.allowed = append(r.allowed, files...)
		return len(dirs) + len(files)
	}
	allow(readDir, readFile, systemPaths)
	allow(readDir, readFile, []string{os.Getenv("SSL_CERT_FILE"), os.Getenv("SSL_CERT_DIR")})
	read := allow(readDir, readFile, p.Read)
	write := allow(writeDir, writeFile, p.Write) + allow(appendDir, writeFile, p.Append)
	rules = append(rules, landlock.PathAccess(writeFile, "/dev/null").IgnoreIfMissing())
	if remove, _ := settle(p.Remove); len(remove) > 0 {
		rules = append(rules, landlock.PathAccess(fs.AccessFSRemoveDir, remove...).IgnoreIfMissing())
	}
	if sockets, _ := settle(p.Sockets); len(sockets) > 0 {
		rules = append(rules, landlock.PathAccess(socketDir, sockets...).IgnoreIfMissing())
	}
	rules = append(rules, executable()...)
	if err := landlock.V5.BestEffort().RestrictPaths(rules...); err != nil {
		r.allowed = nil
		return "", fmt.Errorf("landlock: %w", err)
	}
	return fmt.Sprintf("reads %d places, writes to %d", read, write), nil
}

// executable lets the process start itself again, to compile a module or to take its own place, and the libraries of a program that is not static.
func executable() []landlock.Rule {
	const self = "/proc/self/exe"
	rules := []landlock.Rule{landlock.PathAccess(fs.AccessFSReadFile|fs.AccessFSExecute, self).IgnoreIfMissing()}
	f, err := elf.Open(self)
	if err != nil {
		return rules
	}
	defer f.Close()
	for _, program := range f.Progs {
		if program.Type == elf.PT_INTERP {
			return append(rules, landlock.PathAccess(readDir|fs.AccessFSExecute, "/lib", "/lib64", "/usr/lib", "/usr/lib64").IgnoreIfMissing(),
				landlock.PathAccess(readFile, "/etc/ld.so.cache").IgnoreIfMissing())
		}
	}
	return rules
}
