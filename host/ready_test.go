package host

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weirdns/weir/host/config"
)

// What is wrong is told, and counts only if the operator says so.
func TestReady(t *testing.T) {
	for _, tt := range []struct {
		name, notReady string
		ready          bool
	}{
		{"as it comes", "", true},
		{"tables count", `not_ready = ["tables"]`, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			zone := filepath.Join(dir, "held.zone")
			write := func(path, text string) {
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			write(zone, "$ORIGIN held.test.\n@ 60 IN SOA ns hostmaster 1 3600 600 86400 60\n@ 60 IN NS ns\n")
			write(filepath.Join(dir, "resolv.conf"), "search test\n")
			write(filepath.Join(dir, "weir.toml"), fmt.Sprintf(`[admin]
address = "127.0.0.1:0"
%s
[[listener]]
address = "127.0.0.1:0"
chain = "main"
[table.held]
zonefile = "held.zone"
[upstream.up]
resolv_conf = "resolv.conf"
[chain.main]
filters = ["authority"]
upstream = "up"
[filter.authority.config]
zones = ["held"]
`, tt.notReady))
			f, err := config.Load(filepath.Join(dir, "weir.toml"), nil)
			if err != nil {
				t.Fatal(err)
			}
			s, err := New(t.Context(), f, "test", testLog(t))
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if r := s.ready(); r.Ready || !slices.Contains(r.Reasons, "not serving: starting") {
				t.Errorf("before it serves: %+v", r)
			}
			s.state.Store(int32(Serving))
			defer s.state.Store(int32(Starting)) // as it is for Close
			if r := s.ready(); !r.Ready || !slices.Contains(r.Warnings, "upstream up has no servers") {
				t.Errorf("without servers: %+v", r)
			}
			write(zone, "$ORIGIN held.test.\n@ 60 IN A nowhere\n")
			if err := s.current.tables["held"].table.Reload(); err == nil {
				t.Fatal("a broken zone was taken")
			}
			r := s.ready()
			all := slices.Concat(r.Reasons, r.Warnings)
			if r.Ready != tt.ready || !slices.ContainsFunc(all, func(l string) bool {
				return strings.HasPrefix(l, "table held could not be read anew: what was read at ")
			}) {
				t.Errorf("with a stale table: %+v, want ready %v", r, tt.ready)
			}
		})
	}
}
