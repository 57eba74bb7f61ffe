package message_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/host/message"
	mt "github.com/weirdns/weir/host/message/messagetest"
)

func TestParseName(t *testing.T) {
	label63, label64 := strings.Repeat("a", 63), strings.Repeat("a", 64)
	long := strings.Repeat(label63+".", 3) // 192 octets
	tests := []struct {
		name, text, want, wantErr string
	}{
		{"root", ".", "\x00", ""},
		{"one label", "com", "\x03com\x00", ""},
		{"absolute", "com.", "\x03com\x00", ""},
		{"lower case", "ExAmple.COM", "\x07example\x03com\x00", ""},
		{"digits and signs", "_25._tcp.a-b.1", "\x03_25\x04_tcp\x03a-b\x011\x00", ""},
		{"wildcard", "*.example", "\x01*\x07example\x00", ""},
		{"dot in a label", `a\.b.c`, "\x03a.b\x01c\x00", ""},
		{"escaped backslash", `a\\.c`, "\x02a\\\x01c\x00", ""},
		{"decimal escape", `a\000\255\046`, "\x04a\x00\xff.\x00", ""},
		{"decimal escape of a letter", `\065`, "\x01a\x00", ""},
		{"label of 63", label63, "\x3f" + label63 + "\x00", ""},
		{"name of 255", long + strings.Repeat("b", 61), string(bytes.Repeat([]byte("\x3f"+label63), 3)) + "\x3d" + strings.Repeat("b", 61) + "\x00", ""},

		{"empty", "", "", "is empty"},
		{"dots", "..", "", "empty label"},
		{"dot first", ".com", "", "empty label"},
		{"empty label", "a..b", "", "empty label"},
		{"empty label at the end", "a..", "", "empty label"},
		{"label of 64", label64, "", "more than 63"},
		{"label of 64 in the middle", "a." + label64 + ".b", "", "more than 63"},
		{"name of 256", long + strings.Repeat("b", 62), "", "256 octets"},
		{"space", "a b", "", "'a b'"},
		{"not ASCII", "bücher.de", "", "xn--"},
		{"control", "a\x7f", "", `\127`},
		{"escape at the end", `a\`, "", "incomplete escape"},
		{"one digit", `a\1`, "", "incomplete escape"},
		{"two digits", `a\12.b`, "", "incomplete escape"},
		{"256", `a\256`, "", "above"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := message.ParseName(tt.text)
			if tt.wantErr != "" {
				want := strings.ReplaceAll(tt.wantErr, "'", `"`)
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got %x and the error %v; want an error with %q", got, err, want)
				}
				return
			}
			if err != nil || string(got) != tt.want {
				t.Fatalf("got %q, %v; want %q", got, err, tt.want)
			}
			back, err := message.ParseName(message.NameString(got))
			if err != nil || !bytes.Equal(back, got) {
				t.Errorf("NameString gives %q, of which ParseName makes %q, %v", message.NameString(got), back, err)
			}
		})
	}
}

