package table

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/host/message"
)

// unset is the TTL of records that don't have one, which the parser doesn't tell otherwise. A TTL above 2^31-1 says nothing (RFC 2181
// section 8), so no file needs this one.
const unset = 0xFFFF_F0F0

// maxIncludes bounds how many files a zone file includes. The parser bounds how deep they are nested, but files that include themselves a few
// times each would still be read for days.
const maxIncludes = 1000

// zoneParser reads the records of a zone file and of the files that it includes.
type zoneParser struct {
	parser  *dns.ZoneParser
	sources []*source // open files, from the zone file to the innermost include
	closed  []*source // since the last record, the innermost first: the parser closes files before it tells what is wrong in them
	files   []file    // all that were read, or looked for
	root    *os.Root  // of what may be included
	dir     string    // of the zone file
	minimum uint32    // of the SOA record
	origin  bool      // there is an origin for relative names
	packed  [2 * message.MaxSize]byte
}

// parseZone adds the records of a zone file to r, and returns the files that it read, even if there is an error.
func parseZone(ctx context.Context, r *records, path, origin string) (files []file, err error) {
	p := &zoneParser{dir: filepath.Dir(path), minimum: unset, origin: origin != ""}
	p.files = append(p.files, look(path))
	main, err := openSource(p.files[0], path, os.Open)
	if err != nil {
		return p.files, err
	}
	p.sources = append(p.sources, main)
	defer func() {
		for _, s := range p.sources {
			s.file.Close() //nolint:errcheck // it was only read
		}
	}()
	if p.root, err = os.OpenRoot(p.dir); err != nil {
		return p.files, fmt.Errorf("%s: open its directory for $INCLUDE: %w", path, err)
	}
	defer p.root.Close()
	// The parser knows files by their path below dir, since it joins the path of an include with that of the file it is in.
	p.parser = dns.NewZoneParser(main, origin, filepath.Base(path))
	p.parser.SetDefaultTTL(unset)
	p.parser.SetIncludeAllowed(true) // RFC 1035 section 5.1; root holds it to files beside and below the zone file
	p.parser.SetIncludeFS(p)
	for n := 0; ; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return p.files, ctx.Err()
		}
		p.top().next()
		p.closed = p.closed[:0]
		rr, ok := p.parser.Next()
		if !ok || p.top().err != nil { // the parser takes any error for the end of the file
			return p.files, p.failure()
		}
		if err := p.take(r, rr); err != nil {
			return p.files, err
		}
	}
}

// take adds a record, if it can be in a zone.
func (p *zoneParser) take(r *records, rr dns.RR) error {
	h, at := rr.Header(), p.position()
	if p.top().generating && !p.top().generateTTL {
		h.Ttl = p.ttl() // the parser gives an hour, whatever $TTL says
	}
	switch {
	case h.Name == "":
		return at.errorf("the first record has no owner: write a name at the beginning of the line")
	case h.Class != dns.ClassINET:
		return at.errorf("the class is %s: only IN is served", dns.Class(h.Class))
	case h.Rrtype == 0 || h.Rrtype == dns.TypeOPT || h.Rrtype >= 128 && h.Rrtype <= 255:
		// RFC 6895 section 3.1
		return at.errorf("%s is a type of questions and messages, not of data: delete the record", dns.Type(h.Rrtype))
	}
	if soa, ok := rr.(*dns.SOA); ok && p.minimum == unset {
		p.minimum = soa.Minttl
	}
	if h.Ttl == unset {
		// Without $TTL, what comes before any TTL has that of the SOA record, as everywhere. RFC 2308 section 4
		if h.Ttl = p.minimum; h.Ttl == unset {
			return at.errorf("there is no TTL: write one, or $TTL above")
		}
	}
	if h.Ttl > 1<<31-1 {
		h.Ttl = 0 // RFC 2181 section 8
	}
	declared := int(h.Rdlength) // in the notation of RFC 3597, else 0
	end, err := dns.PackRR(rr, p.packed[:], 0, nil, false)
	if err != nil {
		return at.errorf("%s: the data of the %s record don't fit into a record: %s", h.Name, dns.Type(h.Rrtype), plain(err))
	}
	size := int(h.Rdlength)
	_, known := dns.TypeToRR[h.Rrtype]
	switch {
	case known && declared > 0 && declared != size:
		return at.errorf("%s: %d octets are not the data of a record of type %s", h.Name, declared, dns.Type(h.Rrtype))
	case known && size == 0 && h.Rrtype != dns.TypeAPL && h.Rrtype != dns.TypeNULL:
		return at.errorf("%s: the %s record has no data", h.Name, dns.Type(h.Rrtype))
	}
	packed := p.packed[:end]
	owner := packed[:end-size-10] // type, class, TTL and RDLENGTH are between
	return r.add(at, h.Rrtype, h.Ttl, message.AppendCanonical(owner[:0], owner), packed[end-size:])
}

