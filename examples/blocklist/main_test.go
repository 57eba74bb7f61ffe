package main

import (
	"testing"

	"github.com/weirdns/weir/sdk/sdktest"
)

func TestCases(t *testing.T) {
	sdktest.Run(t, "*.txtar", sdktest.Native(newFilter))
	sdktest.Run(t, "testdata/*.txtar", sdktest.Native(newFilter))
}

func TestAllocations(t *testing.T) { sdktest.Allocations(t, "*.txtar", newFilter) }
