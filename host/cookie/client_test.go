package cookie

import (
	"net/netip"
	"testing"
	"time"
)

// TestRFC9018Client: a client has another cookie for each server, for each address of its own, and for each secret, and the same one otherwise (RFC 9018
// section 3); and it has another one each day (RFC 7873 section 7.1).
func TestRFC9018Client(t *testing.T) {
	s := NewSecret()
	local, server := netip.MustParseAddrPort("192.0.2.1:1024"), netip.MustParseAddrPort("198.51.100.1:53")
	day := time.Unix(1_800_000_000, 0).Truncate(rollover)
	first := s.Client(local, server, day)
	for _, tt := range []struct {
		name          string
		secret        *Secret
		local, server string
		now           time.Time
		same          bool
	}{
		{"again", s, "192.0.2.1:1024", "198.51.100.1:53", day, true},
		{"later that day", s, "192.0.2.1:1024", "198.51.100.1:53", day.Add(rollover - time.Second), true},
		{"another local port", s, "192.0.2.1:1025", "198.51.100.1:53", day, true},
		{"the next day", s, "192.0.2.1:1024", "198.51.100.1:53", day.Add(rollover), false},
		{"another local address", s, "192.0.2.2:1024", "198.51.100.1:53", day, false},
		{"another server", s, "192.0.2.1:1024", "198.51.100.2:53", day, false},
		{"another port of the server", s, "192.0.2.1:1024", "198.51.100.1:54", day, false},
		{"another secret", NewSecret(), "192.0.2.1:1024", "198.51.100.1:53", day, false},
		{"IPv6", s, "[2001:db8::1]:1024", "[2001:db8::2]:53", day, false},
	} {
		got := tt.secret.Client(netip.MustParseAddrPort(tt.local), netip.MustParseAddrPort(tt.server), tt.now)
		if (got == first) != tt.same {
			t.Errorf("%s: got %x, and %x before; want the same: %t", tt.name, got, first, tt.same)
		}
	}
	if n := testing.AllocsPerRun(100, func() { s.Client(local, server, day) }); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}
