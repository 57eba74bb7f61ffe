package cookie

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"testing"
	"time"

	"github.com/weirdns/weir/host/internal/fuzzing"
)

func unhex(tb testing.TB, s string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// jarOf has secrets given in hexadecimal digits.
func jarOf(tb testing.TB, secrets ...string) *Jar {
	tb.Helper()
	text := ""
	for _, s := range secrets {
		text += s + "\n"
	}
	k, err := parseKeys("secrets", []byte(text))
	if err != nil {
		tb.Fatal(err)
	}
	j := new(Jar)
	j.keys.Store(k)
	return j
}

// TestSipHash: the values of the paper and its reference code, for the key 00 01 ... 0f and the message 00 01 02 ...
func TestSipHash(t *testing.T) {
	var secret [SecretSize]byte
	var message [64]byte
	for i := range message {
		message[i] = byte(i)
	}
	copy(secret[:], message[:])
	k := newKey(&secret)
	for size, want := range map[int]uint64{0: 0x726fdb47dd0e0e31, 15: 0xa129ca6149be45e5, 63: 0x958a324ceb064572} {
		if got := k.hash(message[:size]); got != want {
			t.Errorf("%d octets: got %x, want %x", size, got, want)
		}
	}
}

const (
	secretA = "e5e973e5a6b2a43f48e7dc849e37bfcf"
	secretB = "dd3bdf9344b678b185a6f5cb60fca715"
	secretC = "445536bcd2513298075a5d379663c962"
)

// TestRFC9018Vectors: server cookies of all implementations with the same secret are the same (RFC 9018 appendix A).
func TestRFC9018Vectors(t *testing.T) {
	tests := []struct {
		name          string
		secrets       []string
		client, query string
		at            int64
		state         State
		want          string
	}{
		{"A.1, learning a cookie", []string{secretA}, "198.51.100.100", "2464c4abcf10c957", 1559731985, ClientOnly,
			"2464c4abcf10c957010000005cf79f111f8130c3eee29480"},
		{"A.2, a renewed one", []string{secretA}, "198.51.100.100", "2464c4abcf10c957010000005cf79f111f8130c3eee29480", 1559734385, Good,
			"2464c4abcf10c957010000005cf7a871d4a564a1442aca77"},
		{"A.3, reserved octets, and renewed", []string{secretA}, "203.0.113.203", "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5", 1559728000 + 2000, Good, ""},
		{"A.3, the new one", []string{secretA}, "203.0.113.203", "fc93fc62807ddb86", 1559734700, ClientOnly,
			"fc93fc62807ddb86010000005cf7a9acf73a7810aca2381e"},
		{"A.4, after a rollover", []string{secretC, secretB}, "2001:db8:220:1:59de:d0f4:8769:82b8", "22681ab97d52c298010000005cf7c57926556bd0934c72f8", 1559741961, Good, ""},
		{"A.4, the new one", []string{secretC}, "2001:db8:220:1:59de:d0f4:8769:82b8", "22681ab97d52c298", 1559741961, ClientOnly,
			"22681ab97d52c298010000005cf7c609a6bb79d16625507a"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got [Size]byte
			state := jarOf(t, tt.secrets...).Answer(&got, unhex(t, tt.query), netip.MustParseAddr(tt.client), time.Unix(tt.at, 0))
			if state != tt.state {
				t.Errorf("got %v, want %v", state, tt.state)
			}
			if tt.want != "" && hex.EncodeToString(got[:]) != tt.want {
				t.Errorf("got %x, want %s", got, tt.want)
			}
		})
	}
}

// TestRFC7873Length: a client cookie has 8 octets and a server cookie 8 to 32, so the option has 8 or 16 to 40, and all else is malformed (RFC 7873 section
// 5.2.2).
func TestRFC7873Length(t *testing.T) {
	j := Generate()
	for size := range 60 {
		want := Malformed
		switch {
		case size == 8:
			want = ClientOnly
		case size >= 16 && size <= 40:
			want = Bad
		}
		var got [Size]byte
		if state := j.Answer(&got, make([]byte, size), netip.MustParseAddr("192.0.2.1"), time.Now()); state != want {
			t.Errorf("%d octets: got %v, want %v", size, state, want)
		}
	}
}

