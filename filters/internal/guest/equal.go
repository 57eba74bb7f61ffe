//go:build !wasip1

package guest

import (
	"flag"
	"testing"

	"github.com/weirdns/weir/filters/build/driver"
	"github.com/weirdns/weir/sdk"
	"github.com/weirdns/weir/sdk/sdktest"
)

var (
	equalCalls = flag.Int("equal", 5_000, "how many generated calls of each filter are compared, native and as Wasm")
	equalSeed  = flag.Uint64("seed", 1, "the seed of these calls")
)

// TestEqual compares a filter of this repository with its module, in generated calls: see [sdktest.Equal]. The working directory is that of the filter.
// go test -equal 1000000 makes more calls, and -seed others.
func TestEqual(t *testing.T, name string, newFilter func() sdk.Filter) {
	t.Helper()
	module, err := driver.Module(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	r := New(t.Context(), t, module)
	sdktest.Equal(t, "testdata/*.txtar", *equalCalls, *equalSeed, sdktest.Native(newFilter), r.Open)
}