func (p *zoneParser) top() *source { return p.sources[len(p.sources)-1] }

// ttl is what the last $TTL says, in this file or in those that include it (RFC 2308 section 4), or unset.
func (p *zoneParser) ttl() uint32 {
	for _, s := range slices.Backward(p.sources) {
		if s.ttl != unset {
			return s.ttl
		}
	}
	return unset
}

// position is where the present record begins.
func (p *zoneParser) position() position {
	s := p.top()
	if s.first > 0 {
		return position{s.path, s.first}
	}
	return position{s.path, s.line}
}

// Open opens a file for $INCLUDE, by its path below the directory of the zone file. It implements [fs.FS] for the parser.
func (p *zoneParser) Open(name string) (fs.File, error) {
	f := look(filepath.Join(p.dir, name))
	if len(p.files) > maxIncludes {
		return nil, &includeError{f.path, fmt.Errorf("these are more than %d files", maxIncludes)}
	}
	p.files = append(p.files, f) // also if it isn't there: that it comes to be there is a change
	s, err := openSource(f, name, p.root.Open)
	if err != nil {
		return nil, &includeError{f.path, err}
	}
	s.close = func() { p.sources, p.closed = p.sources[:len(p.sources)-1], append(p.closed, s) }
	p.sources = append(p.sources, s)
	return s, nil
}

// includeError is why a file could not be included.
type includeError struct {
	path string
	err  error
}

func (e *includeError) Error() string {
	reason := e.err
	if inner, ok := errors.AsType[*fs.PathError](reason); ok {
		reason = inner.Err
	}
	return fmt.Sprintf("can't include %s: %v: name a file beside or below the zone file", e.path, reason)
}

// failure returns why the parser stopped, nil at the end of the file.
func (p *zoneParser) failure() error {
	sources := append(p.closed, p.top())
	for _, s := range sources {
		if s.err != nil {
			return position{s.path, s.line}.errorf("%v", s.err)
		}
	}
	err := p.parser.Err()
	if err == nil {
		return nil
	}
	at, text := p.position(), plain(err)
	if m := parseError.FindStringSubmatch(err.Error()); m != nil {
		in := p.top()
		if i := slices.IndexFunc(sources, func(s *source) bool { return s.path == filepath.Join(p.dir, m[1]) }); i >= 0 {
			in = sources[i]
		}
		at = position{in.path, in.line}
		if !in.generating { // else the line is one of those that were generated
			at.line, _ = strconv.Atoi(m[4]) // a number: the expression says so
		}
		token, _ := strconv.Unquote(m[3])
		text = m[2]
		switch token = strings.TrimSuffix(token, "\n"); {
		case token == "":
			text += ": the line ends too early"
		case !p.origin && !strings.HasSuffix(token, ".") && strings.HasPrefix(text, "bad "):
			text += fmt.Sprintf(" %q: if it is a relative name, write $ORIGIN above, or set origin", token)
		default:
			text += fmt.Sprintf(" %q: write [NAME] [TTL] [IN] TYPE DATA", token)
		}
	}
	if include, ok := errors.AsType[*includeError](err); ok {
		text = include.Error()
	}
	return at.errorf("%s", text)
}

// parseError takes the text of a [dns.ParseError] apart, whose fields are private: file below the directory, text, quoted token, line.
var parseError = regexp.MustCompile(`(?s)^(?:(.*?): )?dns: (.*): ("(?:[^"\\]|\\.)*") at line: (\d+):\d+$`)

// plain returns the text of an error without the name of the parser's package.
func plain(err error) string { return strings.TrimPrefix(err.Error(), "dns: ") }
