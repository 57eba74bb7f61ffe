package message

import (
	"errors"
	"fmt"
)

// Limits of a name in wire format, RFC 1035 section 2.3.4.
const (
	MaxName  = 255 // octets, length octets and the root label included
	MaxLabel = 63  // octets of one label
)

// maxPointers bounds the compression pointers followed for one name: a name has at most 127 labels, and each pointer that does
// not lead to a label is of no use. RFC 9267 section 2 lists what happens without a bound.
const maxPointers = 126

var errName = errors.New("message: malformed name")

// lower maps octets to their canonical form, ASCII letters in lower case (RFC 4343 section 3). A table costs one load an octet,
// where comparisons cost two branches.
var lower = func() (t [256]byte) {
	for i := range t {
		t[i] = byte(i)
		if 'A' <= i && i <= 'Z' {
			t[i] = byte(i) + 'a' - 'A'
		}
	}
	return t
}()

// AppendCanonical appends name with its ASCII letters in lower case (RFC 4034 section 6.2). Length octets are at most 63, below
// the letters, so they pass unchanged.
func AppendCanonical(dst, name []byte) []byte {
	for _, c := range name {
		dst = append(dst, lower[c])
	}
	return dst
}

// EqualName reports whether two names in wire format are the same but for the case of ASCII letters (RFC 4343).
func EqualName(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i, c := range a {
		if lower[c] != lower[b[i]] {
			return false
		}
	}
	return true
}

// InZone reports whether the canonical name is the canonical zone or below it, comparing whole labels.
func InZone(name, zone []byte) bool {
	rest := len(name) - len(zone)
	if rest < 0 || string(name[rest:]) != string(zone) {
		return false
	}
	// The octets match; they are a suffix in labels only if a label begins where they begin.
	i := 0
	for i < rest {
		i += int(name[i]) + 1
	}
	return i == rest
}

// AppendName appends the name at off of msg to dst, uncompressed and in the case in which it stands there, and returns the
// offset behind it in msg. On an error dst may have got some octets of the name.
//
// A pointer leads to a prior occurrence of a name (RFC 1035 section 4.1.4): it leads strictly backwards, and all that is read there is
// before the place from which it leads. So a name never depends on octets behind it, which may be cut off, and the work is
// bounded for any input.
//
//	segment      bound, then segment   bound
//	| 3 com 0 .. | 7 example  pointer  | 3 www  pointer |
func AppendName(dst, msg []byte, off int) (name []byte, end int, err error) {
	start, pointers, segment, bound := len(dst), 0, off, len(msg)
	for {
		if off >= bound {
			return dst, 0, errName
		}
		c := int(msg[off])
		switch {
		case c == 0:
			if pointers == 0 {
				end = off + 1
			}
			return append(dst, 0), end, nil
		case c <= MaxLabel:
			if off+1+c > bound || len(dst)-start+1+c >= MaxName {
				return dst, 0, errName
			}
			dst = append(dst, msg[off:off+1+c]...)
			off += c + 1
		case c >= 0xC0 && off+1 < bound:
			if pointers == 0 {
				end = off + 2
			}
			off = (c&0x3F)<<8 | int(msg[off+1])
			if pointers++; pointers > maxPointers || off >= segment || off < headerSize {
				return dst, 0, errName
			}
			segment, bound = off, segment
		default:
			return dst, 0, errName
		}
	}
}

// checkName validates the name at off like AppendName, without copying it.
func checkName(msg []byte, off int) (end int, err error) {
	pointers, segment, bound, size := 0, off, len(msg), 0
	for {
		if off >= bound {
			return 0, errName
		}
		c := int(msg[off])
		switch {
		case c == 0:
			if pointers == 0 {
				end = off + 1
			}
			return end, nil
		case c <= MaxLabel:
			if size += c + 1; off+1+c > bound || size >= MaxName {
				return 0, errName
			}
			off += c + 1
		case c >= 0xC0 && off+1 < bound:
			if pointers == 0 {
				end = off + 2
			}
			off = (c&0x3F)<<8 | int(msg[off+1])
			if pointers++; pointers > maxPointers || off >= segment || off < headerSize {
				return 0, errName
			}
			segment, bound = off, segment
		default:
			return 0, errName
		}
	}
}

// ParseName reads a name in presentation format (RFC 1035 section 5.1, with \DDD and \X), absolute whether or not it ends with a
// dot, and returns its canonical wire format. It is for configuration, not for the query path.
func ParseName(text string) ([]byte, error) {
	if text == "" {
		return nil, errors.New("is empty: the root is written \".\"")
	}
	if text == "." {
		return []byte{0}, nil
	}
	name := make([]byte, 1, len(text)+2)
	label := 0 // where the length octet of the present label is
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '.':
			if len(name)-label == 1 {
				return nil, fmt.Errorf("%q has an empty label", text)
			}
			name[label] = byte(len(name) - label - 1)
			label = len(name)
			name = append(name, 0)
			continue
		case c == '\\' && i+3 < len(text) && digits(text[i+1:i+4]):
			n := int(text[i+1]-'0')*100 + int(text[i+2]-'0')*10 + int(text[i+3]-'0')
			if n > 255 {
				return nil, fmt.Errorf("%q has the escape \\%s, which is above \\255", text, text[i+1:i+4])
			}
			c = byte(n)
			i += 3
		case c == '\\' && i+1 < len(text) && !digits(text[i+1:i+2]):
			i++
			c = text[i]
		case c == '\\':
			return nil, fmt.Errorf("%q has an incomplete escape: write \\DDD with three digits, or \\ and a character that is no digit", text)
		case c <= ' ' || c >= 0x7F || c == '{' || c == '}':
			return nil, fmt.Errorf("%q has the character %q: write it as \\%03d, or an internationalized name in its xn-- form", text, c, c)
		}
		if len(name)-label > MaxLabel {
			return nil, fmt.Errorf("%q has a label of more than %d octets", text, MaxLabel)
		}
		name = append(name, lower[c])
	}
	if len(name)-label > 1 { // no dot at the end
		name[label] = byte(len(name) - label - 1)
		name = append(name, 0)
	}
	if len(name) > MaxName {
		return nil, fmt.Errorf("%q has %d octets in wire format, more than the %d of RFC 1035", text, len(name), MaxName)
	}
	return name, nil
}

func digits(s string) bool {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// NameString returns an uncompressed name in presentation format with a dot at the end. Octets that are not printable ASCII, and
// those with a meaning in zone files, are escaped (RFC 4343 section 2.1), so that a name from the network can't forge a line
// in a log, and so are braces, which stand for places in a [Trace]. It allocates: for people only.
func NameString(name []byte) string { return string(AppendNameText(nil, name)) }

// AppendNameText appends what [NameString] returns: at most 4 times the octets of name.
func AppendNameText(s, name []byte) []byte {
	if len(name) <= 1 {
		return append(s, '.')
	}
	for i := 0; i < len(name) && name[i] != 0; {
		end := min(i+1+int(name[i]), len(name))
		for _, c := range name[i+1 : end] {
			switch {
			case c == '.' || c == '\\' || c == '"' || c == ';' || c == '(' || c == ')' || c == '@' || c == '$':
				s = append(s, '\\', c)
			case c <= ' ' || c >= 0x7F || c == '{' || c == '}':
				s = append(s, '\\', '0'+c/100, '0'+c/10%10, '0'+c%10)
			default:
				s = append(s, c)
			}
		}
		s = append(s, '.')
		i = end
	}
	return s
}
