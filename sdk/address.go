package sdk

import "strconv"

// AppendAddress appends to dst the octets of an IP address in text, 4 or 16 of them: IPv4 in dotted decimal without leading zeros, IPv6 as
// in RFC 4291 section 2.2, without a zone. If text is no address, it returns dst as it was, and false.
func AppendAddress(dst []byte, text []byte) (address []byte, ok bool) {
	for _, c := range text {
		if c == ':' {
			return appendIPv6(dst, text)
		}
	}
	return appendIPv4(dst, text)
}

func appendIPv4(dst []byte, text []byte) ([]byte, bool) {
	start := len(dst)
	for i, n, digits := 0, 0, 0; ; i++ {
		if i < len(text) && text[i] != '.' {
			c := text[i] - '0'
			if c > 9 || digits > 0 && n == 0 {
				return dst[:start], false
			}
			if n, digits = n*10+int(c), digits+1; n > 255 {
				return dst[:start], false
			}
			continue
		}
		if digits == 0 {
			return dst[:start], false
		}
		dst = append(dst, byte(n))
		if i == len(text) {
			if len(dst)-start != 4 {
				return dst[:start], false
			}
			return dst, true
		}
		if len(dst)-start == 4 {
			return dst[:start], false
		}
		n, digits = 0, 0
	}
}

func appendIPv6(dst []byte, text []byte) ([]byte, bool) {
	start := len(dst)
	gap := -1 // where "::" is, in octets from start
	if len(text) >= 2 && text[0] == ':' && text[1] == ':' {
		gap, text = 0, text[2:]
	}
	for len(text) > 0 {
		if len(dst)-start == 16 {
			return dst[:start], false
		}
		group, size := 0, 0
		for ; size < len(text) && text[size] != ':'; size++ {
			digit, ok := hexDigit(text[size])
			if !ok || size == 4 {
				// The last 32 bits may be in dotted decimal. RFC 4291 section 2.2
				address, ok := appendIPv4(dst, text)
				if !ok || len(address)-start > 16 {
					return dst[:start], false
				}
				return closeGap(address, start, gap)
			}
			group = group<<4 | digit
		}
		if size == 0 {
			return dst[:start], false
		}
		dst = append(dst, byte(group>>8), byte(group))
		if text = text[size:]; len(text) == 0 {
			break
		}
		switch text = text[1:]; {
		case len(text) == 0:
			return dst[:start], false // a single colon at the end
		case text[0] == ':':
			if gap >= 0 {
				return dst[:start], false
			}
			gap, text = len(dst)-start, text[1:]
		}
	}
	return closeGap(dst, start, gap)
}

// closeGap puts zeros where "::" was.
func closeGap(dst []byte, start, gap int) ([]byte, bool) {
	missing := 16 - (len(dst) - start)
	if gap < 0 || missing < 2 {
		if gap < 0 && missing == 0 {
			return dst, true
		}
		return dst[:start], false
	}
	tail := len(dst) - start - gap
	for range missing {
		dst = append(dst, 0)
	}
	copy(dst[len(dst)-tail:], dst[start+gap:start+gap+tail])
	clear(dst[start+gap : len(dst)-tail])
	return dst, true
}

func hexDigit(c byte) (digit int, ok bool) {
	switch c = lower(c); {
	case c-'0' <= 9:
		return int(c - '0'), true
	case c-'a' < 6:
		return int(c-'a') + 10, true
	}
	return 0, false
}

// AppendAddressText appends the text of an address of 4 or 16 octets; IPv6 is in the form of RFC 5952. It appends nothing for other
// octets.
func AppendAddressText(dst []byte, address []byte) []byte {
	switch len(address) {
	case 4:
		for i, c := range address {
			if i > 0 {
				dst = append(dst, '.')
			}
			dst = strconv.AppendUint(dst, uint64(c), 10)
		}
		return dst
	case 16:
	default:
		return dst
	}
	if isMapped(address) { // RFC 5952 section 5
		return AppendAddressText(append(dst, "::ffff:"...), address[12:])
	}
	group := func(i int) uint64 { return uint64(address[2*i])<<8 | uint64(address[2*i+1]) }
	first, longest := -1, 1 // the first of the longest runs of zeros, of two groups at least. RFC 5952 section 4.2
	for i := 0; i < 8; i++ {
		n := 0
		for i+n < 8 && group(i+n) == 0 {
			n++
		}
		if n > longest {
			first, longest = i, n
		}
		i += n
	}
	for i := 0; i < 8; i++ {
		if i == first {
			dst = append(dst, ':', ':')
			i += longest - 1
			continue
		}
		if i > 0 && i != first+longest {
			dst = append(dst, ':')
		}
		dst = strconv.AppendUint(dst, group(i), 16)
	}
	return dst
}

// isMapped reports whether 16 octets are an IPv4 address in IPv6 form. RFC 4291 section 2.5.5.2
func isMapped(address []byte) bool {
	return string(address[:12]) == "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff"
}

// Unmap returns the 4 octets of an IPv4 address that is in the form of an IPv6 address (RFC 4291 section 2.5.5.2), and other addresses as they
// are.
func Unmap(address []byte) []byte {
	if len(address) == 16 && isMapped(address) {
		return address[12:]
	}
	return address
}

// ParsePrefix reads an address prefix such as 192.0.2.0/24 or 2001:db8::/32; an address stands for itself alone. It returns the
// address, of 4 or 16 octets in memory of its own, and the bits of the prefix. If text is no prefix, wrong says what is wrong with it.
func ParsePrefix(text []byte) (address []byte, bits int, wrong string) {
	slash := len(text)
	for i, c := range text {
		if c == '/' {
			slash = i
		}
	}
	address, ok := AppendAddress(make([]byte, 0, 16), text[:slash])
	if !ok {
		return nil, 0, "is no prefix: want one such as \"192.0.2.0/24\" or \"2001:db8::/32\", or an address"
	}
	bits = 8 * len(address)
	if slash < len(text) {
		n, digits := 0, text[slash+1:]
		for _, c := range digits {
			if n = n*10 + int(c-'0'); c < '0' || c > '9' || n > bits {
				n = bits + 1
			}
		}
		if len(digits) == 0 || len(digits) > 1 && digits[0] == '0' || n > bits {
			return nil, 0, "has no good length: want \"/0\" to \"/" + strconv.Itoa(bits) + "\""
		}
		bits = n
	}
	for i := range address {
		if keep := min(max(bits-8*i, 0), 8); address[i]<<keep != 0 {
			clear(address[i+1:])
			address[i] &= ^byte(0xFF >> keep)
			return nil, 0, "has bits set behind its length: want \"" + string(AppendAddressText(nil, address)) + "/" + strconv.Itoa(bits) + "\""
		}
	}
	return address, bits, ""
}

// Prefix reads a string that is an address prefix, or an address, which stands for itself alone; see [ParsePrefix]. The address is nil if
// it is none.
func (c *Config) Prefix() (address []byte, bits int) {
	before := len(c.Mistakes())
	text := c.Text()
	if len(c.Mistakes()) > before {
		return nil, 0
	}
	address, bits, wrong := ParsePrefix(text)
	if wrong != "" {
		c.Mistake("\"" + string(text) + "\" " + wrong)
	}
	return address, bits
}

// Address appends an address of 4 or 16 octets.
func (l *Line) Address(address []byte) *Line {
	if l != nil {
		var text [64]byte
		l.size += copy(l.octets[l.size:], AppendAddressText(text[:0], address))
	}
	return l
}
