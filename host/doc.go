// Package host assembles weir from its parts and runs it. It is the only package that knows every concrete type.
//
//	config.File ─► New ─► tables ─► filters ─► chains ─► listeners ─► Run
//	                    └► upstream groups ─► caches ─┘
//
// Imports go one way, and a linter rule holds it:
//
//	abi, message, special, due, change, cookie, inherit, rescue, share  ◄  chain, table  ◄  querylog  ◄  wasm, cache, upstream, listener  ◄  explain, sandbox, handover  ◄  config, admin  ◄  host  ◄  cmd/weir
//
// sdk, filters and examples never import host or anything below it.
//
// It is not a place for policy: what becomes of a query is decided by filters, within what the parts allow.
package host
