//go:build !wasip1

// Command pack gives a module its manifest:
//
//	pack -manifest filter.json IN.wasm [OUT.wasm]
//
// It validates the manifest and its JSON Schema, and writes a copy of IN with the manifest to OUT, or in place. A manifest
// that the module had is replaced.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/weirdns/weir/abi"
	"github.com/weirdns/weir/sdk/pack/manifest"
)

func main() {
	name := flag.String("manifest", "filter.json", "the manifest, a JSON document")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: pack [-manifest filter.json] IN.wasm [OUT.wasm]")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() < 1 || flag.NArg() > 2 {
		flag.Usage()
		os.Exit(2)
	}
	in, out := flag.Arg(0), flag.Arg(flag.NArg()-1)
	if err := pack(*name, in, out); err != nil {
		fmt.Fprintln(os.Stderr, "pack:", err)
		os.Exit(1)
	}
}

// pack writes the module in, with the manifest of a file, to out.
func pack(name, in, out string) error {
	m, err := manifest.Read(name)
	if err != nil {
		return err
	}
	module, err := os.ReadFile(in)
	if err != nil {
		return err
	}
	packed, err := abi.AppendManifest(module, m)
	if err != nil {
		return fmt.Errorf("%s: %w", in, err)
	}
	return os.WriteFile(out, packed, 0o666)
}
