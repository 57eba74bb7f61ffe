package wasm

import "golang.org/x/sys/unix"

// mapNoReserve keeps what is only reserved out of the system's account of promised memory.
const mapNoReserve = unix.MAP_NORESERVE
