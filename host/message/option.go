package message

import "encoding/binary"

// Options of EDNS that a listener answers.
const (
	OptionNSID      = 3  // RFC 5001
	OptionCookie    = 10 // RFC 7873
	OptionKeepalive = 11 // RFC 7828
	OptionPadding   = 12 // RFC 7830
)

// NextOption takes the first option off options in wire format, which have been checked. ok is false when there is none.
func NextOption(options []byte) (number uint16, data, rest []byte, ok bool) {
	if len(options) < 4 {
		return 0, nil, nil, false
	}
	end := 4 + int(binary.BigEndian.Uint16(options[2:]))
	return binary.BigEndian.Uint16(options), options[4:end], options[end:], true
}

// HasOption reports whether the OPT of q has an option of this number.
func (q *Query) HasOption(number uint16) bool {
	for b := q.Options; len(b) >= 4; b = b[4+int(binary.BigEndian.Uint16(b[2:])):] {
		if binary.BigEndian.Uint16(b) == number {
			return true
		}
	}
	return false
}

// AddOption appends an option to the OPT of msg, which is what [Response.Finish] returned last, and returns the message, which may be in
// another buffer then. Without an OPT, and where there is no room for the option in a DNS message, msg stays as it is.
func (r *Response) AddOption(msg []byte, number uint16, data []byte) []byte {
	if r.rdata == 0 || len(msg)+4+len(data) > MaxSize {
		return msg
	}
	msg = binary.BigEndian.AppendUint16(msg, number)
	msg = binary.BigEndian.AppendUint16(msg, uint16(len(data)))
	msg = append(msg, data...)
	binary.BigEndian.PutUint16(msg[r.rdata-2:], uint16(len(msg)-r.rdata))
	return msg
}

// padding is what messages are padded with (RFC 7830 section 3: octets of zero).
var padding [MaxSize]byte

// Pad appends the option Padding to msg as AddOption does, so that the size of the message is a multiple of block octets (RFC 8467 section 4.1),
// or the largest that there is.
func (r *Response) Pad(msg []byte, block int) []byte {
	size := (len(msg) + 4 + block - 1) / block * block
	return r.AddOption(msg, OptionPadding, padding[:max(min(size, MaxSize)-len(msg)-4, 0)])
}
