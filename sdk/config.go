package sdk

import (
	"strconv"

	"github.com/weirdns/weir/abi"
	"github.com/weirdns/weir/sdk/json"
)

// Interest is what a filter wants to see. The host does not make calls that nobody wants. Answers to Ask and Forward come
// always.
type Interest uint64

// What a filter can be interested in; see also [Responses].
const (
	Queries      Interest = abi.InterestQuery
	AllResponses Interest = abi.InterestClasses
	// Final says that every query gets Respond or Drop, so that what is below in a chain would never be reached. The host
	// refuses such a chain.
	Final Interest = abi.InterestFinal
	// Lookup has the host look the QNAME up in the zones and lists of names that the filter may use, and then in the filter's own names
	// ([Config.AddName]), before each call of Query: what it found is there then, see [Query.Found] and [Query.FoundName], and if it
	// found nothing, Query is not called, as if it had said [Next].
	Lookup Interest = abi.InterestLookup
)

// Responses is the interest in responses of these classes.
func Responses(classes ...Class) Interest {
	var i Interest
	for _, c := range classes {
		if c > HigherRCODE {
			c = HigherRCODE
		}
		i |= 1 << c
	}
	return i
}

// Config is the configuration of a filter, while it is read. It is a [json.Reader] of the filter's own table in the operator's
// file, with what filters need beside strings and numbers. Wrong values are noted as mistakes and read as zero values, so a
// filter reads on, and the operator sees all mistakes at once.
type Config struct {
	*json.Reader
	filter    string
	upstreams []string
	numbers   map[string]int // of the upstreams and, with a NUL in front, the tables
	tables    []Table
}

// readConfig reads the document of abi/README.md section 4 from the host.
func readConfig(size int) *Config {
	document := make([]byte, size)
	for n := 0; n < size; {
		got := configRead(n, document[n:])
		if got <= 0 {
			document = document[:n]
			break
		}
		n += got
	}
	c := &Config{numbers: map[string]int{}}
	config := []byte("{}")
	r := json.NewReader(document)
	for key := range r.Object() {
		switch key {
		case "filter":
			c.filter = r.String()
		case "config":
			start := r.Offset()
			r.Skip()
			config = document[start:r.Offset()]
		case "upstreams":
			for i := range r.Array() {
				c.upstreams = append(c.upstreams, r.String())
				c.numbers[c.upstreams[i]] = i
			}
		case "tables":
			for i := range r.Array() {
				t := Table{index: uint32(i)}
				for key := range r.Object() {
					switch key {
					case "name":
						t.Name = r.String()
					case "kind":
						t.Kind = r.String()
					}
				}
				c.tables = append(c.tables, t)
				c.numbers["\x00"+t.Name] = i
			}
		}
	}
	r.End()
	c.Reader = json.NewReader(config)
	for _, m := range r.Mistakes() {
		c.MistakeAt("", "the host's document: "+m.Path+": "+m.Text)
	}
	return c
}

// Filter returns the name of the filter in the operator's file.
func (c *Config) Filter() string { return c.filter }

// UpstreamName returns the name of the upstream with an index.
func (c *Config) UpstreamName(i int) string {
	if i < 0 || i >= len(c.upstreams) {
		return "?"
	}
	return c.upstreams[i]
}

// Zone reads a string that is a name, and returns it canonical, in wire format and in memory of its own; nil if it is none.
func (c *Config) Zone() []byte {
	before := len(c.Mistakes())
	text := c.Text()
	if len(c.Mistakes()) > before {
		return nil
	}
	name, wrong := AppendName(make([]byte, 0, len(text)+2), text)
	if wrong != "" {
		c.Mistake("\"" + string(text) + "\" is no name: it " + wrong)
		return nil
	}
	return name
}

// Upstream reads the name of an upstream and returns its index, -1 if there is none of that name. The schema gives the key the
// format weir-upstream.
func (c *Config) Upstream() int {
	before := len(c.Mistakes())
	text := c.Text()
	if len(c.Mistakes()) > before {
		return -1
	}
	if i, ok := c.numbers[string(text)]; ok {
		return i
	}
	c.Mistake("there is no upstream \"" + string(text) + "\"")
	return -1
}

