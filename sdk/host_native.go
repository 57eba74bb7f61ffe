//go:build !wasip1

package sdk

import "unsafe"

// Host is the host functions of abi/README.md section 5, for filters that run natively. Sizes and results are those of the
// contract; octets are slices. Package sdktest has one. Natively, an index that is out of range and other faults are for
// the host to report.
type Host interface {
	ConfigRead(offset uint32, p []byte) uint32
	NameAdd(name []byte) int32
	Explain(line []byte)
	Log(level uint32, line []byte)
	Metric(kind uint32, name []byte) uint32
	MetricAdd(number uint32, value float64)
	TableGet(table uint32, key, out []byte) int64
	TableLongest(table uint32, name, out []byte) int64
	TableNext(table uint32, key, out []byte) int64
	TablePrefix(table uint32, address, out []byte) int64
}

// host is what Bind was given last. A module has one host, so this is one variable; whoever binds it sees to it that only
// one filter runs meanwhile.
var host Host

// Bind makes h the host of all filters in this process, and returns the one before.
func Bind(h Host) (before Host) {
	before, host = host, h
	return before
}

func configRead(offset int, p []byte) int { return int(host.ConfigRead(uint32(offset), p)) }
func nameAdd(name []byte) int32           { return host.NameAdd(name) }
func explain(line []byte)                 { host.Explain(line) }
func logLine(level int, line []byte)      { host.Log(uint32(level), line) }
func metric(kind int, name []byte) uint32 { return host.Metric(uint32(kind), name) }
func metricAdd(number uint32, v float64)  { host.MetricAdd(number, v) }

func tableGet(table uint32, key, out []byte) int64      { return host.TableGet(table, key, out) }
func tableLongest(table uint32, name, out []byte) int64 { return host.TableLongest(table, name, out) }
func tableNext(table uint32, key, out []byte) int64     { return host.TableNext(table, key, out) }
func tablePrefix(table uint32, a, out []byte) int64     { return host.TablePrefix(table, a, out) }

// address is 0: a native pointer does not fit into a verdict. [Instance.Octets] has what the verdict points to.
func address([]byte) uint32 { return 0 }

// Frame returns the frame, as octets: what the host writes before a call.
func (i *Instance) Frame() []byte {
	return (*[unsafe.Sizeof(i.call.frame)]byte)(unsafe.Pointer(&i.call.frame))[:]
}

// Octets returns the octets that the last verdict with octets points to.
func (i *Instance) Octets() []byte { return i.call.result }

// Query and Response call the functions of the filter, and return their verdict. A function that the filter does not have says
// Next.
func (i *Instance) Query() uint64 { return uint64(i.filter.Query(Query{&i.call})) }

// Response is described at Query.
func (i *Instance) Response() uint64 { return uint64(i.filter.Response(Response{&i.call})) }

// remember keeps what a verdict points to, for [Instance.Octets].
func (c *Call) remember(octets []byte) { c.result = octets }
