package upstream

import "encoding/binary"

const (
	// paddingBlock is what the size of encrypted queries is a multiple of, in octets (RFC 8467 section 4.1).
	paddingBlock = 128
	// optionPadding is the OPTION-CODE of RFC 7830.
	optionPadding = 12
)

var zeros [paddingBlock]byte

// appendPadding pads a query that ends with an OPT record without options. It has room for its length before it, two octets.
func appendPadding(query []byte) []byte {
	size := len(query) - 2 + 4
	n := (paddingBlock - size%paddingBlock) % paddingBlock
	end := len(query)
	query = append(query, 0, optionPadding, 0, byte(n))
	query = append(query, zeros[:n]...)
	binary.BigEndian.PutUint16(query[end-2:], uint16(4+n))
	return query
}
