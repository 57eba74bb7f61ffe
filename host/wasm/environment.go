package wasm

import "github.com/weirdns/weir/host/table"

// Environment is what the host gives a filter.
type Environment struct {
	// Module is the module, as read. It is not modified, and not kept after Open.
	Module []byte
	// Bundled says that the module came with weir: it is granted what its manifest names, and compiled in this process.
	Bundled bool
	// Upstreams are the names of all upstreams of the host, by the indexes that chains know them by.
	Upstreams []string
	// Tables are all tables, by name. They live at least as long as the filter.
	Tables map[string]Table
	// Path is the path of the filter in the configuration file, for mistakes; empty it is "filter.NAME".
	Path string
}

// Table is a data set of the host. *table.Table is the one that matters.
type Table interface {
	// Kind is "zone", "names" or "prefixes", abi/README.md section 6.
	Kind() string
	// Snapshot gives the present content, which does not change any more. It does not allocate, and is safe for concurrent use.
	Snapshot() Snapshot
}

// Snapshot is the content of a table at a time.
type Snapshot = table.Snapshot

var _ Table = (*table.Table)(nil)
