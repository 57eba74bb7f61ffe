package wasm

import (
	"crypto/rand"
	"encoding/binary"
)

// wasiModule is the module of WASI preview 1.
const wasiModule = "wasi_snapshot_preview1"

// Error numbers of WASI.
const (
	wasiOK     = 0
	wasiBADF   = 8
	wasiFAULT  = 21
	wasiINVAL  = 28
	wasiNOSYS  = 52
	stdout     = 1
	stderr     = 2
	clockReal  = 0
	clockMono  = 1
	maxVectors = 1024
)

// wasiFunctions are all functions of WASI preview 1, abi/README.md section 7. A filter has no files, sockets, arguments or environment, so
// nothing here touches the system but the clock and the source of random numbers; wazero's own implementation is not used, since it could
// open files if it were told to. What isn't offered exists and says so, so that programs which are linked with a whole libc load.
//
// A pointer outside the memory gives EFAULT, as WASI has it.
var wasiFunctions = []hostFunction{
	{"args_get", "ii:i", 0, nothing},
	{"args_sizes_get", "ii:i", 0, (*instance).wasiNone},
	{"environ_get", "ii:i", 0, nothing},
	{"environ_sizes_get", "ii:i", 0, (*instance).wasiNone},
	{"clock_res_get", "ii:i", 0, (*instance).wasiClockRes},
	{"clock_time_get", "iIi:i", 0, (*instance).wasiClockTime},
	{"random_get", "ii:i", 0, (*instance).wasiRandom},
	{"sched_yield", ":i", 0, nothing},
	{"poll_oneoff", "iiii:i", 0, (*instance).wasiPoll},
	{"proc_exit", "i:", 0, (*instance).wasiExit},
	{"fd_write", "iiii:i", 0, (*instance).wasiWrite},
	{"fd_fdstat_get", "ii:i", 0, (*instance).wasiStat},

	{"fd_advise", "iIIi:i", 0, badFile},
	{"fd_allocate", "iII:i", 0, badFile},
	{"fd_close", "i:i", 0, badFile},
	{"fd_datasync", "i:i", 0, badFile},
	{"fd_fdstat_set_flags", "ii:i", 0, badFile},
	{"fd_fdstat_set_rights", "iII:i", 0, badFile},
	{"fd_filestat_get", "ii:i", 0, badFile},
	{"fd_filestat_set_size", "iI:i", 0, badFile},
	{"fd_filestat_set_times", "iIIi:i", 0, badFile},
	{"fd_pread", "iiiIi:i", 0, badFile},
	{"fd_prestat_get", "ii:i", 0, badFile},
	{"fd_prestat_dir_name", "iii:i", 0, badFile},
	{"fd_pwrite", "iiiIi:i", 0, badFile},
	{"fd_read", "iiii:i", 0, badFile},
	{"fd_readdir", "iiiIi:i", 0, badFile},
	{"fd_renumber", "ii:i", 0, badFile},
	{"fd_seek", "iIii:i", 0, badFile},
	{"fd_sync", "i:i", 0, badFile},
	{"fd_tell", "ii:i", 0, badFile},
	{"path_create_directory", "iii:i", 0, noSystem},
	{"path_filestat_get", "iiiii:i", 0, noSystem},
	{"path_filestat_set_times", "iiiiIIi:i", 0, noSystem},
	{"path_link", "iiiiiii:i", 0, noSystem},
	{"path_open", "iiiiiIIii:i", 0, noSystem},
	{"path_readlink", "iiiiii:i", 0, noSystem},
	{"path_remove_directory", "iii:i", 0, noSystem},
	{"path_rename", "iiiiii:i", 0, noSystem},
	{"path_symlink", "iiiii:i", 0, noSystem},
	{"path_unlink_file", "iii:i", 0, noSystem},
	{"proc_raise", "i:i", 0, noSystem},
	{"sock_accept", "iii:i", 0, noSystem},
	{"sock_recv", "iiiiii:i", 0, noSystem},
	{"sock_send", "iiiii:i", 0, noSystem},
	{"sock_shutdown", "ii:i", 0, noSystem},
}

var wasiSignatures = signatures(wasiFunctions)

// result sets the result of a function. Those without parameters have a stack of one slot, too.
func result(stack []uint64, errno uint64) { stack[0] = errno }

func nothing(_ *instance, stack []uint64)  { result(stack, wasiOK) }
func badFile(_ *instance, stack []uint64)  { result(stack, wasiBADF) }
func noSystem(_ *instance, stack []uint64) { result(stack, wasiNOSYS) }

// view is at, for WASI: nil for octets outside the memory.
func (i *instance) view(ptr, size uint64) []byte {
	if uint64(uint32(ptr))+size > uint64(len(i.memory.octets())) {
		return nil
	}
	return i.at(ptr, size)
}

