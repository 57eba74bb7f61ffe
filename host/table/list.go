package table

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"os"
	"strings"

	"github.com/weirdns/weir/host/message"
)

// maxLine bounds a line of a list: a name in escapes, and a text of a size that filters have room for.
const maxLine = 8192

// lines calls f for each line of a list that says something, with its first word and the text behind it. A comment begins with a # at the
// beginning of a line or after white space. Errors of f get the position.
func lines(ctx context.Context, list file, f func(at position, word, text string) error) error {
	s, err := openSource(list, list.path, os.Open)
	if err != nil {
		return err
	}
	defer s.file.Close()
	scanner := bufio.NewScanner(s.file)
	scanner.Buffer(nil, maxLine)
	at := position{file: list.path}
	for scanner.Scan() {
		at.line++
		if at.line%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		word, text := entry(scanner.Text())
		if word == "" {
			continue
		}
		if err := f(at, word, text); err != nil {
			return err
		}
	}
	if err := scanner.Err(); err != nil {
		at.line++
		if errors.Is(err, bufio.ErrTooLong) {
			return at.errorf("the line has more than %d octets: write one entry on each line", maxLine)
		}
		return at.errorf("%v", err)
	}
	return nil
}

// entry returns the first word of a line and the text behind it, without a comment.
func entry(line string) (word, text string) {
	for i := range len(line) {
		if line[i] == '#' && (i == 0 || line[i-1] == ' ' || line[i-1] == '\t') {
			line = line[:i]
			break
		}
	}
	line = strings.TrimSpace(line)
	if i := strings.IndexAny(line, " \t"); i >= 0 {
		return line[:i], strings.TrimSpace(line[i:])
	}
	return line, ""
}

// loadNames makes an index of a list of names.
func loadNames(ctx context.Context, list file, limit int64) (*index, error) {
	r := &records{limit: limit}
	err := lines(ctx, list, func(at position, word, text string) error {
		name, err := message.ParseName(word)
		if err != nil {
			return at.errorf("%v: write a name, and behind it a text if there is one", err)
		}
		return r.add(at, 0, 0, name, []byte(text))
	})
	if err != nil {
		return nil, err
	}
	r.sort()
	b := newBuilder(false, int64(len(r.arena)), limit)
	var name []byte
	err = r.owners(func(key []byte, offsets []uint32) error {
		for _, other := range offsets[1:] {
			if !bytes.Equal(r.data(other), r.data(offsets[0])) {
				return r.at(other).errorf("%s is in %s with another text: delete one of them", keyString(key), r.at(offsets[0]))
			}
		}
		name = appendName(name[:0], key)
		b.begin(name, labelCount(key), false)
		b.x.arena = append(b.x.arena, r.data(offsets[0])...)
		if !b.end() {
			return r.at(offsets[0]).errorf("%v, which is %d: raise it, or split the table", errTooLarge, limit)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return b.index(), nil
}
