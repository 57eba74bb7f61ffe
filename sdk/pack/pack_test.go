package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirdns/weir/abi"
)

func TestPack(t *testing.T) {
	const module = "\x00asm\x01\x00\x00\x00"
	for _, tt := range []struct{ name, manifest, module, want string }{
		{"valid", `{"name": "a", "version": "1.0.0", "abi": 1, "schema": {"type": "object", "properties": {"zone": {"format": "weir-zone"}}}}`, module, ""},
		{"no schema", `{"name": "a", "version": "1.0.0", "abi": 1}`, module, ""},
		{"bad manifest", `{"name": "a", "version": "1.0.0", "abi": 1, "grants": ["root"]}`, module, "grants[0]"},
		{"bad schema", `{"name": "a", "version": "1.0.0", "abi": 1, "schema": {"type": "objekt"}}`, module, "schema"},
		{"schema from elsewhere", `{"name": "a", "version": "1.0.0", "abi": 1, "schema": {"$ref": "https://example.com/a.json"}}`, module, "own definitions"},
		{"no module", `{"name": "a", "version": "1.0.0", "abi": 1}`, "hello", "not a WebAssembly module"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			manifest, in, out := filepath.Join(dir, "filter.json"), filepath.Join(dir, "in.wasm"), filepath.Join(dir, "out.wasm")
			if err := os.WriteFile(manifest, []byte(tt.manifest), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(in, []byte(tt.module), 0o600); err != nil {
				t.Fatal(err)
			}
			err := pack(manifest, in, out)
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got error %v, want one with %q", err, tt.want)
				}
				if _, err := os.Stat(out); err == nil {
					t.Error("wrote a module nevertheless")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			packed, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			if m, err := abi.ReadManifest(packed); err != nil || m.Name != "a" {
				t.Errorf("got manifest %+v, %v", m, err)
			}
		})
	}
}
