// Package wasm runs filters: it loads WebAssembly modules that nobody has to trust, and gives them queries and responses by the contract
// of abi/README.md.
//
//	module ── admit ── meter ── compile ── instantiate, configure ──► Filter
//	          limits,   fuel    in a child   under a budget             │ slots: a few instances
//	          imports   & depth process                                 │
//	Call ──► quarantined? ── take an instance ── write frame ── call ── read verdict ── put it back
//	                                                              └─ fault: discard it; Run makes another
//
// wazero isolates memory, and that is all this package asks of it. Time, stack depth, table sizes and the cost of compiling are bounded
// here, because the engine bounds them not at all or at a price per call that is many times that of a filter: packages meter and
// admit.go say how.
//
// The package knows nothing of chains' order, of upstream servers or of where tables come from.
package wasm
