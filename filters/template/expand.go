package main

import (
	"strconv"
	"strings"

	"github.com/weirdns/weir/sdk"
)

// Templates are a part of Go's text/template that means the same there: text, and actions that put in a value. They are taken apart once;
// text/template itself with all that it imports is as large as two filters, and allocates with each answer.

// segment is a piece of a template: text, or a value.
type segment struct {
	kind  kind
	text  string // text
	index int    // label, group
}

type kind uint8

const (
	textKind kind = iota
	nameKind
	zoneKind
	typeKind
	classKind
	clientKind
	labelKind
	groupKind
)

// fields are the values without an index.
var fields = map[string]kind{
	".Name": nameKind, ".Zone": zoneKind, ".Type": typeKind, ".Class": classKind, ".Client": clientKind,
	".Remote": clientKind, // its name in CoreDNS
}

const actionList = "want .Name, .Zone, .Type, .Class, .Client, index .Labels N, index .Match N, .Group.NAME or index .Group \"NAME\""

// values are what the actions of a query stand for.
type values struct {
	name, client []byte // the name in wire format
	zone         int    // octets of the zone
	text         []byte // of the name, nil if it is too long
	qtype        sdk.Type
	class        uint16
}

func (v *values) set(q sdk.Query, zone int) {
	client, _ := q.Client()
	*v = values{name: q.QNAME(), zone: zone, client: client, qtype: q.QTYPE(), class: q.QCLASS()}
}

// parse takes a template apart. group finds the number of a group of the regular expression, by its number or name; it is nil if there is no
// expression. wrong says what is wrong with the template, if it is none.
func parse(s string, group func(name string, byNumber bool) (n int, wrong string)) (parts []segment, wrong string) {
	trim := false // of white space at the beginning of the text that comes
	for {
		text, rest, action := strings.Cut(s, "{{")
		if trim {
			text = strings.TrimLeft(text, space)
		}
		if !action {
			return appendText(parts, text), ""
		}
		if trimmed, ok := strings.CutPrefix(rest, "-"); ok && trimmed != "" && strings.Contains(space, trimmed[:1]) {
			text, rest = strings.TrimRight(text, space), trimmed
		}
		parts = appendText(parts, text)
		inside, behind, ok := strings.Cut(rest, "}}")
		if !ok {
			return nil, "has {{ without }} behind it"
		}
		s = behind
		trim = false
		if cut, ok := strings.CutSuffix(inside, "-"); ok && cut != "" && strings.Contains(space, cut[len(cut)-1:]) {
			inside, trim = cut, true
		}
		part, wrong := parseAction(strings.FieldsFunc(inside, func(c rune) bool { return strings.ContainsRune(space, c) }), group)
		if wrong != "" {
			return nil, wrong
		}
		parts = append(parts, part)
	}
}

const space = " \t\r\n"

func appendText(parts []segment, text string) []segment {
	if text == "" {
		return parts
	}
	return append(parts, segment{kind: textKind, text: text})
}

// parseAction reads what is between braces.
func parseAction(words []string, group func(string, bool) (int, string)) (part segment, wrong string) {
	unknown := "has the action {{" + strings.Join(words, " ") + "}}, which is not known: " + actionList
	switch {
	case len(words) == 1:
		if k, ok := fields[words[0]]; ok {
			return segment{kind: k}, ""
		}
		name, ok := strings.CutPrefix(words[0], ".Group.")
		if !ok || !isIdentifier(name) {
			return part, unknown
		}
		n, wrong := group(name, false)
		return segment{kind: groupKind, index: n}, wrong
	case len(words) != 3 || words[0] != "index":
		return part, unknown
	}
	switch words[1] {
	case ".Group":
		name, err := strconv.Unquote(words[2])
		if err != nil {
			return part, unknown
		}
		n, wrong := group(name, false)
		return segment{kind: groupKind, index: n}, wrong
	case ".Match":
		n, wrong := group(words[2], true)
		return segment{kind: groupKind, index: n}, wrong
	case ".Labels":
		n, err := strconv.Atoi(words[2])
		if err != nil || n < 0 || n > 126 || words[2] != strconv.Itoa(n) {
			return part, unknown
		}
		return segment{kind: labelKind, index: n}, ""
	}
	return part, unknown
}

func isIdentifier(s string) bool {
	for i := range len(s) {
		if c := s[i]; c != '_' && (c|0x20)-'a' >= 26 && (i == 0 || c-'0' >= 10) {
			return false
		}
	}
	return s != ""
}

// classes are the classes that templates may be for, and have in records.
var classes = map[string]uint16{"IN": 1, "CH": 3, "HS": 4}

// expand appends what a template makes to dst, which has room for maxText octets.
func (f *filter) expand(dst []byte, parts []segment) (text []byte, wrong string) {
	v := &f.values
	for i := range parts {
		p := &parts[i]
		if len(dst)+len(p.text)+4*sdk.MaxName > maxText {
			return nil, "is longer than 4,096 octets"
		}
		switch p.kind {
		case textKind:
			dst = append(dst, p.text...)
		case nameKind:
			if v.text == nil {
				return nil, "has a name with too many escapes in it"
			}
			dst = append(dst, v.text...)
		case zoneKind:
			if len(v.text) == len(v.name)-1 && v.zone > 1 { // nothing is escaped
				dst = append(dst, v.text[len(v.name)-v.zone:]...)
			} else {
				dst = sdk.AppendText(dst, v.name[len(v.name)-v.zone:])
			}
		case typeKind:
			dst = sdk.AppendType(dst, v.qtype)
		case classKind:
			switch v.class {
			case 3:
				dst = append(dst, "CH"...)
			case 4:
				dst = append(dst, "HS"...)
			default:
				dst = append(dst, "IN"...)
			}
		case clientKind:
			dst = sdk.AppendAddressText(dst, v.client)
		case groupKind:
			dst = append(dst, f.matcher.Group(p.index)...)
		case labelKind:
			label := v.name
			for n := p.index; n > 0 && label[0] != 0; n-- {
				label = label[1+int(label[0]):]
			}
			if label[0] == 0 {
				return nil, "has no such label for this name"
			}
			dst = sdk.AppendText(dst, label[:1+int(label[0])])
			dst = dst[:len(dst)-1] // without the dot
		}
	}
	return dst, ""
}
