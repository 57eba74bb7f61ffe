package main

import (
	"testing"

	"github.com/weirdns/weir/filters/internal/guest"
)

func TestEqual(t *testing.T) { guest.TestEqual(t, "authority", newFilter) }
