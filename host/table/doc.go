// Package table holds the data sets of weir: zones, lists of names, lists of prefixes. Filters are code, tables are data: each is
// indexed once, is shared by all instances of all filters, which read it through host functions, and is replaced as a whole
// while queries run.
//
//	file ─► parse ─► records ─► sort ─► check ─► index ─► Snapshot
//	 ▲        one of dns.RR at a time      │                 │
//	 └─ watch: fsnotify, and a slow poll   └─ FILE:LINE: …   └─ swapped atomically, the old one stays if anything is wrong
//
// A snapshot is some large slices without pointers, so that the garbage collector has nothing to walk, however many records
// there are. abi/README.md section 6 says what the values are.
//
// It is not a name server: what becomes of a query is for filters to say, see filters/authority.
package table
