//go:build !wasip1

// Package scaffold makes the folder of a new filter: a small one that works, with its manifest and its tests, and the SDK beside it, so
// that it builds and passes its tests offline. The folder starter is that filter; it is a package like all others here, and tested with them.
package scaffold

import (
	"archive/zip"
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/weirdns/weir/abi"
)

//go:embed starter
var starter embed.FS

// starterName is what the filter is called in the folder starter: the name of the new filter takes its place.
const starterName = "starter"

// New makes the folder, whose last element is the name of the filter, and returns the names of the files that its author works on. sdk is the
// archive of package filters. A folder that exists is left alone. After an error, there is no folder.
func New(folder string, sdk []byte) (files []string, err error) {
	name := filepath.Base(folder)
	m := abi.Manifest{Name: name, Version: "0.1.0", ABI: abi.Version}
	if err := m.Validate(); err != nil {
		return nil, err
	}
	if err := os.Mkdir(folder, 0o777); errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("%s exists already: choose another name, or remove it", folder)
	} else if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(folder))
		}
	}()
	entries, err := starter.ReadDir(starterName)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		content, err := starter.ReadFile(path.Join(starterName, e.Name()))
		if err != nil {
			return nil, err
		}
		content = bytes.ReplaceAll(content, []byte(starterName), []byte(name))
		if err := os.WriteFile(filepath.Join(folder, e.Name()), content, 0o666); err != nil {
			return nil, err
		}
		files = append(files, e.Name())
	}
	if err := os.WriteFile(filepath.Join(folder, ".gitignore"), []byte("*.wasm\n"), 0o666); err != nil {
		return nil, err
	}
	return files, extract(folder, name, sdk)
}

// extract puts the SDK into the folder.
func extract(folder, name string, archive []byte) error {
	z, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		return fmt.Errorf("archive of the SDK: %w", err)
	}
	for _, f := range z.File {
		if !filepath.IsLocal(f.Name) {
			return fmt.Errorf("archive of the SDK: %q is not within the folder", f.Name)
		}
		content, err := read(f)
		if err != nil {
			return fmt.Errorf("archive of the SDK: %s: %w", f.Name, err)
		}
		if f.Name == "go.mod" {
			content = append([]byte("module example.com/"+name+"\n"), content...)
		}
		to := filepath.Join(folder, filepath.FromSlash(f.Name))
		if strings.Contains(f.Name, "/") {
			if err := os.MkdirAll(filepath.Dir(to), 0o777); err != nil {
				return err
			}
		}
		if err := os.WriteFile(to, content, 0o666); err != nil {
			return err
		}
	}
	return nil
}

func read(f *zip.File) ([]byte, error) {
	r, err := f.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}
