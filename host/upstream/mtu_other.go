//go:build !linux

package upstream

import "syscall"

// noPathMTU does nothing: only Linux has IP_PMTUDISC_OMIT. Queries are far below any MTU there is.
func noPathMTU(_, _ string, _ syscall.RawConn) error { return nil }
