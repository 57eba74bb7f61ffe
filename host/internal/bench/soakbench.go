//go:build linux

package main

import (
	"context"
	"time"

	"github.com/weirdns/weir/host/internal/bench/soak"
)

// benchSoak has weir serve while things go wrong, and looks at each answer.
func benchSoak(o *options) error {
	return soak.Run(context.Background(), soak.Options{
		Weir: o.weir, Dir: o.dir, Time: time.Duration(o.minutes * float64(time.Minute)), Rate: o.rate, Out: o.out,
	})
}
