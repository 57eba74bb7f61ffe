//go:build race

package wasm

// slowdown is by how much the race detector makes compiling slower, in tests.
const slowdown = 15
