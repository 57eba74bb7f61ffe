package sdk

import "unsafe"

// The border of a module: what it imports and exports. abi/README.md sections 1 and 5. The linker leaves out imports that
// nothing in a filter calls, so a module imports what its manifest has to name, and no more.

//go:wasmimport weir config_read
//go:noescape
func hostConfigRead(offset uint32, p unsafe.Pointer, size uint32) uint32

//go:wasmimport weir name_add
//go:noescape
func hostNameAdd(p unsafe.Pointer, size uint32) int32

//go:wasmimport weir explain
//go:noescape
func hostExplain(p unsafe.Pointer, size uint32)

//go:wasmimport weir log
//go:noescape
func hostLog(level uint32, p unsafe.Pointer, size uint32)

//go:wasmimport weir metric
//go:noescape
func hostMetric(kind uint32, p unsafe.Pointer, size uint32) uint32

//go:wasmimport weir metric_add
func hostMetricAdd(number uint32, value float64)

//go:wasmimport weir table_get
//go:noescape
func hostTableGet(table uint32, key unsafe.Pointer, keySize uint32, out unsafe.Pointer, outSize uint32) int64

//go:wasmimport weir table_longest
//go:noescape
func hostTableLongest(table uint32, name unsafe.Pointer, nameSize uint32, out unsafe.Pointer, outSize uint32) int64

//go:wasmimport weir table_next
//go:noescape
func hostTableNext(table uint32, key unsafe.Pointer, keySize uint32, out unsafe.Pointer, outSize uint32) int64

//go:wasmimport weir table_prefix
//go:noescape
func hostTablePrefix(table uint32, key unsafe.Pointer, keySize uint32, out unsafe.Pointer, outSize uint32) int64

func pointer(b []byte) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(b)) }

func configRead(offset int, p []byte) int {
	return int(hostConfigRead(uint32(offset), pointer(p), uint32(len(p))))
}

func nameAdd(name []byte) int32 { return hostNameAdd(pointer(name), uint32(len(name))) }

func explain(line []byte) { hostExplain(pointer(line), uint32(len(line))) }

func logLine(level int, line []byte) { hostLog(uint32(level), pointer(line), uint32(len(line))) }

func metric(kind int, name []byte) uint32 {
	return hostMetric(uint32(kind), pointer(name), uint32(len(name)))
}

func metricAdd(number uint32, value float64) { hostMetricAdd(number, value) }

func tableGet(table uint32, key, out []byte) int64 {
	return hostTableGet(table, pointer(key), uint32(len(key)), pointer(out), uint32(len(out)))
}

func tableLongest(table uint32, name, out []byte) int64 {
	return hostTableLongest(table, pointer(name), uint32(len(name)), pointer(out), uint32(len(out)))
}

func tableNext(table uint32, key, out []byte) int64 {
	return hostTableNext(table, pointer(key), uint32(len(key)), pointer(out), uint32(len(out)))
}

func tablePrefix(table uint32, address, out []byte) int64 {
	return hostTablePrefix(table, pointer(address), uint32(len(address)), pointer(out), uint32(len(out)))
}

// address is where octets are in the memory that the host sees. Go does not move them.
func address(b []byte) uint32 { return uint32(uintptr(pointer(b))) }

// remember does nothing: between a verdict and its host, nothing in this instance runs that could free or move the octets.
func (*Call) remember([]byte) {}

//go:wasmexport weir_abi_1
func exportABI() uint32 { return uint32(uintptr(unsafe.Pointer(&registered.call.frame))) }

//go:wasmexport configure
func exportConfigure(size uint32) uint64 { return registered.Configure(int(size)) }

//go:wasmexport query
func exportQuery() uint64 { return uint64(registered.filter.Query(Query{&registered.call})) }

//go:wasmexport response
func exportResponse() uint64 { return uint64(registered.filter.Response(Response{&registered.call})) }
