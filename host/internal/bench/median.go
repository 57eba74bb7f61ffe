//go:build linux

package main

import (
	"fmt"
	"slices"
)

// spread is the median of some values, and the lowest and the highest of them.
type spread struct{ median, min, max float64 }

// spreadOf returns the spread of some values, at least one.
func spreadOf(values []float64) spread {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return spread{median: (sorted[(n-1)/2] + sorted[n/2]) / 2, min: sorted[0], max: sorted[n-1]}
}

// format prints the spread as "median [min–max]", with a number of decimals.
func (s spread) format(decimals int) string {
	return fmt.Sprintf("%.*f [%.*f–%.*f]", decimals, s.median, decimals, s.min, decimals, s.max)
}
