package table

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/miekg/dns"
)

// file is a file as it was when it was looked at, before it was opened.
type file struct {
	path string
	info fs.FileInfo // nil if there was none
}

func look(path string) file {
	info, err := os.Stat(path)
	if err != nil {
		return file{path: path}
	}
	return file{path, info}
}

// changed reports whether there is another file now, or other content in it.
func (f file) changed() bool {
	now := look(f.path)
	if now.info == nil || f.info == nil {
		return now.info != f.info
	}
	return !os.SameFile(now.info, f.info) || now.info.Size() != f.info.Size() || !now.info.ModTime().Equal(f.info.ModTime())
}

// maxEntry bounds the text of one record: the longest RDATA as decimal escapes, with room to spare. The parser holds an entry as a whole.
const maxEntry = 1 << 20

// source is an open file, from which the parser takes octet by octet, so that it is known where it is.
// It is an [fs.File] for what is included.
type source struct {
	file  *os.File
	in    *bufio.Reader
	path  string
	err   error // that stopped reading, other than its end
	close func()

	line  int  // of the last octet that was read
	first int  // line where the present entry begins; 0 before it does
	size  int  // octets of the present entry
	ended bool // the last octet ended a line

	skipping    bool   // in a comment or directive in front of the entry
	directive   []byte // the line of the directive
	generating  bool   // the entries come from a $GENERATE, no more from the file
	generateTTL bool
	ttl         uint32 // of the last $TTL, or unset
}

// maxDirective is how much of a directive is looked at.
const maxDirective = 1024

// openSource opens a regular file: others, such as pipes, would never end. name is what open wants for its path.
func openSource(f file, name string, open func(string) (*os.File, error)) (*source, error) {
	if f.info != nil && !f.info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: is not a regular file", f.path)
	}
	o, err := open(name)
	if err != nil {
		return nil, err
	}
	return &source{file: o, in: bufio.NewReaderSize(o, 64<<10), path: f.path, line: 1, ttl: unset}, nil
}

// next begins an entry.
func (s *source) next() { s.first, s.size, s.skipping = 0, 0, false }

// ReadByte gives the parser an octet. It implements [io.ByteReader], without which the parser would read ahead.
func (s *source) ReadByte() (byte, error) {
	if s.err != nil {
		return 0, s.err
	}
	c, err := s.in.ReadByte()
	if err != nil {
		if !errors.Is(err, io.EOF) {
			s.err = err
		}
		if len(s.directive) > 0 {
			s.endDirective()
			s.directive = s.directive[:0]
		}
		return 0, err
	}
	s.generating = false
	begins := s.ended || s.size == 0 && s.line == 1
	if s.ended {
		s.line++
	}
	s.ended = c == '\n'
	s.size++
	if s.first == 0 {
		s.ahead(c, begins)
	}
	if s.size > maxEntry {
		s.err = fmt.Errorf("the entry has more than %d octets: look for a missing quote or parenthesis", maxEntry)
		return 0, s.err
	}
	return c, nil
}

// ahead looks for where an entry begins, behind comments, empty lines and directives.
func (s *source) ahead(c byte, begins bool) {
	switch {
	case c == '\n':
		if len(s.directive) > 0 {
			s.endDirective()
		}
		s.skipping, s.size, s.directive = false, 0, s.directive[:0]
	case s.skipping:
		if len(s.directive) > 0 && len(s.directive) < maxDirective {
			s.directive = append(s.directive, c)
		}
	case c == ';':
		s.skipping = true
	case c == '$' && begins:
		s.skipping = true
		s.directive = append(s.directive[:0], c)
	case c != ' ' && c != '\t' && c != '\r':
		s.first = s.line
	}
}

// endDirective notes a $TTL, and a $GENERATE and whether it has a TTL of its own.
func (s *source) endDirective() {
	fields := strings.Fields(string(s.directive))
	if strings.EqualFold(fields[0], "$TTL") && len(fields) > 1 {
		// The parser knows how a TTL is written. If it doesn't like this one, it says so itself.
		if rr, err := dns.NewRR(". " + fields[1] + " IN A 0.0.0.0"); err == nil && rr != nil {
			s.ttl = rr.Header().Ttl
		}
	}
	if !strings.EqualFold(fields[0], "$GENERATE") {
		return
	}
	s.generating, s.generateTTL = true, false
	for _, field := range fields[min(3, len(fields)):min(5, len(fields))] { // behind the range and the owner
		if c := field[0]; c >= '0' && c <= '9' {
			s.generateTTL = true
		} else if !strings.EqualFold(field, "IN") {
			break
		}
	}
}

// Read, Stat and Close make it an [fs.File], as the parser wants it.
func (s *source) Read(p []byte) (int, error) {
	for i := range p {
		c, err := s.ReadByte()
		if err != nil {
			return i, err
		}
		p[i] = c
	}
	return len(p), nil
}

// Stat implements [fs.File].
func (s *source) Stat() (fs.FileInfo, error) { return s.file.Stat() }

// Close implements [fs.File]. Only the parser calls it, for an included file.
func (s *source) Close() error {
	s.close()
	return s.file.Close()
}
