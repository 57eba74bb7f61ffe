// Package change tells when files have changed, for those who read them again then: the configuration, certificates, secrets.
//
// It looks at them when it is asked to. Notices of the system would be sooner, and are lost on file systems of networks, and when Kubernetes or
// an editor puts another file or directory in the place of the one that was watched.
package change

import "os"

// Files is how files were when they were read, and at the last look. The zero value has seen none. It is not safe for concurrent use.
type Files struct{ taken, before []os.FileInfo }

// Take notes that the files at these paths are read as they are now. It is called before they are read, so that what is written meanwhile is
// another change.
func (f *Files) Take(paths ...string) {
	f.taken = look(paths)
	f.before = f.taken
}

// Settled reports whether the files are others than those taken, and as they were at the last call: editors write in several steps, and a
// certificate and its key are two files. A file that is not there is as good a state as any.
func (f *Files) Settled(paths ...string) bool {
	now := look(paths)
	settled := same(now, f.before)
	f.before = now
	return settled && !same(now, f.taken)
}

// look follows links, for in Kubernetes a link to a directory is what changes.
func look(paths []string) []os.FileInfo {
	all := make([]os.FileInfo, len(paths))
	for i, path := range paths {
		all[i], _ = os.Stat(path) // nil if there is none
	}
	return all
}

func same(f, g []os.FileInfo) bool {
	if len(f) != len(g) {
		return false
	}
	for i, a := range f {
		b := g[i]
		switch {
		case a == nil || b == nil:
			if a != b {
				return false
			}
		case !os.SameFile(a, b) || a.Size() != b.Size() || !a.ModTime().Equal(b.ModTime()):
			return false
		}
	}
	return true
}
