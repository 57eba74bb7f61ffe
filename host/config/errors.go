package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Error is one mistake in the configuration.
type Error struct {
	// Position is where: "weir.toml:12", with the column behind it where TOML itself is broken, or the name of an environment variable.
	Position string
	// Line and Column count from 1, the column in octets. They are 0 for an environment variable.
	Line, Column int
	// Key is the path of the key at fault, such as "upstream.corp.servers[1]", or empty.
	Key string
	// Text says what is wrong and what would be right.
	Text string
}

// Error returns the mistake as one line: "weir.toml:12: upstream.corp.policy: ...".
func (e Error) Error() string {
	if e.Key == "" {
		return e.Position + ": " + e.Text
	}
	return e.Position + ": " + e.Key + ": " + e.Text
}

// Errors are all mistakes that were found, in the order of the file; those in environment variables come last.
type Errors []Error

// Error returns one line for each mistake.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i := range e {
		lines[i] = e[i].Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.As find each [Error].
func (e Errors) Unwrap() []error {
	errs := make([]error, len(e))
	for i := range e {
		errs[i] = e[i]
	}
	return errs
}

// Err returns nil when there are no mistakes, and else e in the order of the file.
func (e Errors) Err() error {
	if len(e) == 0 {
		return nil
	}
	return e.sorted()
}

// sorted returns e in the order of the file, each mistake once.
func (e Errors) sorted() Errors {
	slices.SortStableFunc(e, func(a, b Error) int {
		if (a.Line == 0) != (b.Line == 0) {
			return cmp.Compare(b.Line, a.Line)
		}
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Position, b.Position),
			cmp.Compare(a.Key, b.Key), cmp.Compare(a.Text, b.Text))
	})
	return slices.Compact(e)
}

// Unknown is the text of an error for a name that nothing has: what is the kind of thing, such as "upstream", and known are the
// names that there are, in the order in which to list them.
func Unknown(what, name string, known []string) string {
	text := fmt.Sprintf("there is no %s %q: ", what, name)
	switch best := closest(name, known); {
	case best != "":
		return text + "did you mean `" + best + "`?"
	case len(known) == 0:
		return text + "define it as [" + what + "." + quoteKey(name) + "]"
	default:
		return text + "define it as [" + what + "." + quoteKey(name) + "], or write one of " + list(known)
	}
}

// list writes names for a reader, not too many.
func list(names []string) string {
	const most = 40
	if len(names) > most {
		return strings.Join(names[:most], ", ") + ", ..."
	}
	return strings.Join(names, ", ")
}

// closest returns the name that was probably meant, or "": the one with the fewest typing errors, at most one in three characters.
func closest(name string, known []string) string {
	const longest = 64 // of a name that somebody mistyped; bounds the work
	if len(name) > longest {
		return ""
	}
	best, least := "", max(1, len(name)/3)+1
	for _, k := range known {
		if len(k) > longest {
			continue
		}
		if d := distance(strings.ToLower(name), strings.ToLower(k)); d < least {
			best, least = k, d
		}
	}
	return best
}

// distance counts the letters to insert, delete, replace, or swap with the next, to get from a to b: the optimal string alignment.
func distance(a, b string) int {
	rows := [3][]int{make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)}
	older, old, row := rows[0], rows[1], rows[2]
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		older, old, row = old, row, older
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(old[j+1]+1, row[j]+1, old[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], older[j-1]+1)
			}
		}
	}
	return row[len(b)]
}
