package wasm

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/weirdns/weir/abi"
)

// Description is what a module says of itself, for whoever wants to know before running it.
type Description struct {
	Size      int            `json:"size"`         // octets of the module
	ABI       []string       `json:"abi_versions"` // that it is built for, by its exports
	Manifest  *abi.Manifest  `json:"manifest"`     // nil if it has none, see Problem
	Exports   []ImportExport `json:"exports"`
	Imports   []ImportExport `json:"imports"`
	Functions int            `json:"functions"`         // with the imported ones
	Memory    uint64         `json:"memory"`            // octets that an instance has at once
	Problem   string         `json:"problem,omitempty"` // why this weir would not load it; empty if nothing speaks against it so far
}

// ImportExport is a function that a module imports or exports, or something else that it exports.
type ImportExport struct {
	Module    string `json:"module,omitempty"` // of an import
	Name      string `json:"name"`
	Signature string `json:"signature"`       // as "(i32) -> (i64)", or "memory", "table", "global"
	Grant     string `json:"grant,omitempty"` // that it takes
}

// Describe reads a module without running or compiling anything of it. An error says that it is no module; whatever else is wrong with it
// is in the description.
func Describe(b []byte) (Description, error) {
	d := Description{Size: len(b), ABI: []string{}, Exports: []ImportExport{}, Imports: []ImportExport{}}
	if len(b) < 8 || !bytes.Equal(b[:8], []byte("\x00asm\x01\x00\x00\x00")) {
		return d, errors.New("is not a WebAssembly module of version 1")
	}
	m, err := admission{pages: maxMemory / pageSize, bodies: true}.admit(b)
	if err != nil {
		d.Problem = "the module " + err.Error()
		if m == nil { // the sections are damaged, or not what a filter may have: read on as far as nothing is compared
			m, err = admission{pages: maxMemory / pageSize, skipped: offImports}.admit(b)
			if m == nil {
				return d, err
			}
		}
	}
	d.Functions, d.Memory = len(m.functions), uint64(m.pages)*pageSize
	for _, i := range m.imported {
		signature := describe(i.signature)
		grant := ""
		for _, h := range hostFunctions {
			if i.module == abi.HostModule && h.name == i.name && h.grant != 0 {
				grant = grantName(h.grant)
			}
		}
		d.Imports = append(d.Imports, ImportExport{Module: printable([]byte(i.module)), Name: printable([]byte(i.name)), Signature: signature, Grant: grant})
	}
	kinds := map[byte]string{1: "table", kindMemory: "memory", 3: "global"}
	for _, name := range slices.Sorted(maps.Keys(m.exports)) {
		e := m.exports[name]
		signature := kinds[e.kind]
		if e.kind == kindFunction {
			signature = describe(e.signature)
		}
		d.Exports = append(d.Exports, ImportExport{Name: printable([]byte(name)), Signature: signature})
		if version, ok := strings.CutPrefix(name, abi.ExportPrefix); ok && versionExport.MatchString(name) {
			d.ABI = append(d.ABI, version)
		}
	}
	manifest, err := abi.ReadManifest(b)
	if err != nil {
		if d.Problem == "" {
			d.Problem = "the " + strings.TrimPrefix(err.Error(), "the ")
		}
		return d, nil
	}
	d.Manifest = &manifest
	if d.Problem == "" {
		d.Problem = missingGrant(m, manifest)
	}
	return d, nil
}

// missingGrant says which import the manifest names no grant for.
func missingGrant(m *module, manifest abi.Manifest) string {
	var may grants
	for _, g := range manifest.Grants {
		may |= grantBits[g]
	}
	for _, h := range hostFunctions {
		if m.imports[h.name] && h.grant&^may != 0 {
			return fmt.Sprintf("the module imports %s, for which its manifest has to name the grant %s", h.name, strconv.Quote(grantName(h.grant)))
		}
	}
	return ""
}
