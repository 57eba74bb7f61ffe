// Package p has targets for the test of the command that runs them.
package p

import (
	"os"
	"testing"
)

func FuzzFine(f *testing.F) {
	f.Add([]byte("a"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, c := range b { // each length is another way
			if c == 'x' {
				t.Log("seen")
			}
		}
	})
}

func FuzzFails(f *testing.F) {
	f.Add([]byte("a"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) != 1 {
			t.Error("not one octet")
		}
	})
}

func FuzzEnds(f *testing.F) {
	f.Add([]byte("a"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) != 1 {
			os.Exit(2)
		}
	})
}

func FuzzEndsOnce(f *testing.F) {
	f.Add([]byte("a"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) != 1 && os.Mkdir("once", 0o700) == nil {
			os.Exit(2)
		}
	})
}
