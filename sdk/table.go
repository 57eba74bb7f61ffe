package sdk

import "github.com/weirdns/weir/abi"

// Kinds of tables.
const (
	ZoneTable     = abi.TableZone     // values are nodes, see [Node]
	NamesTable    = abi.TableNames    // values are text
	PrefixesTable = abi.TablePrefixes // values are text
	HostsTable    = abi.TableHosts    // values are nodes, see [Node]
)

// Table is a data set that the host owns. [Config.Table] returns one. Its functions take a [Buffer], to which the value is
// copied; it is valid until the buffer is used again. Within one call of a filter, a table does not change.
type Table struct {
	Name  string // as in the operator's file
	Kind  string // one of the kinds
	index uint32
}

// Buffer is room for what a table gives. The zero value is ready for use; it grows to the largest value that it ever
// held, so after the first queries it allocates nothing. A filter has one for each value that it holds at a time.
type Buffer struct{ octets []byte }

// bufferSize is the first size of a buffer: the nodes of ordinary zones, with some dozens of addresses, fit.
const bufferSize = 4096

// Grow makes room for values of size octets, and 4,096 at least. Called in Configure, it spares the first query the allocation.
func (b *Buffer) Grow(size int) { b.octets = make([]byte, max(size, bufferSize, 2*len(b.octets))) }

// Keep copies a value that lies elsewhere.
func (b *Buffer) Keep(value []byte) []byte {
	if len(value) > len(b.octets) {
		b.Grow(len(value))
	}
	return b.octets[:copy(b.octets, value)]
}

// Index returns the place of the table among those that the filter may use, as [Query.Found] has it.
func (t *Table) Index() int { return int(t.index) }

// Get returns the value of exactly this key.
func (t *Table) Get(key []byte, b *Buffer) (value []byte, ok bool) {
	for {
		n := tableGet(t.index, key, b.octets)
		if n < 0 {
			return nil, false
		}
		size := int(uint32(n))
		if size <= len(b.octets) {
			return b.octets[:size], true
		}
		b.Grow(size)
	}
}

// Longest returns the value of the longest key that is name or an ancestor of it, and the size of that key: it is
// name[len(name)-matched:]. In a zone table, that is the closest encloser (RFC 4592 section 3.3.1), or the zone cut or DNAME
// on the way to it.
func (t *Table) Longest(name []byte, b *Buffer) (value []byte, matched int, ok bool) {
	for {
		n := tableLongest(t.index, name, b.octets)
		if n < 0 {
			return nil, 0, false
		}
		size := int(uint32(n))
		if size <= len(b.octets) {
			return b.octets[:size], int(n >> 32), true
		}
		b.Grow(size)
	}
}

// Next returns the first key after this one in canonical order (RFC 4034 section 6.1), and its value. An empty key comes
// before all: the first key of a zone table is the apex.
func (t *Table) Next(key []byte, b *Buffer) (next, value []byte, ok bool) {
	for {
		n := tableNext(t.index, key, b.octets)
		if n < 0 {
			return nil, nil, false
		}
		matched, size := int(n>>32), int(uint32(n))
		if matched+size <= len(b.octets) {
			return b.octets[:matched], b.octets[matched : matched+size], true
		}
		b.Grow(matched + size)
	}
}

// Prefix returns the value of the longest prefix that holds an address of 4 or 16 octets, and the bits of the prefix.
func (t *Table) Prefix(address []byte, b *Buffer) (value []byte, bits int, ok bool) {
	for {
		n := tablePrefix(t.index, address, b.octets)
		if n < 0 {
			return nil, 0, false
		}
		size := int(uint32(n))
		if size <= len(b.octets) {
			return b.octets[:size], int(n >> 32), true
		}
		b.Grow(size)
	}
}

// Node is a value of a zone table: the RRsets of one owner. abi/README.md section 6 has its layout.
type Node []byte

// Flags of a node.
const (
	NodeApex     = abi.NodeApex
	NodeCut      = abi.NodeCut      // has NS and is not the apex
	NodeDNAME    = abi.NodeDNAME    //
	NodeCNAME    = abi.NodeCNAME    //
	NodeWildcard = abi.NodeWildcard // has the child "*"
	NodeEmpty    = abi.NodeEmpty    // is an empty non-terminal
)

// RRset is an RRset of a node. Its records are in wire format, each with an owner of two octets.
//
// It has four words, so that the compiler keeps it out of memory.
type RRset struct {
	Count   int
	Records []byte
}

// TTL returns the TTL of the records, in seconds.
func (r RRset) TTL() uint32 {
	b := r.Records
	return uint32(b[6])<<24 | uint32(b[7])<<16 | uint32(b[8])<<8 | uint32(b[9])
}

// Data returns the RDATA of the first record.
func (r RRset) Data() []byte {
	b := r.Records
	return b[12 : 12+int(b[10])<<8+int(b[11])]
}

// Flags returns the flags.
func (n Node) Flags() uint8 { return n[0] }

// Len returns the number of RRsets.
func (n Node) Len() int { return int(n[2]) | int(n[3])<<8 }

// At returns RRset i, from 0 to Len()-1.
func (n Node) At(i int) (t Type, set RRset) {
	at := 4 + 8*n.Len()
	for j := 0; ; j++ {
		e := load64(n[4+8*j:])
		size := int(e >> 32)
		if j == i {
			return Type(e), RRset{int(e >> 16 & 0xFFFF), n[at : at+size]}
		}
		at += size
	}
}

// RRset returns the RRset of a type.
func (n Node) RRset(t Type) (set RRset, ok bool) {
	count := n.Len()
	at := 4 + 8*count
	for i := range count { // in ascending order of type
		e := load64(n[4+8*i:])
		size := int(e >> 32)
		if Type(e) == t {
			return RRset{int(e >> 16 & 0xFFFF), n[at : at+size]}, true
		}
		at += size
	}
	return RRset{}, false
}
