package main

import (
	"strconv"

	"github.com/weirdns/weir/sdk"
)

// defaultTTL is the TTL in seconds of a record that says none, as elsewhere.
const defaultTTL = 3600

// The records that can be written. Any other is written in the form of RFC 3597 section 5.
const typeList = "A, AAAA, CAA, CNAME, DNAME, HINFO, MX, NS, PTR, SOA, SRV, TXT, or any other with its data as \\# SIZE HEX (RFC 3597)"

const typeCAA sdk.Type = 257

// scanner takes a record in presentation format (RFC 1035 section 5.1) apart.
type scanner struct {
	text []byte
	at   int
	bad  bool // there was a quotation mark inside of a word
}

// token returns the next word, empty at the end. A quoted one may have blanks in it, and is returned with its quotes.
func (s *scanner) token() []byte {
	for s.at < len(s.text) && isBlank(s.text[s.at]) {
		s.at++
	}
	start := s.at
	quoted := false
	for ; s.at < len(s.text); s.at++ {
		switch c := s.text[s.at]; {
		case c == '\\' && s.at+1 < len(s.text):
			s.at++
		case c == '"':
			if quoted {
				s.at++
				return s.text[start:s.at]
			}
			quoted = s.at == start
			s.bad = s.bad || !quoted
		case isBlank(c) && !quoted:
			return s.text[start:s.at]
		}
	}
	return s.text[start:s.at]
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

// number reads a token that is a number.
func (s *scanner) number(max uint64) (n uint64, ok bool) { return parseNumber(s.token(), max) }

func parseNumber(b []byte, max uint64) (n uint64, ok bool) {
	for _, c := range b {
		if c-'0' > 9 {
			return 0, false
		}
		if n = n*10 + uint64(c-'0'); n > max {
			return 0, false
		}
	}
	return n, len(b) > 0
}

// head is what stands in front of the data of a record.
type head struct {
	ttl   uint32
	class uint16
	rtype sdk.Type
}

// readHead reads TTL and class, in any order and both optional, and the type. Where a token has a NUL in it, known is false: what is there is
// not known yet.
func (s *scanner) readHead() (h head, known bool, wrong string) {
	h = head{ttl: defaultTTL, class: 1}
	hasTTL, hasClass := false, false
	for {
		token := s.token()
		for _, c := range token {
			if c == 0 {
				return h, false, ""
			}
		}
		if len(token) == 0 {
			return h, true, "has no type"
		}
		if n, ok := parseNumber(token, 1<<31-1); ok && !hasTTL {
			h.ttl, hasTTL = uint32(n), true
			continue
		}
		if class := parseClass(token); class != 0 && !hasClass {
			h.class, hasClass = class, true
			continue
		}
		t, ok := sdk.ParseType(token)
		if !ok || t == 0 || t == sdk.TypeOPT || t >= 128 && t <= 255 { // of questions and messages, not of data. RFC 6895 section 3.1
			return h, true, "\"" + string(token) + "\" is no type of a record: write OWNER [TTL] [CLASS] TYPE DATA"
		}
		h.rtype = t
		return h, true, ""
	}
}

func parseClass(b []byte) uint16 {
	if len(b) != 2 {
		return 0
	}
	switch [2]byte{b[0] &^ 0x20, b[1] &^ 0x20} {
	case [2]byte{'I', 'N'}:
		return 1
	case [2]byte{'C', 'H'}:
		return 3
	case [2]byte{'H', 'S'}:
		return 4
	}
	return 0
}

// appendRecord appends a record in wire format, with uncompressed names, to dst, which has room for maxRecord octets. wrong is what is
// wrong with the text, if it is no record.
func (s *scanner) appendRecord(dst []byte) (record []byte, wrong string) {
	record, wrong = sdk.AppendName(dst, s.token())
	if wrong != "" {
		return dst, "has an owner that is no name: it " + wrong
	}
	return s.appendRest(record)
}

// appendRest appends what follows the owner of a record.
func (s *scanner) appendRest(dst []byte) (record []byte, wrong string) {
	h, _, wrong := s.readHead()
	if wrong != "" {
		return dst, wrong
	}
	record = append(dst, byte(h.rtype>>8), byte(h.rtype), byte(h.class>>8), byte(h.class),
		byte(h.ttl>>24), byte(h.ttl>>16), byte(h.ttl>>8), byte(h.ttl), 0, 0)
	data := len(record)
	if record, wrong = s.appendData(record, h.rtype); wrong != "" {
		return dst, wrong
	}
	if len(s.token()) > 0 {
		return dst, "has something behind its data"
	}
	if s.bad {
		return dst, "has a quotation mark inside of a word: write it as \\\""
	}
	size := len(record) - data
	record[data-2], record[data-1] = byte(size>>8), byte(size)
	return record, ""
}

// appendData reads the data of a record.
func (s *scanner) appendData(dst []byte, t sdk.Type) (data []byte, wrong string) {
	before := s.at
	if string(s.token()) == `\#` {
		return s.appendUnknown(dst)
	}
	s.at = before
	switch t {
	case sdk.TypeA, sdk.TypeAAAA:
		size := 4
		if t == sdk.TypeAAAA {
			size = 16
		}
		data, ok := sdk.AppendAddress(dst, s.token())
		if !ok || len(data)-len(dst) != size {
			return dst, "has no address of its type for data"
		}
		return data, ""
	case sdk.TypeNS, sdk.TypeCNAME, sdk.TypePTR, sdk.TypeDNAME:
		return s.appendName(dst)
	case sdk.TypeMX:
		return s.numbersAndName(dst, 1)
	case sdk.TypeSRV:
		return s.numbersAndName(dst, 3)
	case sdk.TypeTXT:
		return s.appendStrings(dst, 1, 1000)
	case sdk.TypeHINFO:
		return s.appendStrings(dst, 2, 2)
	case sdk.TypeSOA:
		return s.appendSOA(dst)
	case typeCAA:
		return s.appendCAA(dst)
	}
	return dst, "has a type whose data are not known here: want " + typeList
}

func (s *scanner) appendName(dst []byte) ([]byte, string) {
	name, wrong := sdk.AppendName(dst, s.token())
	if wrong != "" {
		return dst, "has a name in its data that is none: it " + wrong
	}
	return name, ""
}

// numbersAndName reads numbers of 16 bits and a name.
func (s *scanner) numbersAndName(dst []byte, numbers int) ([]byte, string) {
	for range numbers {
		n, ok := s.number(65535)
		if !ok {
			return dst, "has data that begin with something else than a number from 0 to 65535"
		}
		dst = append(dst, byte(n>>8), byte(n))
	}
	return s.appendName(dst)
}

func (s *scanner) appendSOA(dst []byte) (data []byte, wrong string) {
	for range 2 {
		if dst, wrong = s.appendName(dst); wrong != "" {
			return dst, wrong
		}
	}
	for range 5 {
		n, ok := s.number(1<<32 - 1)
		if !ok {
			return dst, "has SOA data without five numbers: SERIAL REFRESH RETRY EXPIRE MINIMUM, in seconds"
		}
		dst = append(dst, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	return dst, ""
}

// appendCAA reads flags, a tag and a value. RFC 8659 section 4.1
func (s *scanner) appendCAA(dst []byte) (data []byte, wrong string) {
	flags, ok := s.number(255)
	tag := s.token()
	if !ok || len(tag) == 0 || len(tag) > 255 {
		return dst, "has CAA data other than FLAGS TAG \"VALUE\""
	}
	for _, c := range tag {
		if c-'0' > 9 && (c|0x20)-'a' >= 26 {
			return dst, "has a CAA tag with something else than letters and digits"
		}
	}
	dst = append(append(dst, byte(flags), byte(len(tag))), tag...)
	value := s.token()
	if len(value) == 0 {
		return dst, "has CAA data other than FLAGS TAG \"VALUE\""
	}
	return appendString(dst, value)
}

// appendStrings reads character strings. RFC 1035 section 3.3
func (s *scanner) appendStrings(dst []byte, least, most int) (data []byte, wrong string) {
	for n := 0; ; n++ {
		token := s.token()
		if len(token) == 0 {
			if n < least {
				return dst, "has " + strconv.Itoa(n) + " strings, want " + strconv.Itoa(least) + " at least"
			}
			return dst, ""
		}
		if n == most {
			return dst, "has more strings than its type"
		}
		at := len(dst)
		if dst, wrong = appendString(append(dst, 0), token); wrong != "" {
			return dst, wrong
		}
		if len(dst)-at-1 > 255 {
			return dst, "has a string of more than 255 octets: write several"
		}
		dst[at] = byte(len(dst) - at - 1)
	}
}

// appendString appends the octets of a token without its quotes and escapes.
func appendString(dst, token []byte) ([]byte, string) {
	if token[0] == '"' {
		if len(token) < 2 || token[len(token)-1] != '"' {
			return dst, "has a string without a quotation mark at the end"
		}
		token = token[1 : len(token)-1]
	}
	for i := 0; i < len(token); i++ {
		c := token[i]
		if c == '\\' {
			switch rest := token[i+1:]; {
			case len(rest) == 0:
				return dst, "has a string without a quotation mark at the end"
			case rest[0]-'0' > 9:
				c = rest[0]
				i++
			default:
				n, ok := parseNumber(rest[:min(3, len(rest))], 255)
				if !ok || len(rest) < 3 {
					return dst, "has a bad escape in a string: want \\DDD or \\X"
				}
				c = byte(n)
				i += 3
			}
		}
		dst = append(dst, c)
	}
	return dst, ""
}

// appendUnknown reads data of any type in hexadecimal, behind \#. RFC 3597 section 5
func (s *scanner) appendUnknown(dst []byte) ([]byte, string) {
	size, ok := s.number(maxRecord)
	if !ok {
		return dst, "has no size behind \\#"
	}
	start, digits := len(dst), 0
	for token := s.token(); len(token) > 0; token = s.token() {
		for _, c := range token {
			d := c - '0'
			if d > 9 {
				if d = c | 0x20 - 'a'; d > 5 {
					return dst, "has something else than hexadecimal digits behind \\#"
				}
				d += 10
			}
			if digits%2 == 0 {
				dst = append(dst, d<<4)
			} else {
				dst[len(dst)-1] |= d
			}
			digits++
		}
	}
	if uint64(len(dst)-start) != size || digits%2 != 0 {
		return dst, "has not as many octets behind \\# as it says"
	}
	return dst, ""
}