// put writes a 32-bit or 64-bit number.
func (i *instance) put(ptr uint64, size int, v uint64) bool {
	b := i.view(ptr, uint64(size))
	switch {
	case b == nil:
		return false
	case size == 4:
		binary.LittleEndian.PutUint32(b, uint32(v))
	default:
		binary.LittleEndian.PutUint64(b, v)
	}
	return true
}

// wasiNone says that there are no arguments or variables, and that they take no room.
func (i *instance) wasiNone(stack []uint64) {
	if !i.put(stack[0], 4, 0) || !i.put(stack[1], 4, 0) {
		result(stack, wasiFAULT)
		return
	}
	result(stack, wasiOK)
}

func (i *instance) wasiClockRes(stack []uint64) {
	switch {
	case uint32(stack[0]) > clockMono:
		result(stack, wasiINVAL)
	case !i.put(stack[1], 8, 1):
		result(stack, wasiFAULT)
	default:
		result(stack, wasiOK)
	}
}

func (i *instance) wasiClockTime(stack []uint64) {
	r := i.filter.runtime
	now := r.now()
	t := uint64(now.UnixNano())
	switch uint32(stack[0]) {
	case clockReal:
	case clockMono:
		t = uint64(now.Sub(r.started))
	default:
		result(stack, wasiINVAL)
		return
	}
	if !i.put(stack[2], 8, t) {
		result(stack, wasiFAULT)
		return
	}
	result(stack, wasiOK)
}

func (i *instance) wasiRandom(stack []uint64) {
	b := i.view(stack[0], uint64(uint32(stack[1])))
	if b == nil {
		result(stack, wasiFAULT)
		return
	}
	_, _ = rand.Read(b) // never fails
	result(stack, wasiOK)
}

// A subscription of poll_oneoff has 48 octets, of which the first 8 are the caller's and the ninth is its kind; an event has 32.
const (
	subscriptionSize = 48
	eventSize        = 32
)

// wasiPoll says at once that everything it was to wait for has happened: a filter does not wait.
func (i *instance) wasiPoll(stack []uint64) {
	n := uint64(uint32(stack[2]))
	if n == 0 || n > maxVectors {
		result(stack, wasiINVAL)
		return
	}
	in, out := i.view(stack[0], n*subscriptionSize), i.view(stack[1], n*eventSize)
	if in == nil || out == nil || !i.put(stack[3], 4, n) {
		result(stack, wasiFAULT)
		return
	}
	for k := range n {
		// What is read and what is written may overlap, if the guest is odd; so nothing is believed that is read here.
		s, e := in[k*subscriptionSize:], out[k*eventSize:(k+1)*eventSize]
		user, kind := binary.LittleEndian.Uint64(s), s[8]
		clear(e)
		binary.LittleEndian.PutUint64(e, user)
		if e[10] = kind; kind != 0 { // not a clock
			binary.LittleEndian.PutUint16(e[8:], wasiBADF)
		}
	}
	result(stack, wasiOK)
}

// wasiExit ends the instance: what it was called for has no result.
func (i *instance) wasiExit([]uint64) { i.end(causeTrap, errExit) }

// wasiStat says that stdin, stdout and stderr are terminals, which makes libc and the Go runtime write lines.
func (i *instance) wasiStat(stack []uint64) {
	if uint32(stack[0]) > stderr {
		result(stack, wasiBADF)
		return
	}
	b := i.view(stack[1], 24)
	if b == nil {
		result(stack, wasiFAULT)
		return
	}
	clear(b)
	b[0] = 2                                         // character device
	binary.LittleEndian.PutUint64(b[8:], 1<<6|1<<21) // fd_write, fd_filestat_get
	result(stack, wasiOK)
}

// wasiWrite takes what the guest prints to the log.
func (i *instance) wasiWrite(stack []uint64) {
	if fd := uint32(stack[0]); fd != stdout && fd != stderr {
		result(stack, wasiBADF)
		return
	}
	n := uint64(uint32(stack[2]))
	if n > maxVectors {
		result(stack, wasiINVAL)
		return
	}
	vectors := i.view(stack[1], n*8)
	if vectors == nil {
		result(stack, wasiFAULT)
		return
	}
	total := uint64(0)
	for ; len(vectors) > 0; vectors = vectors[8:] {
		b := i.view(uint64(binary.LittleEndian.Uint32(vectors)), uint64(binary.LittleEndian.Uint32(vectors[4:])))
		if b == nil {
			result(stack, wasiFAULT)
			return
		}
		i.print(b)
		total += uint64(len(b))
	}
	if !i.put(stack[3], 4, total) {
		result(stack, wasiFAULT)
		return
	}
	result(stack, wasiOK)
}
