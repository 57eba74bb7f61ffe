//go:build !wasip1

// Package filters holds the filters that come with weir, as modules: they are built by make filters (filters/build) and
// embedded here. They are written with package sdk like everybody's, and have no private door into the host.
//
// The modules are not in the repository. A program that was built before they were has none of them, see [ErrNotBuilt].
package filters

import (
	"embed"
	"errors"
	"io/fs"
	"slices"
)

//go:embed dist
var dist embed.FS

// ErrNotBuilt is what a program says that was built without its filters.
var ErrNotBuilt = errors.New("this weir was built without its filters: run make filters, and build it again")

// names are the filters that a complete build has.
var names = []string{"acl", "alternate", "authority", "hosts", "rewrite", "rules", "template"}

// Names returns the names of the filters that come with weir, sorted, whether they were built or not.
func Names() []string { return slices.Clone(names) }

// Module returns the module of a filter, for reading only. It is false if there is no filter of that name, or if this program was
// built without its filters; [Built] tells the difference.
func Module(name string) ([]byte, bool) {
	if !slices.Contains(names, name) {
		return nil, false
	}
	module, err := fs.ReadFile(dist, "dist/"+name+".wasm")
	return module, err == nil
}

// SDK returns the sources of the SDK as a zip archive, for the folder of a new filter: go.mod, but for its first line, and the folder
// vendor. The error is [ErrNotBuilt].
func SDK() ([]byte, error) {
	archive, err := fs.ReadFile(dist, "dist/sdk.zip")
	if err != nil {
		return nil, ErrNotBuilt
	}
	return archive, nil
}

// Built returns nil if all filters of Names are in this program, [ErrNotBuilt] if not.
func Built() error {
	for _, name := range names {
		if _, ok := Module(name); !ok {
			return ErrNotBuilt
		}
	}
	return nil
}
