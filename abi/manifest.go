//go:build !wasip1

package abi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

// MaxManifestSize is how many octets the manifest of a module may have: a schema with a description for each key stays far
// below it, and whoever lists modules does not read megabytes for it.
const MaxManifestSize = 256 << 10

// Roles that a manifest can name. README.md section 8.
const (
	RoleAccess    = "access"    // decides who may ask
	RoleAnswer    = "answer"    // answers by itself
	RoleAuthority = "authority" // answers from its tables
	RoleRoute     = "route"     // chooses an upstream
	RoleRetry     = "retry"     // asks again on the way up
)

// Grants that a manifest can name. README.md section 8.
const (
	GrantForward = "forward" // the verdict Forward
	GrantAsk     = "ask"     // the verdict Ask
	GrantRewrite = "rewrite" // the verdict Rewrite
	GrantTables  = "tables"  // the table functions
	GrantLog     = "log"     // the function log
	GrantMetrics = "metrics" // the functions metric and metric_add
)

// ErrNoManifest is what [ReadManifest] returns for a well-formed module without a manifest.
var ErrNoManifest = errors.New("module has no custom section \"" + ManifestSection + "\"")

// Manifest says what a module is and needs. README.md section 8.
//
// This file is not part of builds for wasip1: a guest has no use for its manifest, and encoding/json would add half a
// megabyte to each.
type Manifest struct {
	Name        string          `json:"name"`                  // of the filter: lower-case letters, digits and hyphens
	Version     string          `json:"version"`               // of the filter, as in semver.org
	ABI         int             `json:"abi"`                   // the version of the contract, see [Version]
	Description string          `json:"description,omitempty"` // one sentence for the operator
	Role        string          `json:"role,omitempty"`        // one of the Role constants, or empty
	Grants      []string        `json:"grants,omitempty"`      // of the Grant constants
	Schema      json.RawMessage `json:"schema,omitempty"`      // a JSON Schema (draft 2020-12) of the configuration; empty: none
}

