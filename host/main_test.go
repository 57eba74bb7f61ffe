package host

import (
	"fmt"
	"os"
	"testing"

	"github.com/weirdns/weir/host/wasm"
)

// Modules that did not come with weir are compiled by a second process of the program, which is this one.
func TestMain(m *testing.M) {
	wasm.CompileChild()
	unmeasured = os.Getenv(unmeasuredVariable) != ""
	if path := os.Getenv(serveVariable); path != "" {
		fmt.Fprintln(os.Stderr, serveChild(path))
		os.Exit(1)
	}
	os.Exit(m.Run())
}
