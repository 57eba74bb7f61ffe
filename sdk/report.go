package sdk

import (
	"strconv"

	"github.com/weirdns/weir/abi"
)

// Line is a line of text, made piece by piece without allocating. What exceeds 1,024 octets is cut off, and the host cuts what is explained to
// 256. All methods do nothing on nil, which is what [Call.Explain] returns when nobody reads the line.
type Line struct {
	octets [abi.MaxLogSize]byte
	size   int
	level  int // of the log
	// send gives the line to the host. It is a function, and not a case in End, so that a filter which explains and does not log does not
	// import what takes a grant.
	send func(*Line)
}

// There is one line of each kind at a time.
var explained, logged Line

// Explain begins a line that says why this filter decided what it decided, for whoever explains the query. It is nil unless
// somebody does. [Line.End] ends it.
//
//	q.Explain().Text("{rule[3]}: zone ").Name(zone).Text(" -> upstream ").Text(upstream).End()
//
// {rule[3]}, a key of the filter's configuration, is shown with the place of that key in the operator's file.
//
// On the way of a query that matters, the result is compared with nil first, which costs one instruction.
func (c *Call) Explain() *Line {
	if c.flags&abi.FlagExplain == 0 {
		return nil
	}
	explained.size, explained.send = 0, sendExplained
	return &explained
}

// Explained reports whether somebody reads what is explained.
func (c *Call) Explained() bool { return c.flags&abi.FlagExplain != 0 }

// Text appends a string.
func (l *Line) Text(s string) *Line {
	if l != nil {
		l.size += copy(l.octets[l.size:], s)
	}
	return l
}

// Name appends a name in wire format in its presentation format. Braces are escaped, so that no name looks like a place.
func (l *Line) Name(name []byte) *Line {
	if l == nil {
		return nil
	}
	var text [4*MaxName + 1]byte
	for _, c := range AppendText(text[:0], name) {
		switch c {
		case '{':
			l.Text(`\123`)
		case '}':
			l.Text(`\125`)
		default:
			l.size += copy(l.octets[l.size:], []byte{c})
		}
	}
	return l
}

// Int appends a number.
func (l *Line) Int(n int) *Line {
	if l != nil {
		var text [20]byte
		l.size += copy(l.octets[l.size:], strconv.AppendInt(text[:0], int64(n), 10))
	}
	return l
}

// Class appends a class of responses.
func (l *Line) Class(c Class) *Line {
	if l != nil {
		var text [20]byte
		l.size += copy(l.octets[l.size:], AppendClass(text[:0], c))
	}
	return l
}

// Type appends a type.
func (l *Line) Type(t Type) *Line {
	if l != nil {
		var text [20]byte
		l.size += copy(l.octets[l.size:], AppendType(text[:0], t))
	}
	return l
}

// Octets appends text that is in octets, such as the value of a table.
func (l *Line) Octets(text []byte) *Line {
	if l != nil {
		l.size += copy(l.octets[l.size:], text)
	}
	return l
}

// RCODE appends an RCODE.
func (l *Line) RCODE(rcode RCODE) *Line {
	if l != nil {
		var text [20]byte
		l.size += copy(l.octets[l.size:], AppendRCODE(text[:0], rcode))
	}
	return l
}

// End gives the line to the host.
func (l *Line) End() {
	if l != nil {
		l.send(l)
	}
}

func sendExplained(l *Line) { explain(l.octets[:l.size]) }
func sendLogged(l *Line)    { logLine(l.level, l.octets[:l.size]) }

// Level is the level of a line in the log.
type Level uint8

// The levels.
const (
	Debug Level = iota
	Info
	Warning
	Error
)

// Log writes one line, of at most 1,024 octets, to the log under the filter's name. The manifest has to name the grant log.
// The host writes at most 10 lines a second. It allocates nothing.
func Log(level Level, text string) { LogLine(level).Text(text).End() }

// LogLine begins a line for the log, which is like that of [Log]. [Line.End] ends it.
//
//	sdk.LogLine(sdk.Info).Text("blocked ").Name(q.QNAME()).Text(" for ").Address(address).End()
func LogLine(level Level) *Line {
	logged.size, logged.level, logged.send = 0, int(level), sendLogged
	return &logged
}

// Counter is a metric that only grows.
type Counter struct{ number uint32 }

// Histogram is a metric that shows how values are distributed.
type Histogram struct{ number uint32 }

// Counter returns the counter of a name ([a-z][a-z0-9_]{0,63}), which all instances share. The manifest has to name the grant
// metrics. There are at most 32 metrics.
func (c *Config) Counter(name string) Counter {
	return Counter{metric(abi.MetricCounter, []byte(name))}
}

// Histogram returns the histogram of a name, as Counter does.
func (c *Config) Histogram(name string) Histogram {
	return Histogram{metric(abi.MetricHistogram, []byte(name))}
}

// Add adds to the counter; value is not below 0.
func (c Counter) Add(value float64) { metricAdd(c.number, value) }

// Observe puts a value into the histogram.
func (h Histogram) Observe(value float64) { metricAdd(h.number, value) }
