package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
)

// maxInput is how large an input may be that is kept: those above are rare, and as large as all others together.
const maxInput = 8 << 10

// corpus is a tar.gz file of the inputs that fuzzing has found interesting, as PACKAGE/TARGET/INPUT with the package's path in the module. go test keeps
// them in its cache, where the next run begins with them, and which another machine does not have.
type corpus struct {
	path  string
	cache string // where go test keeps those of the module
}

// openCorpus returns the corpus in the file at path, which need not exist, of the module that holds the working directory.
func openCorpus(path string) (*corpus, error) {
	module, err := goSays("list", "-m")
	if err != nil {
		return nil, err
	}
	cache, err := goSays("env", "GOCACHE")
	if err != nil {
		return nil, err
	}
	return &corpus{path, filepath.Join(cache, "fuzz", filepath.FromSlash(module))}, nil
}

func goSays(args ...string) (string, error) {
	out, err := exec.Command("go", args...).Output()
	if err != nil {
		return "", fmt.Errorf("go %s: %w", strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}

// restore puts all inputs of the corpus that the cache lacks there.
func (c *corpus) restore() error {
	file, err := os.Open(c.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	unpacked, err := gzip.NewReader(file)
	if err != nil {
		return fmt.Errorf("corpus %s: %w", c.path, err)
	}
	for archive := tar.NewReader(unpacked); ; {
		f, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("corpus %s: %w", c.path, err)
		}
		if !fs.ValidPath(f.Name) || strings.Count(f.Name, "/") < 2 || f.Typeflag != tar.TypeReg || f.Size > maxInput {
			return fmt.Errorf("corpus %s: %q is no input", c.path, f.Name)
		}
		to := filepath.Join(c.cache, filepath.FromSlash(f.Name))
		if _, err := os.Stat(to); err == nil {
			continue
		}
		octets, err := io.ReadAll(archive)
		if err != nil {
			return fmt.Errorf("corpus %s: %s: %w", c.path, f.Name, err)
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o777), os.WriteFile(to, octets, 0o666)); err != nil {
			return err
		}
	}
}

// save writes the inputs that the cache has for the targets. The same inputs make the same file.
func (c *corpus) save(targets []target) error {
	var out bytes.Buffer
	packed, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return err
	}
	w := tar.NewWriter(packed)
	for _, t := range targets { // in order, as the names in each are
		dir := path.Join(strings.TrimPrefix(filepath.ToSlash(t.dir), "./"), t.name)
		inputs, err := os.ReadDir(filepath.Join(c.cache, filepath.FromSlash(dir)))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, input := range inputs {
			octets, err := os.ReadFile(filepath.Join(c.cache, filepath.FromSlash(dir), input.Name()))
			if err != nil {
				return err
			}
			if len(octets) > maxInput {
				continue
			}
			if err := w.WriteHeader(&tar.Header{Name: path.Join(dir, input.Name()), Mode: 0o644, Size: int64(len(octets))}); err != nil {
				return err
			}
			if _, err := w.Write(octets); err != nil {
				return err
			}
		}
	}
	if err := errors.Join(w.Close(), packed.Close()); err != nil {
		return err
	}
	return os.WriteFile(c.path, out.Bytes(), 0o666)
}
