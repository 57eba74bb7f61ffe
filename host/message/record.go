package message

import (
	"encoding/binary"
	"errors"
	"unicode/utf8"
)

var errRecord = errors.New("message: malformed record")

// record is one resource record of a message: where its parts are. RFC 1035 section 4.1.3.
//
//	owner        fixed                                        rdata      end
//	| NAME ...   | TYPE | CLASS |     TTL     | RDLENGTH |    | RDATA ... |
type record struct {
	owner, fixed, rdata, end int
	Type, Class              uint16
	TTL                      uint32
}

func (r record) data(msg []byte) []byte { return msg[r.rdata:r.end:r.end] }

// parseRecord reads the record at off. The owner is validated, pointers included.
func parseRecord(msg []byte, off int) (record, error) {
	end, err := checkName(msg, off)
	if err != nil {
		return record{}, err
	}
	if end+10 > len(msg) {
		return record{}, errRecord
	}
	f := msg[end : end+10 : end+10]
	r := record{
		owner: off, fixed: end, rdata: end + 10,
		Type: binary.BigEndian.Uint16(f), Class: binary.BigEndian.Uint16(f[2:]), TTL: binary.BigEndian.Uint32(f[4:]),
	}
	r.end = r.rdata + int(binary.BigEndian.Uint16(f[8:]))
	if r.end > len(msg) {
		return record{}, errRecord
	}
	return r, nil
}

// maxOptions bounds the options of one OPT record: nobody sends more than a handful, and each one costs.
const maxOptions = 16

// validOptions reports whether the RDATA of an OPT record is well formed (RFC 6891 section 6.1.2).
func validOptions(b []byte) bool {
	for n := 0; len(b) > 0; n++ {
		if len(b) < 4 || n == maxOptions {
			return false
		}
		size := int(binary.BigEndian.Uint16(b[2:]))
		if 4+size > len(b) {
			return false
		}
		b = b[4+size:]
	}
	return true
}

// appendOPT appends an OPT record, RFC 6891 section 6.1.2. extended is the upper eight bits of the RCODE.
func appendOPT(dst []byte, size uint16, extended uint8, do bool, options []byte) []byte {
	flags := byte(0)
	if do {
		flags = 0x80
	}
	dst = append(dst, 0, 0, TypeOPT, byte(size>>8), byte(size), extended, 0, flags, 0, byte(len(options)>>8), byte(len(options)))
	return append(dst, options...)
}

// EDEOption is the number of the option Extended DNS Error, RFC 8914 section 2.
const edeOption = 15

// maxText bounds the EXTRA-TEXT of an Extended DNS Error, in octets.
const maxText = 100

// AppendEDE appends an Extended DNS Error as an EDNS option in wire format (RFC 8914 section 2). Text is cut at 100 octets,
// between two characters, so that it never makes a response too large.
func AppendEDE(dst []byte, code uint16, text string) []byte {
	if len(text) > maxText {
		n := maxText
		for n > 0 && !utf8.RuneStart(text[n]) {
			n--
		}
		text = text[:n]
	}
	dst = append(dst, 0, edeOption, 0, byte(2+len(text)), byte(code>>8), byte(code))
	return append(dst, text...)
}

// EDECode returns the INFO-CODE of the first Extended DNS Error in options, or None.
func EDECode(options []byte) uint16 {
	for len(options) >= 6 {
		size := int(binary.BigEndian.Uint16(options[2:]))
		if binary.BigEndian.Uint16(options) == edeOption && size >= 2 {
			return binary.BigEndian.Uint16(options[4:])
		}
		if 4+size > len(options) {
			break
		}
		options = options[4+size:]
	}
	return None
}

// maxEDE bounds the Extended DNS Errors that are passed on from one response, in octets.
const maxEDE = 512

// appendEDEs appends the Extended DNS Errors among options, which are valid, up to maxEDE octets.
func appendEDEs(dst, options []byte) []byte {
	start := len(dst)
	for len(options) >= 4 {
		size := 4 + int(binary.BigEndian.Uint16(options[2:]))
		if binary.BigEndian.Uint16(options) == edeOption && size >= 6 && len(dst)-start+size <= maxEDE {
			dst = append(dst, options[:size]...)
		}
		options = options[size:]
	}
	return dst
}
