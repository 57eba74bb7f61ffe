package table

import (
	"github.com/weirdns/weir/host/message"
)

// maxLabels is how many labels fit into a name, without the root label. RFC 1035 section 2.3.4
const maxLabels = (message.MaxName - 1) / 2

// labels is where the labels of a name begin, as offsets into it.
type labels [maxLabels]uint8

// split fills at with the labels of a name in wire format, and returns how many there are without the root label. It is false for
// octets that are no name: names come from filters.
func split(name []byte, at *labels) (n int, ok bool) {
	if len(name) > message.MaxName {
		return 0, false
	}
	for i := 0; i < len(name); n++ {
		size := int(name[i])
		if size == 0 {
			return n, i+1 == len(name)
		}
		if size > message.MaxLabel {
			return 0, false
		}
		if n == maxLabels {
			return 0, false
		}
		at[n] = uint8(i)
		i += 1 + size
	}
	return 0, false
}

// An order key is a name in a form whose octets compare as the names do in canonical order (RFC 4034 section 6.1): the labels
// from the last to the first, each with a zero behind it. The root is empty, and the key of a name begins with those of its ancestors.
//
//	a.example. = 01 'a' 07 'example' 00  ─►  'example' 00 'a' 00
//
// Zeros inside labels would end them, so octets 0 and 1 become 01 01 and 01 02, which sort as they did.
const maxOrderKey = 2 * message.MaxName

// appendOrderKey appends the order key of a canonical name.
func appendOrderKey(dst, name []byte) []byte {
	var at labels
	n, _ := split(name, &at)
	for n--; n >= 0; n-- {
		begin := int(at[n]) + 1
		for _, c := range name[begin : begin+int(name[begin-1])] {
			if c <= 1 {
				dst = append(dst, 1)
				c++
			}
			dst = append(dst, c)
		}
		dst = append(dst, 0)
	}
	return dst
}

// appendName appends the name of an order key.
func appendName(dst, key []byte) []byte {
	for end := len(key); end > 0; {
		begin := end - 1
		for begin > 0 && key[begin-1] != 0 {
			begin--
		}
		length := len(dst)
		dst = append(dst, 0)
		for i := begin; i < end-1; i++ {
			c := key[i]
			if c == 1 {
				i++
				c = key[i] - 1
			}
			dst = append(dst, c)
		}
		dst[length] = byte(len(dst) - length - 1)
		end = begin
	}
	return append(dst, 0)
}
