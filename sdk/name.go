package sdk

// MaxName is how many octets a name has at most in wire format, with the root label. RFC 1035 section 2.3.4.
const MaxName = 255

// AppendName appends to dst the canonical wire format of a name in presentation format (RFC 1035 section 5.1), with or without
// the last dot; \DDD and \X escapes are understood. If text is no name, it returns dst as it was, and what is wrong with it.
func AppendName(dst []byte, text []byte) (name []byte, wrong string) {
	start := len(dst)
	if len(text) == 1 && text[0] == '.' {
		return append(dst, 0), ""
	}
	if len(text) == 0 {
		return dst, "is empty; the root is \".\""
	}
	name = append(dst, 0)
	label := start // where the length octet of the present label is
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '.':
			if len(name)-label == 1 {
				return dst, "has an empty label"
			}
			name[label] = byte(len(name) - label - 1)
			label = len(name)
			name = append(name, 0)
			continue
		case c >= 0x80:
			return dst, "has characters that are not ASCII: write the name in its xn-- form"
		case c <= ' ' || c == 0x7f:
			return dst, "has a blank or control character"
		case c == '\\':
			n, size := escape(text[i+1:])
			if size == 0 {
				return dst, "has a bad escape: want \\DDD or \\X"
			}
			c, i = n, i+size
		}
		if len(name)-label > 63 {
			return dst, "has a label of more than 63 octets"
		}
		name = append(name, lower(c))
		if len(name)-start > MaxName {
			return dst, "is longer than 255 octets"
		}
	}
	if len(name)-label > 1 { // no dot at the end
		name[label] = byte(len(name) - label - 1)
		name = append(name, 0)
	}
	if len(name)-start > MaxName {
		return dst, "is longer than 255 octets"
	}
	return name, ""
}

// escape reads what follows a backslash, and returns how many octets that were, 0 if it is no escape.
func escape(b []byte) (c byte, size int) {
	if len(b) == 0 {
		return 0, 0
	}
	if b[0] < '0' || b[0] > '9' {
		return b[0], 1
	}
	n := 0
	for i := range 3 {
		if i >= len(b) || b[i] < '0' || b[i] > '9' {
			return 0, 0
		}
		n = n*10 + int(b[i]-'0')
	}
	if n > 255 {
		return 0, 0
	}
	return byte(n), 3
}

// AppendText appends the presentation format of a name in wire format, with the last dot. Octets that are not printable,
// and those that mean something in zone files, are escaped (RFC 4343 section 2.1).
func AppendText(dst []byte, name []byte) []byte {
	if len(name) <= 1 {
		return append(dst, '.')
	}
	for len(name) > 0 && name[0] != 0 {
		n := min(int(name[0]), len(name)-1)
		for _, c := range name[1 : 1+n] {
			switch {
			case c <= ' ' || c >= 0x7f:
				dst = append(dst, '\\', '0'+c/100, '0'+c/10%10, '0'+c%10)
			case c == '.' || c == '\\' || c == '"' || c == '(' || c == ')' || c == ';' || c == '@' || c == '$':
				dst = append(dst, '\\', c)
			default:
				dst = append(dst, c)
			}
		}
		dst = append(dst, '.')
		name = name[1+n:]
	}
	return dst
}

// CheckName returns the size of the uncompressed name at the beginning of b, 0 if there is none.
func CheckName(b []byte) int {
	for off := 0; off < len(b) && off < MaxName; {
		n := int(b[off])
		if n == 0 {
			return off + 1
		}
		if n > 63 {
			return 0
		}
		off += 1 + n
	}
	return 0
}

// Canonicalize makes a name in wire format canonical, in place. The length octets are below 64, so no letter is among them.
func Canonicalize(name []byte) {
	for i, c := range name {
		name[i] = lower(c)
	}
}

// EqualFold reports whether two names in wire format are the same, whatever the case of their ASCII letters (RFC 4343).
func EqualFold(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

// IsWithin reports whether the canonical name is zone or below it: labels are compared, not characters.
func IsWithin(name, zone []byte) bool {
	off := 0
	for len(name)-off > len(zone) {
		off += 1 + int(name[off])
		if off >= len(name) {
			return false
		}
	}
	return string(name[min(off, len(name)):]) == string(zone)
}

func lower(c byte) byte {
	if c-'A' < 26 {
		c += 'a' - 'A'
	}
	return c
}