func TestNameString(t *testing.T) {
	tests := []struct{ name, wire, want string }{
		{"nothing", "", "."},
		{"root", "\x00", "."},
		{"plain", "\x03WwW\x03com\x00", "WwW.com."},
		{"octets", "\x05\x00\n\x7f\xff \x00", `\000\010\127\255\032.`},
		{"zone file signs", "\x08.\\\";()@$\x00", `\.\\\"\;\(\)\@\$.`},
		{"cut short", "\x05ab", "ab."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := message.NameString([]byte(tt.wire)); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
	// Every octet comes back through the other library, and leaves nothing but printable ASCII.
	for c := range 256 {
		wire := []byte{1, byte(c), 0}
		text := message.NameString(wire)
		for _, r := range text {
			if r <= ' ' || r >= 0x7F {
				t.Errorf("octet %d is written as %q", c, text)
			}
		}
		buf := make([]byte, 10)
		n, err := dns.PackDomainName(text, buf, 0, nil, false)
		if err != nil || !bytes.Equal(buf[:n], wire) {
			t.Errorf("octet %d: %s becomes %x, %v", c, text, buf[:n], err)
		}
	}
}

func TestAppendName(t *testing.T) {
	pad := string(make([]byte, 12))
	ptr := func(off int) string { return string(mt.Pointer(off)) }
	long := string(mt.LongName(255))
	tests := []struct {
		name, msg string
		off       int
		want      string // "" for an error
		end       int
	}{
		{"root", pad + "\x00", 12, "\x00", 13},
		{"labels", pad + "\x01A\x02bc\x00", 12, "\x01A\x02bc\x00", 18},
		{"pointer", pad + "\x01a\x00" + ptr(12), 15, "\x01a\x00", 17},
		{"labels and pointer", pad + "\x01a\x00\x01b" + ptr(12) + "x", 15, "\x01b\x01a\x00", 19},
		{"two pointers", pad + "\x01a\x00" + "\x01b" + ptr(12) + "\x01c" + ptr(15), 19, "\x01c\x01b\x01a\x00", 23},
		{"pointer to the root", pad + "\x00" + ptr(12), 13, "\x00", 15},
		{"255 octets", pad + long, 12, long, 12 + 255},
		{"254 octets and a pointer", pad + long[192:] + long[:192] + ptr(12), 12 + 63, long[:192] + long[192:], 12 + 63 + 192 + 2},
		{"126 pointers", pad + "\x00" + string(mt.Pointers(126, 13, 12)), 13 + 250, "\x00", 13 + 252},

		{"off at the end", pad, 12, "", 0},
		{"off beyond the end", pad, 13, "", 0},
		{"no root", pad + "\x01a", 12, "", 0},
		{"label beyond the end", pad + "\x02a", 12, "", 0},
		{"256 octets", pad + string(mt.LongName(256)), 12, "", 0},
		{"256 octets through a pointer", pad + long[192:] + "\x01x" + long[:192] + ptr(12), 12 + 63, "", 0},
		{"half a pointer", pad + "\xc0", 12, "", 0},
		{"label type 01", pad + "\x40", 12, "", 0},
		{"label type 10", pad + "\x80\x00", 12, "", 0},
		{"to itself", pad + ptr(12), 12, "", 0},
		{"loop through a label", pad + "\x01a" + ptr(12), 12, "", 0},
		{"loop of two", pad + ptr(14) + ptr(12), 14, "", 0},
		{"forward", pad + ptr(14) + "\x00", 12, "", 0},
		{"back, then forward over itself", pad + "\x03abc" + ptr(12) + "\x00", 16, "", 0},
		{"back, then forward through itself to a root behind", pad + "\x04abc" + ptr(12) + "\x00", 16, "", 0},
		{"back, then forward to the pointer", pad + "\x01ab" + ptr(12), 14, "", 0},
		{"into the header", pad + "\x00" + ptr(11), 13, "", 0},
		{"beyond the end", pad + ptr(0x3fff), 12, "", 0},
		{"127 pointers", pad + "\x00" + string(mt.Pointers(127, 13, 12)), 13 + 252, "", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			msg := []byte(tt.msg)
			name, end, err := message.AppendName([]byte("??"), msg, tt.off)
			checkEnd, checkErr := message.CheckName(msg, tt.off)
			if tt.want == "" {
				if err == nil || checkErr == nil {
					t.Fatalf("got %q and the errors %v, %v; want errors", name, err, checkErr)
				}
				if !bytes.HasPrefix(name, []byte("??")) {
					t.Errorf("what was in the buffer has changed: %q", name)
				}
				return
			}
			if err != nil || string(name) != "??"+tt.want || end != tt.end {
				t.Errorf("got %q, %d, %v; want %q, %d", name, end, err, "??"+tt.want, tt.end)
			}
			if checkErr != nil || checkEnd != tt.end {
				t.Errorf("checkName: got %d, %v; want %d", checkEnd, checkErr, tt.end)
			}
			if string(msg) != tt.msg {
				t.Error("the message has changed")
			}
		})
	}
}

func TestInZone(t *testing.T) {
	tests := []struct {
		name, zone string
		want       bool
	}{
		{"example.com", "example.com", true},
		{"www.example.com", "example.com", true},
		{"a.b.example.com", "example.com", true},
		{"example.com", ".", true},
		{".", ".", true},
		{".", "com", false},
		{"com", "example.com", false},
		{"badexample.com", "example.com", false},
		{"example.com.org", "example.com", false},
		{"xexample.com", "example.com", false},
	}
	for _, tt := range tests {
		t.Run(tt.name+" in "+tt.zone, func(t *testing.T) {
			if got := message.InZone(mt.Name(tt.name), mt.Name(tt.zone)); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
	// The octets of the zone are there, within a label.
	if message.InZone([]byte("\x05a\x03com\x00"), []byte("\x03com\x00")) {
		t.Error("a label that ends with the octets of a zone counts as in the zone")
	}
}

func TestEqualNameAndCanonical(t *testing.T) {
	for a := range 256 {
		for b := range 256 {
			x, y := []byte{1, byte(a), 0}, []byte{1, byte(b), 0}
			want := a == b || a < 128 && b < 128 && strings.EqualFold(string(rune(a)), string(rune(b)))
			if got := message.EqualName(x, y); got != want {
				t.Fatalf("EqualName(%d, %d): got %v, want %v", a, b, got, want)
			}
			if got := bytes.Equal(message.AppendCanonical(nil, x), message.AppendCanonical(nil, y)); got != want {
				t.Fatalf("AppendCanonical of %d and %d: equal %v, want %v", a, b, got, want)
			}
		}
	}
	if message.EqualName([]byte{0}, []byte("\x01a\x00")) {
		t.Error("names of different lengths are equal")
	}
	if got := message.AppendCanonical([]byte("QQ"), []byte("\x3fA")); string(got) != "QQ\x3fa" {
		t.Errorf("got %q", got)
	}
}

// TestRFC9267Pointers: compression pointers lead strictly backwards, and following them takes a bounded number of steps (section 2).
// The test counts what a hostile response costs in steps instead of time: whatever Parse accepts can be walked in a bounded number of steps for each
// record, however long the chains of pointers in it are.
func TestRFC9267Pointers(t *testing.T) {
	const perName = 126 + 128 // pointers, labels and the root
	for _, pointers := range []int{1, 125, 126, 500, 5000} {
		t.Run(fmt.Sprint(pointers, " pointers"), func(t *testing.T) {
			msg := hostile(4000, pointers)
			var r message.Response
			q := mt.Asked()
			err := r.Parse(bytes.Clone(msg), q)
			if want := pointers <= 125; (err == nil) != want {
				t.Fatalf("got %v, want that it is accepted: %v", err, want)
			}
			if err != nil {
				return
			}
			total, records := 0, 0
			for off := 12 + len(q.Name) + 4; off < len(msg); records++ {
				end, n := nameSteps(msg, off)
				total += n
				off = end + 10 + int(msg[end+8])<<8 + int(msg[end+9])
			}
			if most := records * perName; total > most {
				t.Errorf("got %d steps for %d records, want at most %d", total, records, most)
			}
		})
	}
}

// hostile is a response of at most 64 KB in which each owner is at the end of a chain of pointers.
func hostile(records, pointers int) []byte {
	q := mt.Asked()
	end := 12 + len(q.Name) + 4
	chain := mt.Pointers(pointers, end+11, 12)
	msg := mt.Join(mt.Header(1, message.FlagQR, 1, 0, 0, 0), q.AppendWire(nil), mt.Record([]byte{0}, 16, chain...))
	n := 1
	for a := mt.Record(mt.Pointer(end+11+2*(pointers-1)), message.TypeA, 192, 0, 2, 1); n <= records && len(msg)+len(a) <= message.MaxSize; n++ {
		msg = append(msg, a...)
	}
	msg[6], msg[7] = byte(n>>8), byte(n)
	return msg
}

// nameSteps walks a valid name and counts its labels and pointers.
func nameSteps(msg []byte, off int) (end, steps int) {
	for {
		steps++
		switch c := int(msg[off]); {
		case c == 0:
			if end == 0 {
				end = off + 1
			}
			return end, steps
		case c >= 0xC0:
			if end == 0 {
				end = off + 2
			}
			off = (c&0x3F)<<8 | int(msg[off+1])
		default:
			off += c + 1
		}
	}
}

func ExampleParseName() {
	name, _ := message.ParseName("WWW.example.com")
	fmt.Printf("%q %s\n", name, message.NameString(name))
	// Output: "\x03www\aexample\x03com\x00" www.example.com.
}
