package sdk

import (
	"runtime"

	"github.com/weirdns/weir/abi"
)

// Filter is the functions of a filter. Each is optional, but for one of Query and Response. Functions usually are methods of a
// value that holds what Configure made of the configuration:
//
//	func newFilter() sdk.Filter {
//		f := new(filter)
//		return sdk.Filter{Configure: f.configure, Query: f.query}
//	}
type Filter struct {
	// Configure reads the configuration, once, before anything else, and says what the filter wants to see. What it notes as a
	// mistake is shown to the operator, and the filter is not used. Without Configure, the filter has no configuration
	// and sees everything that it has functions for.
	Configure func(*Config) Interest

	// Query gives a verdict for a query on its way down.
	Query func(Query) Verdict

	// Response gives a verdict for a response on its way up.
	Response func(Response) Verdict
}

// Instance is a filter with its frame: to a host, an instance of a module. The exports of a module drive the one that is
// registered; natively, package sdktest drives as many as a test makes.
type Instance struct {
	filter Filter
	call   Call
	errors []byte // what the result of configure points to
}

// registered is the instance that the exports of this module drive.
var registered = Instance{filter: complete(Filter{})}

// Register makes f the filter of this module. It is called in an init function, once.
func Register(f Filter) { registered.filter = complete(f) }

// NewInstance returns an instance of a filter, for a native host.
func NewInstance(f Filter) *Instance { return &Instance{filter: complete(f)} }

// complete adds the functions that f lacks, so that a call needs no check.
func complete(f Filter) Filter {
	if f.Configure == nil {
		var all Interest
		if f.Query != nil {
			all |= Queries
		}
		if f.Response != nil {
			all |= AllResponses
		}
		f.Configure = func(c *Config) Interest {
			for range c.Object() {
				c.Unknown()
			}
			return all
		}
	}
	if f.Query == nil {
		f.Query = func(Query) Verdict { return Next }
	}
	if f.Response == nil {
		f.Response = func(Response) Verdict { return Next }
	}
	return f
}

// Configure has the filter read a configuration document of size octets, and returns the result of abi/README.md section 4.
func (i *Instance) Configure(size int) uint64 {
	c := readConfig(size)
	interest := i.filter.Configure(c)
	i.call.own = abi.None // no table is found
	if interest&Lookup != 0 {
		i.call.own = uint16(len(c.tables))
	}
	if text := c.errors(); text != nil {
		i.errors, i.call.result = text, text
		return 1<<63 | uint64(len(text))<<32 | uint64(address(text))
	}
	// What reading a large configuration left behind goes now, in one piece: from here on nothing is allocated, so no collection
	// starts in a query, and none that began in here goes on in one. A small one can't have begun one: the first comes with a
	// heap of 4 MB, and a collection takes a third of the time that an instance needs to start.
	c = nil
	if size > smallConfig {
		runtime.GC()
	}
	return uint64(interest)
}

// smallConfig is the size in octets of a configuration document that leaves far less than 4 MB behind.
const smallConfig = 32 << 10