var (
	manifestName    = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*$`)
	manifestVersion = regexp.MustCompile(`^(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*)){2}(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$`)
	manifestGrants  = []string{GrantForward, GrantAsk, GrantRewrite, GrantTables, GrantLog, GrantMetrics}
	manifestRoles   = []string{"", RoleAccess, RoleAnswer, RoleAuthority, RoleRoute, RoleRetry}
)

// Validate says what is wrong with m, all at once, one mistake a line; nil when nothing is. It does not compile the schema,
// it only looks whether it is a JSON object.
func (m Manifest) Validate() error {
	var mistakes []error
	wrong := func(format string, a ...any) { mistakes = append(mistakes, fmt.Errorf(format, a...)) }
	if len(m.Name) > 63 || !manifestName.MatchString(m.Name) {
		wrong("name %q: want at most 63 lower-case letters, digits and hyphens, beginning with a letter", m.Name)
	}
	if len(m.Version) > 64 || !manifestVersion.MatchString(m.Version) {
		wrong("version %q: want a version such as 1.0.0 (semver.org)", m.Version)
	}
	if m.ABI != Version {
		wrong("abi %d: want %d, the version of the contract that this program knows", m.ABI, Version)
	}
	if strings.ContainsFunc(m.Description, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		wrong("description: has control characters, want one line of text")
	}
	if !slices.Contains(manifestRoles, m.Role) {
		wrong("role %q: want %s, or none", m.Role, strings.Join(manifestRoles[1:], ", "))
	}
	for i, g := range m.Grants {
		if !slices.Contains(manifestGrants, g) {
			wrong("grants[%d] %q: want one of %s", i, g, strings.Join(manifestGrants, ", "))
		} else if slices.Index(m.Grants, g) != i {
			wrong("grants[%d] %q: is named twice", i, g)
		}
	}
	if m.Schema != nil {
		var schema map[string]json.RawMessage
		if err := json.Unmarshal(m.Schema, &schema); err != nil || schema == nil {
			wrong("schema: want a JSON object")
		}
	}
	return errors.Join(mistakes...)
}

// ParseManifest reads a manifest from JSON and validates it. Keys that this version does not know are errors: who names
// something that isn't understood relies on it.
func ParseManifest(document []byte) (Manifest, error) {
	if len(document) > MaxManifestSize {
		return Manifest{}, fmt.Errorf("manifest: has %d octets, at most %d are read", len(document), MaxManifestSize)
	}
	d := json.NewDecoder(bytes.NewReader(document))
	d.DisallowUnknownFields()
	var m Manifest
	if err := d.Decode(&m); err != nil {
		return Manifest{}, fmt.Errorf("manifest: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return Manifest{}, errors.New("manifest: has something behind the JSON object")
	}
	if err := m.Validate(); err != nil {
		return Manifest{}, fmt.Errorf("manifest: %w", err)
	}
	return m, nil
}

// ReadManifest finds the manifest in a WebAssembly binary module, and parses and validates it. It reads nothing of the module
// but the frame of its sections. The error is [ErrNoManifest] when there is none.
func ReadManifest(module []byte) (Manifest, error) {
	var document []byte
	err := eachSection(module, func(s section) error {
		if s.name != ManifestSection {
			return nil
		}
		if document != nil {
			return errors.New("module has two custom sections \"" + ManifestSection + "\"")
		}
		document = s.content
		return nil
	})
	if err != nil {
		return Manifest{}, err
	}
	if document == nil {
		return Manifest{}, ErrNoManifest
	}
	return ParseManifest(document)
}

// AppendManifest returns a copy of a WebAssembly binary module with m as its manifest, as the last section; a manifest that
// the module had is left out. It refuses an m that is not valid.
func AppendManifest(module []byte, m Manifest) ([]byte, error) {
	if err := m.Validate(); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	document, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	if len(document) > MaxManifestSize {
		return nil, fmt.Errorf("manifest: has %d octets, at most %d are allowed", len(document), MaxManifestSize)
	}
	out := make([]byte, 0, len(module)+len(document)+16)
	out = append(out, module[:min(len(module), len(wasmHeader))]...)
	err = eachSection(module, func(s section) error {
		if s.name != ManifestSection {
			out = append(out, s.whole...)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	out = append(out, 0)
	out = appendUint32(out, uint32(1+len(ManifestSection)+len(document)))
	out = append(out, byte(len(ManifestSection)))
	out = append(out, ManifestSection...)
	return append(out, document...), nil
}

// wasmHeader begins each binary module: magic and version. WebAssembly 2.0 section 5.5.16.
const wasmHeader = "\x00asm\x01\x00\x00\x00"

// A section of a module. WebAssembly 2.0 section 5.5.2:
//
//	id:1 size:LEB128 content:size, and for custom sections (id 0), content is name:vec(octet) and the rest
type section struct {
	whole   []byte // with id and size
	name    string // of a custom section
	content []byte // without the name
}

// eachSection calls visit for each section of a module until that returns an error.
func eachSection(module []byte, visit func(section) error) error {
	if !bytes.HasPrefix(module, []byte(wasmHeader)) {
		return errors.New("not a WebAssembly module: it does not begin with \\0asm and version 1")
	}
	for rest := module[len(wasmHeader):]; len(rest) > 0; {
		at := len(module) - len(rest)
		content, behind, ok := vector(rest[1:])
		if !ok {
			return fmt.Errorf("section at offset %d is longer than the module", at)
		}
		s := section{whole: rest[:len(rest)-len(behind)], content: content}
		if rest[0] == 0 {
			name, body, ok := vector(content)
			if !ok {
				return fmt.Errorf("custom section at offset %d has no valid name", at)
			}
			s.name, s.content = string(name), body
		}
		if err := visit(s); err != nil {
			return err
		}
		rest = behind
	}
	return nil
}

// vector splits b behind a LEB128 size and as many octets.
func vector(b []byte) (content, rest []byte, ok bool) {
	var size uint64
	for i := range min(len(b), 5) { // a u32 has at most five octets
		size |= uint64(b[i]&0x7f) << (7 * i)
		if b[i] < 0x80 {
			b = b[i+1:]
			if size > uint64(len(b)) {
				return nil, nil, false
			}
			return b[:size], b[size:], true
		}
	}
	return nil, nil, false
}

// appendUint32 appends n as LEB128.
func appendUint32(b []byte, n uint32) []byte {
	for ; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}
