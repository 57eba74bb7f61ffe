package table

// Snapshot is what is in a table at one time; abi/README.md sections 5 and 6 say what keys and values are. It never changes, is safe for any
// number of readers, and its methods don't allocate. Arguments may be any octets, and are not kept. Slices that are returned are shared by
// all readers: they stay valid, and must not be modified.
type Snapshot interface {
	// Get returns the value of exactly this key, a canonical name in wire format.
	Get(key []byte) (value []byte, ok bool)
	// Longest returns the value of the longest key that is the canonical name or an ancestor of it, and the octets of that key: it is
	// name[len(name)-matched:]. In a zone, it finds nothing below a zone cut or a DNAME, but the node with the NS or DNAME RRset.
	Longest(name []byte) (matched int, value []byte, ok bool)
	// Next returns the first key after this one in canonical order (RFC 4034 section 6.1), and its value. An empty key comes before
	// all; the key need not be in the table.
	Next(key []byte) (next, value []byte, ok bool)
	// Prefix returns the value of the longest prefix that holds an address of 4 or 16 octets, and the bits of the prefix.
	Prefix(address []byte) (bits int, value []byte, ok bool)
	// Len returns the number of keys.
	Len() int
}
