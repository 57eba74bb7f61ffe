package main

import (
	"strconv"
	"strings"

	"github.com/weirdns/weir/filters/internal/pattern"
	"github.com/weirdns/weir/sdk"
	"github.com/weirdns/weir/sdk/json"
)

// maxTemplates and maxRecords keep a call below its default fuel.
const (
	maxTemplates = 1000
	maxRecords   = 50
)

// configure reads the templates.
func (f *filter) configure(c *sdk.Config) sdk.Interest {
	for key := range c.Object() {
		if key != "template" {
			c.Unknown()
			continue
		}
		for range c.Array() {
			f.templates = append(f.templates, f.read(c))
		}
	}
	if len(f.templates) > maxTemplates {
		c.MistakeAt("template", "has "+strconv.Itoa(len(f.templates))+" elements, at most "+strconv.Itoa(maxTemplates)+" are allowed")
	}
	if f.patterns > pattern.MaxPatterns {
		c.MistakeAt("template", strconv.Itoa(f.patterns)+" templates have a regex, at most "+strconv.Itoa(pattern.MaxPatterns)+" may: give some to a second filter")
	}
	if len(f.templates) == 0 {
		return 0
	}
	return sdk.Queries
}

// source is the text of a record, and where it is in the configuration.
type source struct {
	section    sdk.Section
	index      int
	path, text string
}

// read reads a template.
func (f *filter) read(c *sdk.Config) template {
	path := c.Path()
	t := template{class: 1, ede: sdk.NoEDE}
	regex, hasRegex, through, ede := "", false, "", false
	var sources []source
	for key := range c.Object() {
		switch key {
		case "class":
			t.class = readClass(c)
		case "zones":
			t.zones = readZones(c)
		case "types":
			t.types = []sdk.Type{}
			for range c.Array() {
				t.types = append(t.types, c.Type())
			}
		case "regex":
			hasRegex = true
			regex = c.String()
		case "rcode":
			t.rcode = c.RCODE()
		case "ede":
			ede = true
			t.ede = sdk.EDE(c.Int(0, 65534))
		case "answer", "authority", "additional":
			section := map[string]sdk.Section{"answer": sdk.Answer, "authority": sdk.Authority, "additional": sdk.Additional}[key]
			for i := range c.Array() {
				sources = append(sources, source{section, i, c.Path(), c.String()})
			}
		case "fallthrough":
			through = c.Path()
			if c.Kind() == json.Bool {
				t.through = c.Bool()
				continue
			}
			t.some = readZones(c)
		default:
			c.Unknown()
		}
	}
	if hasRegex && regex != "" {
		f.patterns++
		all := texts(sources)
		t.groups = strings.Contains(all, ".Match") || strings.Contains(all, ".Group")
		var wrong string
		if t.regex, wrong = pattern.Compile(regex, t.groups); wrong != "" {
			c.MistakeAt(path+".regex", "\""+regex+"\" "+wrong)
			return t // what names its groups can't be told to be wrong
		}
	}
	if through != "" && (t.regex == nil || t.zones == nil) {
		c.MistakeAt(through, "goes with regex and zones only, for names in the zones that regex does not match: all others go on anyway; delete it")
	}
	if t.rcode > 15 && len(sources) > 0 {
		c.MistakeAt(path+".rcode", "is one that needs EDNS, which goes without records only")
	}
	if ede && len(sources) > 0 {
		c.MistakeAt(path+".ede", "goes without records only: an answer needs no explanation")
	}
	if len(sources) > maxRecords {
		c.MistakeAt(path, "has "+strconv.Itoa(len(sources))+" records, at most "+strconv.Itoa(maxRecords)+" are allowed")
	}
	for section := range sdk.Section(len(sections)) { // a response has them in this order
		for _, s := range sources {
			if s.section == section {
				t.add(c, s)
			}
		}
	}
	return t
}

// texts returns all texts together.
func texts(sources []source) (all string) {
	for _, s := range sources {
		all += s.text + "\n"
	}
	return all
}

func readClass(c *sdk.Config) uint16 {
	before := len(c.Mistakes())
	text := c.String()
	if len(c.Mistakes()) > before {
		return 1
	}
	class, ok := classes[text]
	if !ok {
		c.Mistake("\"" + text + "\" is no class here: want \"IN\", \"CH\" or \"HS\"")
		return 1
	}
	return class
}

func readZones(c *sdk.Config) *sdk.Suffixes {
	zones := new(sdk.Suffixes)
	for range c.Array() {
		if zone := c.Zone(); zone != nil {
			zones.Set(zone, 0)
		}
	}
	return zones
}

// add adds a record. One without actions is read now, once and for all.
func (t *template) add(c *sdk.Config, s source) {
	parts, wrong := parse(s.text, t.group)
	if wrong == "" {
		wrong = check(parts)
	}
	r := record{section: s.section, index: s.index, parts: parts}
	if wrong == "" && (len(parts) == 0 || len(parts) == 1 && parts[0].kind == textKind) {
		var wire []byte
		sc := scanner{text: []byte(s.text)}
		if wire, wrong = sc.appendRecord(make([]byte, 0, maxRecord)); wrong == "" {
			size := sdk.CheckName(wire)
			wire = append([]byte(nil), wire...)
			r.owner, r.wire, r.parts = wire[:size:size], wire[size:], nil
		}
	}
	if wrong != "" {
		c.MistakeAt(s.path, wrong)
		return
	}
	if len(r.parts) > 1 && r.parts[0].kind == nameKind && r.parts[1].kind == textKind && isBlank(r.parts[1].text[0]) {
		r.parts, r.isName = r.parts[1:], true // nearly always so, and the name need not be read again
	}
	for _, p := range r.parts {
		t.named = t.named || p.kind == nameKind || p.kind == zoneKind
	}
	t.records = append(t.records, r)
}

// group finds a group of the regular expression.
func (t *template) group(name string, byNumber bool) (n int, wrong string) {
	if t.regex == nil {
		return 0, "has a group of regex, and there is no regex"
	}
	if !byNumber {
		n, ok := t.regex.Named(name)
		if !ok {
			return 0, "has the group \"" + name + "\", which regex has not: there, it is (?P<" + name + ">...)"
		}
		return n, ""
	}
	n, err := strconv.Atoi(name)
	if err != nil || n < 0 || n >= t.regex.Groups() || name != strconv.Itoa(n) {
		return 0, "has the match " + name + ", and regex has those from 0 to " + strconv.Itoa(t.regex.Groups()-1)
	}
	return n, ""
}

// check looks at what can be told of a record before its values are known: the type.
func check(parts []segment) (wrong string) {
	var text []byte
	for _, p := range parts {
		if p.kind == textKind {
			text = append(text, p.text...)
		} else {
			text = append(text, 0)
		}
	}
	if len(text) > maxText/2 {
		return "is longer than 2,048 octets"
	}
	s := scanner{text: text}
	if len(s.token()) == 0 {
		return "is empty: write OWNER [TTL] [CLASS] TYPE DATA"
	}
	h, known, wrong := s.readHead()
	if wrong != "" || !known {
		return wrong
	}
	switch h.rtype {
	case sdk.TypeA, sdk.TypeAAAA, sdk.TypeNS, sdk.TypeCNAME, sdk.TypePTR, sdk.TypeDNAME, sdk.TypeMX, sdk.TypeSRV, sdk.TypeTXT, sdk.TypeHINFO, sdk.TypeSOA, typeCAA:
		return ""
	}
	if token := s.token(); string(token) != `\#` {
		return "has a type whose data are not known here: want " + typeList
	}
	return ""
}
