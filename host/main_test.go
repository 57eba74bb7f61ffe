package host

import (
	"os"
	"testing"

	"github.com/weirdns/weir/host/wasm"
)

// Modules that did not come with weir are compiled by a second process of the program, which is this one.
func TestMain(m *testing.M) {
	wasm.CompileChild()
	os.Exit(m.Run())
}
