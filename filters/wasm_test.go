package filters_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"

	"github.com/weirdns/weir/abi"
	"github.com/weirdns/weir/filters/build/driver"
	"github.com/weirdns/weir/filters/internal/guest"
	"github.com/weirdns/weir/sdk/sdktest"
)

// TestModules runs the cases of each filter against its module, in a bare wazero: the same files that the tests of the filters run
// natively, so both must agree. It also holds the modules to what they say they need.
func TestModules(t *testing.T) {
	files, err := filepath.Glob("*/filter.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("filters: %d found, %v", len(files), err)
	}
	for _, f := range files {
		name := filepath.Dir(f)
		t.Run(name, func(t *testing.T) {
			module, err := driver.Module(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			m, err := abi.ReadManifest(module)
			if err != nil || m.Name != name {
				t.Fatalf("manifest: got name %q and error %v, want %q", m.Name, err, name)
			}
			r := guest.New(t.Context(), t, module)
			checkImports(t, r.Compiled, m)
			for _, l := range sdktest.Lookups {
				t.Run(l.String(), func(t *testing.T) {
					sdktest.Run(t, filepath.Join(name, "testdata", "*.txtar"), sdktest.With(l, r.Open))
				})
			}
		})
	}
}

// checkImports: a module imports nothing that its manifest does not name.
func checkImports(t *testing.T, m wazero.CompiledModule, manifest abi.Manifest) {
	granted := " " + strings.Join(manifest.Grants, " ") + " "
	for _, f := range m.ImportedFunctions() {
		module, name, _ := f.Import()
		need := map[string]string{
			abi.Log: abi.GrantLog, abi.Metric: abi.GrantMetrics, abi.MetricAdd: abi.GrantMetrics,
			abi.TableGet: abi.GrantTables, abi.TableLongest: abi.GrantTables, abi.TableNext: abi.GrantTables, abi.TablePrefix: abi.GrantTables,
		}[name]
		if module == abi.HostModule && need != "" && !strings.Contains(granted, " "+need+" ") {
			t.Errorf("imports %s without the grant %s", name, need)
		}
	}
}
