package main

import (
	"encoding/json"
	"strings"
)

// schema is as much of a JSON Schema as it takes to list the keys of a configuration. What it does not understand it leaves out: the
// whole schema is in the output as JSON.
type schema struct {
	Type        any                `json:"type"`
	Format      string             `json:"format"`
	Description string             `json:"description"`
	Required    []string           `json:"required"`
	Properties  properties         `json:"properties"`
	Items       *schema            `json:"items"`
	Definitions map[string]*schema `json:"$defs"`
	Reference   string             `json:"$ref"`
}

// properties are in the order of the document, which is the order in which its author thought of them.
type properties []property

type property struct {
	name   string
	schema schema
}

// UnmarshalJSON reads an object in order.
func (p *properties) UnmarshalJSON(b []byte) error {
	d := json.NewDecoder(strings.NewReader(string(b)))
	if _, err := d.Token(); err != nil {
		return err
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return err
		}
		var s schema
		if err := d.Decode(&s); err != nil {
			return err
		}
		name, _ := key.(string) // keys of objects are strings
		*p = append(*p, property{name, s})
	}
	return nil
}

// Bounds of the list: schemas may refer to themselves, several times over.
const (
	maxDepth = 4
	maxKeys  = 200
)

// keys lists the keys of the configuration, each as "rule[].zone (weir-zone, required): what it is".
func (s *schema) keys() []string { return s.list(nil, s, "", 0) }

// list appends the keys of s to lines.
func (s *schema) list(lines []string, root *schema, path string, depth int) []string {
	if depth > maxDepth {
		return lines
	}
	for _, p := range s.Properties {
		if len(lines) == maxKeys {
			return lines
		}
		k := p.schema.resolve(root)
		name := path + p.name
		for range maxDepth {
			if k.Items == nil {
				break
			}
			description := k.Description
			k = k.Items.resolve(root)
			if k.Description == "" {
				k.Description = description
			}
			name += "[]"
		}
		words := k.kind()
		for _, r := range s.Required {
			if r == p.name {
				words += ", required"
			}
		}
		line := name + " (" + strings.TrimPrefix(words, ", ") + ")"
		if k.Description != "" {
			line += ": " + k.Description
		}
		lines = append(lines, line)
		lines = k.list(lines, root, name+".", depth+1)
	}
	return lines
}

// kind is the type of a value, or what the format says of it.
func (s *schema) kind() string {
	if s.Format != "" {
		return s.Format
	}
	switch t := s.Type.(type) {
	case string:
		return t
	case []any:
		var names []string
		for _, name := range t {
			if n, ok := name.(string); ok {
				names = append(names, n)
			}
		}
		return strings.Join(names, " or ")
	}
	return "any"
}

// resolve follows a reference to a definition of the same document.
func (s schema) resolve(root *schema) schema {
	if name, ok := strings.CutPrefix(s.Reference, "#/$defs/"); ok && root.Definitions[name] != nil {
		target := *root.Definitions[name]
		if s.Description != "" {
			target.Description = s.Description
		}
		return target
	}
	return s
}
