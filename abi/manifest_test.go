package abi_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/weirdns/weir/abi"
)

const header = "\x00asm\x01\x00\x00\x00"

func valid() abi.Manifest {
	return abi.Manifest{
		Name: "rules", Version: "1.0.0", ABI: 1, Role: abi.RoleRoute,
		Grants: []string{abi.GrantForward}, Schema: []byte(`{"type":"object"}`),
	}
}

func TestManifestRoundTrip(t *testing.T) {
	other := "\x00\x05\x03abcd" // a custom section "abc"
	for _, tt := range []struct{ name, module string }{
		{"empty module", header},
		{"behind other sections", header + other + "\x01\x01\x00"},
		{"a long form of the size", header + "\x01\x81\x80\x00\x00"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			first, err := abi.AppendManifest([]byte(tt.module), valid())
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.HasPrefix(first, []byte(tt.module)) {
				t.Errorf("module became %q, want it to begin with %q", first, tt.module)
			}
			m := valid()
			m.Version = "2.0.0"
			second, err := abi.AppendManifest(first, m)
			if err != nil {
				t.Fatal(err)
			}
			if len(second) != len(first) {
				t.Errorf("replacing made %d octets of %d", len(second), len(first))
			}
			got, err := abi.ReadManifest(second)
			if err != nil {
				t.Fatal(err)
			}
			if got.Version != "2.0.0" || got.Name != m.Name || string(got.Schema) != string(m.Schema) {
				t.Errorf("got %+v, want %+v", got, m)
			}
		})
	}
}

func TestReadManifestRefuses(t *testing.T) {
	section := func(document string) string {
		return "\x00" + string(rune(5+len(document))) + "\x04weir" + document
	}
	const minimal = `{"name":"a","version":"1.0.0","abi":1}`
	if _, err := abi.ReadManifest([]byte(header + section(minimal))); err != nil {
		t.Fatalf("minimal manifest: %v", err)
	}
	for _, tt := range []struct{ name, module, want string }{
		{"no module", "hello", "not a WebAssembly module"},
		{"a component", "\x00asm\x0d\x00\x01\x00", "not a WebAssembly module"},
		{"two", header + section(minimal) + section(minimal), "two custom sections"},
		{"section without size", header + "\x00", "offset 8"},
		{"section beyond the end", header + "\x00\x06\x04weir", "offset 8"},
		{"size of six octets", header + "\x00\x80\x80\x80\x80\x80\x00", "offset 8"},
		{"name beyond the section", header + "\x00\x02\x04weir", "no valid name"},
		{"not JSON", header + section("rules"), "invalid character"},
		{"two values", header + section(minimal+"{}"), "behind"},
		{"unknown key", header + section(`{"name":"a","version":"1.0.0","abi":1,"grant":[]}`), "grant"},
		{"other ABI", header + section(`{"name":"a","version":"1.0.0","abi":2}`), "abi 2: want 1"},
		{"empty", header + section(`{}`), "version \"\""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := abi.ReadManifest([]byte(tt.module))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %v, want one with %q", err, tt.want)
			}
		})
	}
	if _, err := abi.ReadManifest([]byte(header)); !errors.Is(err, abi.ErrNoManifest) {
		t.Errorf("got error %v, want ErrNoManifest", err)
	}
}

func TestManifestValidate(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*abi.Manifest)
		want   string
	}{
		{"valid", func(*abi.Manifest) {}, ""},
		{"prerelease", func(m *abi.Manifest) { m.Version = "1.0.0-rc.1+linux" }, ""},
		{"name in capitals", func(m *abi.Manifest) { m.Name = "Rules" }, "name"},
		{"name with an end", func(m *abi.Manifest) { m.Name = "rules\n" }, "name"},
		{"long name", func(m *abi.Manifest) { m.Name = strings.Repeat("a", 64) }, "name"},
		{"version of two", func(m *abi.Manifest) { m.Version = "1.0" }, "version"},
		{"two lines", func(m *abi.Manifest) { m.Description = "a\nb" }, "description"},
		{"role", func(m *abi.Manifest) { m.Role = "router" }, "role"},
		{"grant", func(m *abi.Manifest) { m.Grants = []string{"files"} }, "grants[0]"},
		{"grant twice", func(m *abi.Manifest) { m.Grants = []string{"log", "log"} }, "twice"},
		{"schema", func(m *abi.Manifest) { m.Schema = []byte("true") }, "schema"},
		{"schema null", func(m *abi.Manifest) { m.Schema = []byte("null") }, "schema"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := valid()
			tt.change(&m)
			err := m.Validate()
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got error %v, want one with %q", err, tt.want)
			}
			if _, appended := abi.AppendManifest([]byte(header), m); (appended == nil) != (err == nil) {
				t.Errorf("AppendManifest says %v, Validate says %v", appended, err)
			}
		})
	}
}

// FuzzReadManifest: no module panics, and a module that can be read can be replaced by what was read.
func FuzzReadManifest(f *testing.F) {
	whole, err := abi.AppendManifest([]byte(header), valid())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)-1])
	f.Add([]byte(header + "\x00\xff\xff\xff\xff\x0f\x04weir{}"))
	f.Fuzz(func(t *testing.T, module []byte) {
		m, err := abi.ReadManifest(module)
		if err != nil {
			return
		}
		again, err := abi.AppendManifest(module, m)
		if err != nil {
			t.Fatalf("read but not appended: %v", err)
		}
		if _, err := abi.ReadManifest(again); err != nil {
			t.Fatalf("appended but not read: %v", err)
		}
	})
}