// AddName gives the host a canonical name that the filter wants to find again: a zone that a rule is for, say. With [Lookup],
// [Query.FoundName] then has the longest of them that the QNAME is in. Names are numbered from 0, in the order in which they are added. If the
// filter added the name before, ok is false and number is the one that it has. When the host has no room for more, that is noted as
// a mistake.
func (c *Config) AddName(name []byte) (number int, ok bool) {
	switch n := nameAdd(name); {
	case n >= 0:
		return int(n), true
	case n == abi.NameFull:
		c.Mistake("there are more names than there is room for: write them into a table")
		return 0, true
	default:
		return int(-1 - n), false
	}
}

// Table reads the name of a table of a kind, and returns it, nil if there is no such table. The schema gives the key the
// format weir-table.
func (c *Config) Table(kind string) *Table {
	before := len(c.Mistakes())
	text := c.Text()
	if len(c.Mistakes()) > before {
		return nil
	}
	i, ok := c.numbers["\x00"+string(text)]
	if !ok {
		c.Mistake("there is no table \"" + string(text) + "\"")
		return nil
	}
	t := &c.tables[i]
	if t.Kind != kind {
		c.Mistake("table \"" + t.Name + "\" is of the kind " + t.Kind + ", want one of the kind " + kind)
		return nil
	}
	return t
}

// RCODE reads the name of an RCODE, as in the IANA registry.
func (c *Config) RCODE() RCODE {
	before := len(c.Mistakes())
	text := c.Text()
	if len(c.Mistakes()) > before {
		return 0
	}
	rcode, ok := ParseRCODE(text)
	if !ok {
		c.Mistake("\"" + string(text) + "\" is no RCODE: want a name of the IANA registry, such as NXDOMAIN, SERVFAIL or REFUSED")
	}
	return rcode
}

// Type reads the name of a type, as in the IANA registry, or TYPE123.
func (c *Config) Type() Type {
	before := len(c.Mistakes())
	text := c.Text()
	if len(c.Mistakes()) > before {
		return 0
	}
	t, ok := ParseType(text)
	if !ok {
		c.Mistake("\"" + string(text) + "\" is no type: want a name of the IANA registry, such as AAAA, or TYPE123")
	}
	return t
}

// Seconds reads a duration from 0 to max seconds: a number of seconds, or a string such as "90s", "5m" or "1h30m".
func (c *Config) Seconds(max int64) int64 {
	if c.Kind() == json.Number {
		return c.Int(0, max)
	}
	before := len(c.Mistakes())
	text := c.Text()
	if len(c.Mistakes()) > before {
		return 0
	}
	s, ok := parseSeconds(text, max)
	if !ok {
		c.Mistake("\"" + string(text) + "\": want whole seconds, at most " + strconv.FormatInt(max, 10) + ", as in 30, \"30s\", \"5m\" or \"1h30m\"")
	}
	return s
}

// parseSeconds reads numbers with the units h, m and s.
func parseSeconds(text []byte, max int64) (seconds int64, ok bool) {
	for len(text) > 0 {
		i, n := 0, int64(0)
		for ; i < len(text) && text[i] >= '0' && text[i] <= '9'; i++ {
			if n = n*10 + int64(text[i]-'0'); n > max {
				return 0, false
			}
		}
		if i == 0 || i == len(text) {
			return 0, false
		}
		switch text[i] {
		case 'h':
			n *= 3600
		case 'm':
			n *= 60
		case 's':
		default:
			return 0, false
		}
		if seconds += n; seconds > max {
			return 0, false
		}
		text, ok = text[i+1:], true
	}
	return seconds, ok
}

// maxErrors bounds the text of a configuration error to what its length field holds, and what somebody reads.
const maxErrors = 16 << 10

// errors returns the mistakes as the contract has them, one line KEY: TEXT each, nil if there are none.
func (c *Config) errors() []byte {
	c.End()
	var text []byte
	for i, m := range c.Mistakes() {
		if len(text)+len(m.Path)+len(m.Text)+3 > maxErrors {
			if i == 0 {
				text = append(text, m.Path[:min(len(m.Path), 1024)]...)
				text = append(text, ": is wrong"...)
			}
			break
		}
		if len(text) > 0 {
			text = append(text, '\n')
		}
		text = append(text, m.Path...)
		text = append(text, ':', ' ')
		for j := range len(m.Text) {
			c := m.Text[j]
			if c < ' ' { // a line break in a value of the operator's would look like another mistake
				c = ' '
			}
			text = append(text, c)
		}
	}
	return text
}
