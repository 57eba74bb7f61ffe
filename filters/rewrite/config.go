package main

import (
	"strconv"

	"github.com/weirdns/weir/filters/internal/pattern"
	"github.com/weirdns/weir/sdk"
)

// maxRules keeps a call far below its default fuel: the rules are looked at one after the other.
const maxRules = 1000

// configure reads the rules.
func (f *rewrite) configure(c *sdk.Config) sdk.Interest {
	for key := range c.Object() {
		if key != "rule" {
			c.Unknown()
			continue
		}
		for range c.Array() {
			f.rules = append(f.rules, f.read(c))
		}
	}
	if len(f.rules) > maxRules {
		c.MistakeAt("rule", "has "+strconv.Itoa(len(f.rules))+" elements, at most "+strconv.Itoa(maxRules)+" are allowed: have whole zones rewritten, or use a zone with a DNAME")
	}
	if f.patterns > pattern.MaxPatterns {
		c.MistakeAt("rule", strconv.Itoa(f.patterns)+" rules have a regex, at most "+strconv.Itoa(pattern.MaxPatterns)+" may: give some to a second filter")
	}
	if len(c.Mistakes()) > 0 || len(f.rules) == 0 {
		return 0
	}
	lookup := sdk.Lookup // if every rule is for names that can be told, the filter is not called for others
	for i := range f.rules {
		r := &f.rules[i]
		for j := range i {
			if f.rules[j].covers(r) {
				c.MistakeAt("rule["+strconv.Itoa(i)+"]", "is never reached: {rule["+strconv.Itoa(j)+"]} is for all its questions; move it above that one, or delete it")
				break
			}
		}
		if r.exact == nil && r.zone == nil {
			lookup = 0
		}
	}
	if lookup != 0 {
		for _, r := range f.rules {
			c.AddName(append(r.exact, r.zone...)) // one of them is nil; whether it is there already doesn't matter
		}
	}
	return sdk.Queries | lookup
}

// covers reports whether every question that another rule is for is one that this rule is for, as far as that is easily told.
func (r *rule) covers(other *rule) bool {
	switch {
	case r.types != nil || r.regex != nil:
		return false
	case r.exact != nil:
		return string(other.exact) == string(r.exact)
	case r.zone == nil:
		return true
	case other.exact != nil:
		return sdk.IsWithin(other.exact, r.zone)
	}
	return other.zone != nil && sdk.IsWithin(other.zone, r.zone)
}

// read reads a rule.
func (f *rewrite) read(c *sdk.Config) (r rule) {
	path := c.Path()
	matches, hasTo, hasType, hasRegex, to, regex := 0, false, false, false, "", ""
	for key := range c.Object() {
		switch key {
		case "name":
			r.exact = c.Zone()
			matches++
		case "zone":
			r.zone = c.Zone()
			matches++
		case "regex":
			hasRegex = true
			regex = c.String()
			matches++
		case "types":
			r.types = []sdk.Type{}
			for range c.Array() {
				r.types = append(r.types, c.Type())
			}
		case "to":
			hasTo = true
			to = c.String()
		case "to_type":
			hasType = true
			r.toType = c.Type()
		default:
			c.Unknown()
		}
	}
	if hasRegex && regex != "" {
		f.patterns++
		r.groups = usesGroups(to)
		var wrong string
		if r.regex, wrong = pattern.Compile(regex, r.groups); wrong != "" {
			c.MistakeAt(path+".regex", "\""+regex+"\" "+wrong)
		}
	}
	switch {
	case matches > 1:
		c.MistakeAt(path, "wants one of name, zone and regex only")
	case !hasTo && !hasType:
		c.MistakeAt(path, "has neither to nor to_type: want the new name, or the new type")
	case hasTo && matches == 0:
		c.MistakeAt(path+".to", "goes with name, zone or regex: say which names get this one")
	case matches == 0 && r.types == nil:
		c.MistakeAt(path, "is for all questions: want name, zone, regex or types")
	case hasTo && r.regex != nil:
		r.readParts(c, path+".to", to)
	case hasTo && (r.exact != nil || r.zone != nil):
		name, wrong := sdk.AppendName(nil, []byte(to))
		if wrong != "" {
			c.MistakeAt(path+".to", "\""+to+"\" is no name: it "+wrong)
		}
		r.target = name
	}
	return r
}

// usesGroups reports whether a new name has groups in it.
func usesGroups(to string) bool {
	for i := 0; i < len(to); i++ {
		if to[i] == '$' {
			if i+1 == len(to) || to[i+1] != '$' {
				return true
			}
			i++
		}
	}
	return false
}

// readParts takes a new name apart, in which $1, ${1}, $name and ${name} stand for groups of the match and $$ for a dollar.
func (r *rule) readParts(c *sdk.Config, path, to string) {
	if to == "" {
		c.MistakeAt(path, "is empty: want a name, in which $1 or ${name} stand for groups of regex")
	}
	r.parts = []part{}
	for to != "" {
		i := 0
		for i < len(to) && to[i] != '$' {
			i++
		}
		if i > 0 {
			r.parts = append(r.parts, part{-1, to[:i]})
		}
		if to = to[i:]; to == "" {
			return
		}
		if len(to) > 1 && to[1] == '$' {
			r.parts = append(r.parts, part{-1, "$"})
			to = to[2:]
			continue
		}
		name, size := groupName(to)
		if size == 0 {
			c.MistakeAt(path, "has a $ without the number or name of a group behind it: want $1, ${name}, or $$ for a dollar")
			return
		}
		n, err := strconv.Atoi(name)
		ok := err == nil && n < r.regex.Groups()
		if err != nil {
			n, ok = r.regex.Named(name)
		}
		if !ok {
			c.MistakeAt(path, "there is no group \""+name+"\" in regex: it has "+strconv.Itoa(r.regex.Groups()-1)+"; write ${1}x where a letter or digit follows")
			return
		}
		r.parts = append(r.parts, part{n, ""})
		to = to[size:]
	}
}

// groupName returns the name behind a $, and how many octets that takes with the $; 0 if there is none.
func groupName(s string) (name string, size int) {
	begin := 1
	braces := len(s) > 1 && s[1] == '{'
	if braces {
		begin = 2
	}
	end := begin
	for end < len(s) && (s[end] == '_' || s[end]-'0' < 10 || s[end]|0x20-'a' < 26) {
		end++
	}
	switch {
	case end == begin, braces && (end == len(s) || s[end] != '}'):
		return "", 0
	case braces:
		return s[begin:end], end + 1
	}
	return s[begin:end], end
}
