//go:build !linux

package upstream

// batch is for systems that read many datagrams with one system call.
type batch struct{}

func newBatch(*socket) *batch { return nil }

func (*batch) read() {}
