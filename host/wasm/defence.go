package wasm

// defence is a set of what keeps filters in bounds. Tests switch single ones off to see that an attack then succeeds: a defence whose absence
// no test notices is none. Nothing else can set it.
type defence uint16

const (
	offMeter defence = 1 << iota // fuel, depth, and the limits of memory and tables
	offWork                      // locals times blocks of a function
	offImports
	offMemory
	offHostCalls
	offHostOctets
	offLogRate
	offChild
	offQuarantine
	offRecover
)
