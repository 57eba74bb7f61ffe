//go:build !linux

package wasm

// mapNoReserve is for Linux; elsewhere memory without access is not accounted for.
const mapNoReserve = 0
