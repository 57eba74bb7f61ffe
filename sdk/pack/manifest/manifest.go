//go:build !wasip1

// Package manifest reads the manifest of a filter from the file that its author writes, and checks what the host will check
// when it loads the module.
package manifest

import (
	"bytes"
	"fmt"
	"os"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/weirdns/weir/abi"
)

// Read reads and validates a manifest, and compiles the JSON Schema in it.
func Read(name string) (abi.Manifest, error) {
	document, err := os.ReadFile(name)
	if err != nil {
		return abi.Manifest{}, err
	}
	m, err := abi.ParseManifest(document)
	if err != nil {
		return abi.Manifest{}, fmt.Errorf("%s: %w", name, err)
	}
	if m.Schema == nil {
		return m, nil
	}
	schema, err := jsonschema.UnmarshalJSON(bytes.NewReader(m.Schema))
	if err != nil {
		return abi.Manifest{}, fmt.Errorf("%s: schema: %w", name, err)
	}
	c := jsonschema.NewCompiler()
	c.UseLoader(nothing{}) // a schema stands alone: what it refers to must not depend on the network
	if err := c.AddResource("filter.json", schema); err != nil {
		return abi.Manifest{}, fmt.Errorf("%s: schema: %w", name, err)
	}
	if _, err := c.Compile("filter.json"); err != nil {
		return abi.Manifest{}, fmt.Errorf("%s: schema: %w", name, err)
	}
	return m, nil
}

// nothing loads nothing.
type nothing struct{}

func (nothing) Load(url string) (any, error) {
	return nil, fmt.Errorf("%s: a schema may refer to its own definitions only", url)
}
