package wasm

import "github.com/tetratelabs/wazero/experimental"

// allocator hands wazero the memory of one instance.
type allocator struct{ *memory }

// Allocate implements experimental.MemoryAllocator. The caller has no way to take an error, so the memory is reserved before.
func (a allocator) Allocate(uint64, uint64) experimental.LinearMemory { return linear(a) }

type linear struct{ *memory }

// Reallocate implements experimental.LinearMemory. The address never changes; nil is a refusal, which the guest sees as -1 of memory.grow.
func (l linear) Reallocate(size uint64) []byte {
	if !l.grow(size) {
		return nil
	}
	return l.octets()
}

// Free implements experimental.LinearMemory. wazero calls it when an instance is closed, but not when its start function failed; so the instance
// frees its memory itself, in both cases.
func (l linear) Free() {}
