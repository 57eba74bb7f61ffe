package wasm

import (
	"bytes"
	"encoding/binary"
	"errors"

	"github.com/weirdns/weir/abi"
	"github.com/weirdns/weir/host/message"
	"github.com/weirdns/weir/host/table"
)

// names are the own names of a filter, abi/README.md section 4. The first instance makes the table, the others must add the same.
type names struct {
	table Snapshot // nil while the first instance adds, and if there are none
	count int      // of the table

	// While the first instance adds.
	open   bool
	list   [][]byte
	number map[string]int
	octets int
}

var errNames = errors.New("added other own names than the first instance: configure has to do the same each time")

// add adds a name for an instance that added so many before, and returns the result of name_add.
func (n *names) add(name []byte, before int) (result int32, err error) {
	if !n.open {
		v, ok := n.get(name)
		switch {
		case !ok || v > before:
			return 0, errNames
		case v < before:
			return int32(-1 - v), nil
		}
		return int32(v), nil
	}
	if v, ok := n.number[string(name)]; ok {
		return int32(-1 - v), nil
	}
	if n.octets += len(name) + abi.NameOverhead; n.octets > abi.MaxNameOctets {
		n.octets -= len(name) + abi.NameOverhead
		return abi.NameFull, nil
	}
	name = bytes.Clone(name)
	n.number[string(name)] = len(n.list)
	n.list = append(n.list, name)
	return int32(before), nil
}

func (n *names) get(name []byte) (number int, ok bool) {
	if n.table == nil {
		return 0, false
	}
	v, ok := n.table.Get(name)
	if !ok {
		return 0, false
	}
	return int(binary.LittleEndian.Uint32(v)), true
}

// begin is called before the first instance is made.
func (n *names) begin() { n.open, n.number = true, make(map[string]int) }

// end makes the table.
func (n *names) end() {
	if len(n.list) > 0 {
		n.table, n.count = table.Numbered(n.list), len(n.list)
	}
	n.open, n.list, n.number = false, nil, nil
}

// nameAdd is the host function name_add.
func (i *instance) nameAdd(stack []uint64) {
	if i.document == nil {
		i.end(causeHost, errHostUse)
	}
	name := i.at(stack[0], stack[1])
	if !canonical(name) {
		i.end(causeHost, errHostUse)
	}
	result, err := i.filter.names.add(name, i.added)
	if err != nil {
		i.end(causeHost, err)
	}
	if result >= 0 {
		i.added++
	}
	stack[0] = uint64(uint32(result))
}

// canonical reports whether octets are a name in wire format, without upper case.
func canonical(name []byte) bool {
	if len(name) > message.MaxName {
		return false
	}
	for i := 0; i < len(name); {
		end := i + 1 + int(name[i])
		if end == i+1 {
			return end == len(name)
		}
		if name[i] > message.MaxLabel || end > len(name) {
			return false
		}
		for _, c := range name[i+1 : end] {
			if c >= 'A' && c <= 'Z' {
				return false
			}
		}
		i = end
	}
	return false
}
