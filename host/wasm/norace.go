//go:build !race

package wasm

// slowdown is for the race detector only.
const slowdown = 1
