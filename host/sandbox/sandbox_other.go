//go:build !linux

package sandbox

// Apply does nothing on this system.
func Apply(Paths) *Report {
	const no = "no: only on Linux"
	return &Report{Privileges: no, Capabilities: no, Files: no, SystemCalls: no}
}
