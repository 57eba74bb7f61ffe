package main

import (
	"testing"

	"github.com/weirdns/weir/sdk/sdktest"
)

// TestCases runs the cases natively; weir filter test runs the same ones as WebAssembly.
func TestCases(t *testing.T) { sdktest.Run(t, "*.txtar", sdktest.Native(newFilter)) }

// TestAllocations: a query allocates nothing, so no garbage collection comes in its way.
func TestAllocations(t *testing.T) { sdktest.Allocations(t, "*.txtar", newFilter) }
