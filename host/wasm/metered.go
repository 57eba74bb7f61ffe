package wasm

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"sync"

	"github.com/weirdns/weir/abi"
	"github.com/weirdns/weir/host/wasm/meter"
)

// A metered module is kept beside the compiled one, since metering a Go module of 2 MB takes as long as loading it compiled does. What
// metering does may change with each weir, so the name of the file has the build ID of this one in it. The file:
//
//	offset size field
//	   0    4   CRC-32C of the rest, little-endian like all of this
//	   4    8   meter.Info.Stack
//	  12        the module
const meteredHeader = 12

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// meter gives the metered module of a code, from the cache if it is there.
func (c *code) meter(module []byte, tables int) ([]byte, error) {
	path := c.meteredPath()
	if path != "" {
		if b, err := os.ReadFile(path); err == nil && len(b) > meteredHeader && binary.LittleEndian.Uint32(b) == crc32.Checksum(b[4:], castagnoli) {
			c.stack = int64(binary.LittleEndian.Uint64(b[4:]))
			return b[meteredHeader:], nil
		}
	}
	l := c.key.limits
	out, info, err := meter.Rewrite(module, meter.Options{
		Fuel:             int64(l.fuel) * startFactor,
		MaxMemoryPages:   l.pages,
		MaxTableElements: uint32(maxElements / max(tables, 1)), // the bound is for all tables together
		Enter:            []string{abi.ExportQuery, abi.ExportResponse},
	})
	if err != nil {
		return nil, err
	}
	c.stack = info.Stack
	if path != "" {
		b := binary.LittleEndian.AppendUint64(make([]byte, 4, meteredHeader+len(out)), uint64(info.Stack))
		b = append(b, out...)
		binary.LittleEndian.PutUint32(b, crc32.Checksum(b[4:], castagnoli))
		writeFile(path, b) // without it the module is metered again
	}
	return out, nil
}

func (c *code) meteredPath() string {
	dir, build := c.runtime.dir.path, buildID()
	if dir == "" || build == "" {
		return ""
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %x %d %d", build, c.key.module, c.key.limits.fuel, c.key.limits.pages))
	return filepath.Join(dir, "metered-"+hex.EncodeToString(sum[:16]))
}

// writeFile writes a file of the cache so that nobody ever sees half of it, if that is possible.
func writeFile(path string, b []byte) {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return
	}
	_, err = f.Write(b)
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // best effort, as all of this
	}
}

// buildID is the ID of this program, which the linker derives from all that went into it; empty if it has none.
var buildID = sync.OnceValue(func() string {
	f, err := elf.Open(executable())
	if err != nil {
		return "" // not Linux
	}
	defer func() { _ = f.Close() }() // it was only read
	s := f.Section(".note.go.buildid")
	if s == nil {
		return ""
	}
	note, err := s.Data()
	if err != nil || len(bytes.Trim(note, "\x00")) < 32 { // empty when it was built with -buildid=
		return ""
	}
	return string(note)
})
