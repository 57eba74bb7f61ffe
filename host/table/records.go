package table

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// position is a line of a file.
type position struct {
	file string
	line int
}

func (p position) String() string { return fmt.Sprintf("%s:%d", p.file, p.line) }

// errorf is an error about a line: "FILE:LINE: what is wrong; what would be right".
func (p position) errorf(format string, args ...any) error {
	return fmt.Errorf("%s: %s", p, fmt.Sprintf(format, args...))
}

// records is what was read from the files of a source, before it is indexed. It is packed like the index: a million structs, each with its
// strings, would be a gigabyte. The offsets are those of:
//
//	offset size field
//	   0    4   line
//	   4    2   number of the file
//	   6    2   type; 0 in a list of names
//	   8    4   TTL
//	  12    2   octets of the order key
//	  14    4   octets of the data
//	  18    k   order key of the owner, see name.go
//	18+k        data: RDATA, or text
type records struct {
	arena   []byte
	offsets []uint32
	files   []string
	limit   int64
}

const recordHeader = 18

var errTooLarge = errors.New("the data of the table exceed max_octets")

// add adds a record.
func (r *records) add(at position, rrtype uint16, ttl uint32, owner, data []byte) error {
	if int64(len(r.arena)+recordHeader+2*len(owner)+len(data)) > r.limit {
		return at.errorf("%v, which is %d: raise it, or split the table", errTooLarge, r.limit)
	}
	file := slices.Index(r.files, at.file)
	if file < 0 {
		if file = len(r.files); file > 0xFFFF {
			return at.errorf("more than %d files are included", 0xFFFF)
		}
		r.files = append(r.files, at.file)
	}
	offset := len(r.arena)
	r.offsets = append(r.offsets, uint32(offset))
	a := binary.LittleEndian.AppendUint32(r.arena, uint32(at.line))
	a = binary.LittleEndian.AppendUint16(a, uint16(file))
	a = binary.LittleEndian.AppendUint16(a, rrtype)
	a = binary.LittleEndian.AppendUint32(a, ttl)
	a = append(a, 0, 0)
	a = binary.LittleEndian.AppendUint32(a, uint32(len(data)))
	a = appendOrderKey(a, owner)
	binary.LittleEndian.PutUint16(a[offset+12:], uint16(len(a)-offset-recordHeader))
	r.arena = append(a, data...)
	return nil
}

func (r *records) at(offset uint32) position {
	a := r.arena[offset:]
	return position{r.files[binary.LittleEndian.Uint16(a[4:])], int(binary.LittleEndian.Uint32(a))}
}

func (r *records) rrtype(offset uint32) uint16 { return binary.LittleEndian.Uint16(r.arena[offset+6:]) }

func (r *records) ttl(offset uint32) uint32 { return binary.LittleEndian.Uint32(r.arena[offset+8:]) }

func (r *records) key(offset uint32) []byte {
	a := r.arena[offset:]
	return a[recordHeader : recordHeader+int(binary.LittleEndian.Uint16(a[12:]))]
}

func (r *records) data(offset uint32) []byte {
	a := r.arena[offset:]
	begin := recordHeader + int(binary.LittleEndian.Uint16(a[12:]))
	return a[begin : begin+int(binary.LittleEndian.Uint32(a[14:]))]
}

// sort brings the records into the canonical order of their owners, those of an owner in ascending order of type, and those of an RRset in the
// order in which they were read.
func (r *records) sort() {
	slices.SortFunc(r.offsets, func(a, b uint32) int {
		if c := bytes.Compare(r.key(a), r.key(b)); c != 0 {
			return c
		}
		if c := cmp.Compare(r.rrtype(a), r.rrtype(b)); c != 0 {
			return c
		}
		return cmp.Compare(a, b)
	})
}

// owners calls f for the records of each owner, in order.
func (r *records) owners(f func(key []byte, offsets []uint32) error) error {
	for rest := r.offsets; len(rest) > 0; {
		key, n := r.key(rest[0]), 1
		for n < len(rest) && bytes.Equal(r.key(rest[n]), key) {
			n++
		}
		if err := f(key, rest[:n]); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}
