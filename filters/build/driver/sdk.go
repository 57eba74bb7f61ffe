//go:build !wasip1

package driver

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// The folder of a new filter builds and tests offline, since it has the SDK, and what that needs, in a folder "vendor" of its own
// (go help modules, "Modules and vendoring"). The archive dist/sdk.zip holds these files:
//
//	go.mod                                  but for its first line
//	vendor/modules.txt                      what the go command compares with go.mod
//	vendor/github.com/weirdns/weir/sdk/…    and its other packages, package abi, miekg/dns for package sdktest …
//
// Compared with go mod vendor, files for systems on which nobody writes filters are left out, which are most of x/sys/unix.

// vendored are the packages that a filter may import; what they need is vendored as well.
var vendored = []string{"./abi", "./sdk", "./sdk/json", "./sdk/sdktest"}

// platforms are where filters are written. The first is where they run.
var platforms = []string{"wasip1/wasm", "linux/amd64", "linux/arm64", "darwin/amd64", "darwin/arm64", "freebsd/amd64", "windows/amd64"}

// sdkVersion is what go.mod of a new filter says. It is no release: the go command takes what is in vendor.
const sdkVersion = "v0.0.0"

// pack is what go list says of a package.
type pack struct {
	ImportPath, Dir                     string
	Standard                            bool
	GoFiles, SFiles, HFiles, EmbedFiles []string
	Module                              *struct {
		Path, Version, GoVersion, Dir string
		Main                          bool
	}
}

// SDK makes the archive, unless the one in dist is of the same sources.
func SDK(ctx context.Context) (Built, error) {
	root, err := directory()
	if err != nil {
		return Built{}, err
	}
	building.Lock()
	defer building.Unlock()
	b := Built{Name: "sdk", Path: filepath.Join(root, "dist", "sdk.zip")}
	mark := filepath.Join(root, "dist", "sdk.sum")
	sum, err := sdkSum(filepath.Dir(root))
	if err != nil {
		return b, err
	}
	if archive, err := os.ReadFile(b.Path); err == nil {
		if have, err := os.ReadFile(mark); err == nil && string(have) == sum+" "+digest(archive)+"\n" {
			b.Size, b.Cached = int64(len(archive)), true
			return b, nil
		}
	}
	archive, err := sdkArchive(ctx, filepath.Dir(root))
	if err != nil {
		return b, fmt.Errorf("archive of the SDK: %w", err)
	}
	b.Size = int64(len(archive))
	return b, errors.Join(replace(b.Path, archive), replace(mark, []byte(sum+" "+digest(archive)+"\n")))
}

// sdkSum is a digest of what the archive is made of: the versions of the modules, and the sources of this one.
func sdkSum(root string) (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, vendored, platforms, sdkVersion)
	files := []string{filepath.Join(root, "go.mod"), filepath.Join(root, "go.sum"), filepath.Join(root, "abi", "README.md")}
	for _, v := range vendored {
		sources, err := filepath.Glob(filepath.Join(root, v, "*.go"))
		if err != nil {
			return "", err
		}
		files = append(files, sources...)
	}
	for _, name := range files {
		content, err := os.ReadFile(name)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%s %d\n%s", filepath.Base(name), len(content), content)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// sdkArchive makes the archive.
func sdkArchive(ctx context.Context, root string) ([]byte, error) {
	packs, files, err := sdkPacks(ctx, root)
	if err != nil {
		return nil, err
	}
	mod, list := sdkModules(packs)
	texts := map[string]string{"go.mod": mod, "vendor/modules.txt": list}
	var buffer bytes.Buffer
	z := zip.NewWriter(&buffer) // without times, so that the same sources give the same octets
	add := func(name string, content io.Reader) error {
		w, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Deflate})
		if err == nil {
			_, err = io.Copy(w, content)
		}
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		if err := add(name, strings.NewReader(texts[name])); err != nil {
			return nil, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		f, err := os.Open(files[name])
		if err != nil {
			return nil, err
		}
		err = add(name, f)
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
	}
	err = z.Close()
	return buffer.Bytes(), err
}

// sdkPacks asks the go command for the packages, and for their files on all platforms, by their names in the archive.
func sdkPacks(ctx context.Context, root string) (packs map[string]pack, files map[string]string, err error) {
	packs, files = map[string]pack{}, map[string]string{}
	for _, platform := range platforms {
		system, architecture, _ := strings.Cut(platform, "/")
		names := vendored
		if system == "wasip1" {
			names = names[:len(names)-1] // package sdktest is for go test
		}
		arguments := append([]string{"list", "-deps", "-json=ImportPath,Dir,Standard,GoFiles,SFiles,HFiles,EmbedFiles,Module"}, names...)
		out, err := command(ctx, root, arguments, "GOOS="+system, "GOARCH="+architecture)
		if err != nil {
			return nil, nil, err
		}
		for d := json.NewDecoder(bytes.NewReader(out)); ; {
			var p pack
			if err := d.Decode(&p); err == io.EOF {
				break
			} else if err != nil {
				return nil, nil, err
			}
			if p.Standard {
				continue
			}
			packs[p.ImportPath] = p
			for _, f := range slices.Concat(p.GoFiles, p.SFiles, p.HFiles, p.EmbedFiles) {
				files[path.Join("vendor", p.ImportPath, f)] = filepath.Join(p.Dir, f)
			}
			if license := filepath.Join(p.Module.Dir, "LICENSE"); exists(license) {
				files[path.Join("vendor", p.Module.Path, "LICENSE")] = license
			}
			if p.ImportPath == p.Module.Path+"/abi" {
				files[path.Join("vendor", p.ImportPath, "README.md")] = filepath.Join(p.Dir, "README.md")
			}
		}
	}
	return packs, files, nil
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// sdkModules makes go.mod, but for its first line, and vendor/modules.txt, which have to say the same.
func sdkModules(packs map[string]pack) (mod, list string) {
	var direct, indirect strings.Builder
	var lines strings.Builder
	module, language := "", ""
	for _, name := range slices.SortedFunc(maps.Keys(packs), func(a, b string) int { // by module, and within it by path
		return slices.Compare([]string{packs[a].Module.Path, a}, []string{packs[b].Module.Path, b})
	}) {
		m := packs[name].Module
		if m.Path != module {
			module = m.Path
			version := m.Version
			if m.Main {
				version, language = sdkVersion, m.GoVersion
				fmt.Fprintf(&direct, "require %s %s\n", m.Path, version)
			} else {
				fmt.Fprintf(&indirect, "\t%s %s // indirect\n", m.Path, version)
			}
			fmt.Fprintf(&lines, "# %s %s\n## explicit; go %s\n", m.Path, version, m.GoVersion)
		}
		fmt.Fprintln(&lines, name)
	}
	return fmt.Sprintf("\ngo %s\n\n%s\nrequire (\n%s)\n", language, direct.String(), indirect.String()), lines.String()
}
