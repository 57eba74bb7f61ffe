package wasm

import (
	"fmt"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// pageSize is WebAssembly's unit of memory.
const pageSize = 64 << 10

// memory is the linear memory of one instance. Its ceiling is reserved as address space when it is made, and pages become usable as the guest
// grows: so it never moves, a view of the frame stays good for the life of the instance, and what the guest may not have is not
// there at all. It is outside the Go heap: the collector neither scans nor delays giving it back.
//
// It implements wazero's experimental.MemoryAllocator and LinearMemory, for one memory.
type memory struct {
	ceiling  int
	reserved []byte        // nil before Allocate and after Free
	size     int           // usable octets
	err      error         // why there is no memory
	total    *atomic.Int64 // of all instances of the filter
}

// newMemory returns a memory that may grow to ceiling octets, which are added to total. Nothing is reserved yet.
func newMemory(ceiling int, total *atomic.Int64) *memory {
	return &memory{ceiling: ceiling, total: total}
}

// octets is the memory that the guest has now.
func (m *memory) octets() []byte { return m.reserved[:m.size:m.size] }

// reserve takes the address space. It costs no memory.
func (m *memory) reserve() error {
	b, err := unix.Mmap(-1, 0, m.ceiling, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON|mapNoReserve)
	if err != nil {
		return fmt.Errorf("reserving %s of address space: %w", Size(m.ceiling), os.NewSyscallError("mmap", err))
	}
	m.reserved = b
	return nil
}

// grow makes size octets usable. It never shrinks.
func (m *memory) grow(size uint64) bool {
	if m.reserved == nil || size > uint64(len(m.reserved)) {
		return false
	}
	if int(size) <= m.size {
		return true
	}
	if err := unix.Mprotect(m.reserved[:size], unix.PROT_READ|unix.PROT_WRITE); err != nil {
		m.err = os.NewSyscallError("mprotect", err)
		return false
	}
	m.total.Add(int64(size) - int64(m.size))
	m.size = int(size)
	return true
}

// free gives everything back. Whoever calls it makes sure that nobody looks at the memory any more. A second call does nothing.
func (m *memory) free() {
	if m.reserved != nil {
		_ = unix.Munmap(m.reserved) // fails only for addresses that were never mapped
		m.total.Add(-int64(m.size))
		m.reserved, m.size = nil, 0
	}
}
