// Package race tells tests whether the race detector looks on.
//
// It makes them several times slower, and finds what two goroutines do to the same memory. A test that computes alone for seconds, such as a simulation
// of a cache, shows it nothing in the last round that it has not seen in the first ones, and so makes fewer rounds under it. Without it each
// makes all of them.
package race

// Rounds returns how many rounds a test makes that computes in one goroutine: all, or few under the race detector.
func Rounds(all, few int) int {
	if Enabled {
		return few
	}
	return all
}
