//go:build !wasip1

package abi

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// RRset is an RRset of a node: what the records of one owner and type have in common, and their RDATA.
type RRset struct {
	Type uint16
	// TTL is that of every record, in seconds, below 2^31 (RFC 2181 section 8).
	TTL uint32
	// Data is the RDATA of each record, with uncompressed names: 1 to 65535 records of at most 65535 octets each.
	Data [][]byte
}

// Sizes of a node, in octets, and the types that its flags are about. README.md section 6 draws the layout.
const (
	nodeHeader   = 4  // flags, zero, number of RRsets
	nodeSet      = 8  // of each RRset: type, number of records, octets of its records
	recordHeader = 12 // of each record: owner, type, class, TTL, RDLENGTH

	typeNS, typeCNAME, typeSOA, typeDNAME = 2, 5, 6, 39 // RFC 1035 section 3.2.2, RFC 6672 section 2.1

	classIN  = 1
	ownerPtr = 0xC00C // a pointer to the QNAME, which is at offset 12. RFC 1035 section 4.1.4
	maxTTL   = 1<<31 - 1
)

// AppendNode appends a node with these RRsets, which are in ascending order of type. Of flags, it takes those that the RRsets
// don't tell: [NodeApex] and [NodeWildcard]; it sets the others. The node keeps nothing of sets. On an error, dst is returned
// as it was.
func AppendNode(dst []byte, flags uint8, sets ...RRset) ([]byte, error) {
	flags, err := nodeFlags(flags, sets)
	if err != nil {
		return dst, err
	}
	node := append(dst, flags, 0)
	node = binary.LittleEndian.AppendUint16(node, uint16(len(sets)))
	for _, s := range sets {
		size := 0
		for _, data := range s.Data {
			if len(data) > 0xFFFF {
				return dst, fmt.Errorf("node: RDATA of type %d has %d octets, more than 65535", s.Type, len(data))
			}
			size += recordHeader + len(data)
		}
		node = binary.LittleEndian.AppendUint16(node, s.Type)
		node = binary.LittleEndian.AppendUint16(node, uint16(len(s.Data)))
		node = binary.LittleEndian.AppendUint32(node, uint32(size))
	}
	for _, s := range sets {
		for _, data := range s.Data {
			node = binary.BigEndian.AppendUint16(node, ownerPtr)
			node = binary.BigEndian.AppendUint16(node, s.Type)
			node = binary.BigEndian.AppendUint16(node, classIN)
			node = binary.BigEndian.AppendUint32(node, s.TTL)
			node = binary.BigEndian.AppendUint16(node, uint16(len(data)))
			node = append(node, data...)
		}
	}
	return node, nil
}

// ParseNode takes a node apart, and checks all that section 6 of README.md says about it but for what is in the RDATA. The RRsets
// point into node. It returns an error for any octets that AppendNode would not have made, and never panics.
func ParseNode(node []byte) (flags uint8, sets []RRset, err error) {
	if len(node) < nodeHeader {
		return 0, nil, errNodeShort
	}
	if node[1] != 0 {
		return 0, nil, errors.New("node: octet 1 is not zero")
	}
	n := int(binary.LittleEndian.Uint16(node[2:]))
	if len(node) < nodeHeader+n*nodeSet {
		return 0, nil, errNodeShort
	}
	heads, records := node[nodeHeader:nodeHeader+n*nodeSet], node[nodeHeader+n*nodeSet:]
	for head := heads; len(head) > 0; head = head[nodeSet:] {
		count, size := int(binary.LittleEndian.Uint16(head[2:])), uint64(binary.LittleEndian.Uint32(head[4:]))
		if size > uint64(len(records)) {
			return 0, nil, errNodeShort
		}
		set := RRset{Type: binary.LittleEndian.Uint16(head)}
		if set.TTL, set.Data, err = parseRecords(records[:size], set.Type, count); err != nil {
			return 0, nil, err
		}
		sets = append(sets, set)
		records = records[size:]
	}
	if len(records) > 0 {
		return 0, nil, fmt.Errorf("node: %d octets after the last record", len(records))
	}
	if flags, err = nodeFlags(node[0]&(NodeApex|NodeWildcard), sets); err != nil {
		return 0, nil, err
	}
	if flags != node[0] {
		return 0, nil, fmt.Errorf("node: has the flags %#02x, and RRsets for %#02x", node[0], flags)
	}
	return flags, sets, nil
}

var errNodeShort = errors.New("node: ends too early")

// parseRecords returns the TTL and the RDATA of the records of an RRset.
func parseRecords(records []byte, rrtype uint16, count int) (ttl uint32, data [][]byte, err error) {
	if len(records) < count*recordHeader { // before room is made for so many
		return 0, nil, errNodeShort
	}
	data = make([][]byte, 0, count)
	for len(records) > 0 {
		if len(records) < recordHeader {
			return 0, nil, errNodeShort
		}
		end := recordHeader + int(binary.BigEndian.Uint16(records[10:]))
		if end > len(records) {
			return 0, nil, errNodeShort
		}
		if binary.BigEndian.Uint16(records) != ownerPtr || binary.BigEndian.Uint16(records[2:]) != rrtype ||
			binary.BigEndian.Uint16(records[4:]) != classIN {
			return 0, nil, fmt.Errorf("node: a record in the RRset of type %d has another owner, type or class", rrtype)
		}
		t := binary.BigEndian.Uint32(records[6:])
		if len(data) > 0 && t != ttl {
			return 0, nil, fmt.Errorf("node: the TTLs of the RRset of type %d differ", rrtype)
		}
		ttl = t
		data = append(data, records[recordHeader:end:end])
		records = records[end:]
	}
	if len(data) != count {
		return 0, nil, fmt.Errorf("node: the RRset of type %d has %d records, not %d", rrtype, len(data), count)
	}
	return ttl, data, nil
}

// nodeFlags checks the RRsets of a node but for their RDATA, and returns its flags.
func nodeFlags(flags uint8, sets []RRset) (uint8, error) {
	if flags&^(NodeApex|NodeWildcard) != 0 {
		return 0, fmt.Errorf("node: flags %#02x: only those of the apex and the wildcard are not told by the RRsets", flags)
	}
	if len(sets) == 0 {
		flags |= NodeEmpty
	}
	soa := false
	for i, s := range sets {
		switch {
		case i > 0 && s.Type <= sets[i-1].Type:
			return 0, fmt.Errorf("node: the RRset of type %d comes after that of type %d", s.Type, sets[i-1].Type)
		case len(s.Data) == 0 || len(s.Data) > 0xFFFF:
			return 0, fmt.Errorf("node: the RRset of type %d has %d records, not 1 to 65535", s.Type, len(s.Data))
		case s.TTL > maxTTL:
			return 0, fmt.Errorf("node: the RRset of type %d has the TTL %d, above 2^31-1", s.Type, s.TTL)
		}
		switch s.Type {
		case typeNS:
			if flags&NodeApex == 0 {
				flags |= NodeCut
			}
		case typeCNAME:
			flags |= NodeCNAME
		case typeDNAME:
			flags |= NodeDNAME
		case typeSOA:
			soa = true
		}
	}
	if soa != (flags&NodeApex != 0) {
		return 0, errors.New("node: the apex has an SOA record, and nothing else has")
	}
	return flags, nil
}
