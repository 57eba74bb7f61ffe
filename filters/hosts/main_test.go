package main

import (
	"testing"

	"github.com/weirdns/weir/sdk/sdktest"
)

func TestCases(t *testing.T) {
	for _, l := range sdktest.Lookups {
		t.Run(l.String(), func(t *testing.T) {
			sdktest.Run(t, "testdata/*.txtar", sdktest.With(l, sdktest.Native(newFilter)))
		})
	}
}

func TestAllocations(t *testing.T) { sdktest.Allocations(t, "testdata/*.txtar", newFilter) }