// TestRFC9018Times: a cookie is good for an hour, and five minutes before it was made; from half an hour on it is renewed (RFC 9018 section 4.3).
func TestRFC9018Times(t *testing.T) {
	j := Generate()
	client := netip.MustParseAddr("2001:db8::1")
	for _, made := range []time.Time{time.Unix(1_800_000_000, 0), time.Unix(1<<32-60, 0)} { // the second one just before the 32 bits are over
		var first [Size]byte
		j.Answer(&first, make([]byte, ClientSize), client, made)
		for _, tt := range []struct {
			after time.Duration
			want  State
			kept  bool
		}{
			{0, Good, true}, {-5 * time.Minute, Good, true}, {-5*time.Minute - time.Second, Bad, false}, {30*time.Minute - time.Second, Good, true},
			{30 * time.Minute, Good, false}, {time.Hour, Good, false}, {time.Hour + time.Second, Bad, false},
		} {
			var got [Size]byte
			if state := j.Answer(&got, first[:], client, made.Add(tt.after)); state != tt.want || (got == first) != tt.kept {
				t.Errorf("%v after: got %v, the same one: %v; want %v, %v", tt.after, state, got == first, tt.want, tt.kept)
			}
		}
	}
}

// TestRFC7873Depends: a server cookie is good for one client cookie, one address and one secret only (RFC 7873 section 4.2).
func TestRFC7873Depends(t *testing.T) {
	j := Generate()
	now := time.Unix(1_800_000_000, 0)
	v4, v6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	for _, client := range []netip.Addr{v4, v6} {
		var good [Size]byte
		j.Answer(&good, []byte("a cookie"), client, now)
		check := func(what string, j *Jar, option []byte, client netip.Addr, want State) {
			t.Helper()
			var got [Size]byte
			if state := j.Answer(&got, option, client, now); state != want {
				t.Errorf("%s: got %v, want %v", what, state, want)
			}
		}
		check("as it was", j, good[:], client, Good)
		check("another address", j, good[:], client.Next(), Bad)
		check("another secret", Generate(), good[:], client, Bad)
		for i := range Size * 8 {
			option := good
			option[i/8] ^= 1 << (i % 8)
			check("one bit", j, option[:], client, Bad)
		}
		check("longer", j, append(good[:], 0), client, Bad)
	}
	var good [Size]byte
	j.Answer(&good, []byte("a cookie"), v4, now)
	var got [Size]byte
	if state := j.Answer(&got, good[:], netip.AddrFrom16(v4.As16()), now); state != Good {
		t.Errorf("IPv4 in IPv6 form: got %v", state)
	}
}

func TestAnswerAllocations(t *testing.T) {
	j, client, now := Generate(), netip.MustParseAddr("2001:db8::1"), time.Now()
	var answer [Size]byte
	option := make([]byte, Size)
	if got := testing.AllocsPerRun(100, func() { j.Answer(&answer, option, client, now) }); got != 0 {
		t.Errorf("got %v allocations, want none", got)
	}
}

// FuzzAnswer: whatever an option has, nothing panics, the client's cookie comes back, and what was given is taken.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte{}, []byte{192, 0, 2, 1}, int64(0))
	f.Add(make([]byte, Size), make([]byte, 16), int64(1<<32))
	j := Generate()
	f.Fuzz(func(t *testing.T, option, address []byte, at int64) {
		client, _ := netip.AddrFromSlice(address)
		if !client.IsValid() {
			client = netip.IPv6Unspecified()
		}
		now := time.Unix(at, 0)
		var answer, again [Size]byte
		var state State
		fuzzing.Bounded(t, 0, 1<<10, func() { state = j.Answer(&answer, option, client, now) })
		if (state == Malformed) == WellFormed(option) {
			t.Fatalf("%x is %v", option, state)
		}
		if state == Malformed {
			return
		}
		if string(answer[:ClientSize]) != string(option[:ClientSize]) {
			t.Errorf("client cookie %x became %x", option[:ClientSize], answer[:ClientSize])
		}
		if got := binary.BigEndian.Uint32(answer[ClientSize+4:]); got != uint32(at) {
			t.Errorf("got the time %d, want %d", got, uint32(at))
		}
		if state := j.Answer(&again, answer[:], client, now); state != Good || again != answer {
			t.Errorf("what was given is %v", state)
		}
	})
}

func BenchmarkAnswer(b *testing.B) {
	j, client, now := Generate(), netip.MustParseAddr("192.0.2.1"), time.Now()
	var answer [Size]byte
	j.Answer(&answer, make([]byte, ClientSize), client, now)
	option := answer
	b.ReportAllocs()
	for b.Loop() {
		j.Answer(&answer, option[:], client, now)
	}
}
