package message_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/weirdns/weir/host/message"
)

// withOwners is a response to www.example. A with a record for each owner, in wire format, and RDATA.
func withOwners(records ...[2]string) []byte {
	msg := []byte("\x00\x00\x80\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x07example\x00\x00\x01\x00\x01")
	binary.BigEndian.PutUint16(msg[6:], uint16(len(records)))
	for _, r := range records {
		msg = append(msg, r[0]...)
		msg = append(msg, 0, 16, 0, 1, 0, 0, 1, 0)
		msg = binary.BigEndian.AppendUint16(msg, uint16(len(r[1])))
		msg = append(msg, r[1]...)
	}
	return msg
}

// owners reads the owners of all records.
func owners(msg []byte) (all [][]byte) {
	off := 12 + len("\x03www\x07example\x00") + 4
	for r := range message.Records(msg) {
		name, _, err := message.AppendName(nil, msg, off)
		if err != nil {
			name = []byte(err.Error())
		}
		all = append(all, name)
		off = r.At + 6 + len(r.Data)
	}
	return all
}

func TestSteady(t *testing.T) {
	// The first record is at 29: its owner of two octets, type and class; its TTL is from 35 to 38, and its RDATA at 41.
	for _, tt := range []struct {
		name    string
		records [][2]string
		want    bool
	}{
		{"none", nil, true},
		{"the QNAME", [][2]string{{"\xC0\x0C", ""}}, true},
		{"what the QNAME ends with", [][2]string{{"\x03ftp\xC0\x10", ""}}, true},
		{"no pointer", [][2]string{{"\x03ftp\x07example\x00", ""}, {"\x00", ""}}, true},
		{"a name in RDATA", [][2]string{{"\xC0\x0C", "\x01a\x01b\x00"}, {"\xC0\x29", ""}, {"\x01c\xC0\x2B", ""}}, true},
		{"the owner before", [][2]string{{"\xC0\x0C", ""}, {"\xC0\x1D", ""}}, true},
		{"a TTL", [][2]string{{"\xC0\x0C", ""}, {"\xC0\x23", ""}}, false},
		{"its last octet", [][2]string{{"\xC0\x0C", ""}, {"\x01a\xC0\x26", ""}}, false},
		{"behind it", [][2]string{{"\xC0\x0C", ""}, {"\xC0\x27", ""}}, true},
		{"a label that goes on into the next TTL", [][2]string{{"\xC0\x0C", "\x08"}, {"\xC0\x0C", "\x00"}, {"\xC0\x29", ""}}, false},
		{"by way of a pointer", [][2]string{{"\xC0\x0C", "\xC0\x26"}, {"\xC0\x29", ""}}, false},
	} {
		msg := withOwners(tt.records...)
		var r message.Response
		if err := r.Parse(bytes.Clone(msg), &message.Question{Name: msg[12:25], Key: msg[12:25], Type: 1, Class: 1}); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if got := message.Steady(msg); got != tt.want {
			t.Errorf("%s: got %t, want %t", tt.name, got, tt.want)
		}
	}
}

// TestSteadyOwners has messages with pointers to anywhere: where they are steady, other TTLs leave the owners what they are.
func TestSteadyOwners(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	steady, unsteady := 0, 0
	for range 100_000 {
		var records [][2]string
		for at := 29; len(records) < 1+random.IntN(6); {
			data := make([]byte, random.IntN(5))
			for i := range data {
				data[i] = [...]byte{0, 1, 2, 5, 20, 0xC0, 12, 'a'}[random.IntN(8)]
			}
			to := 12 + random.IntN(at-12)
			records = append(records, [2]string{string([]byte{0xC0, byte(to)}), string(data)})
			at += 12 + len(data)
		}
		msg := withOwners(records...)
		var r message.Response
		if r.Parse(bytes.Clone(msg), &message.Question{Name: msg[12:25], Key: msg[12:25], Type: 1, Class: 1}) != nil {
			continue
		}
		if !message.Steady(msg) {
			unsteady++
			continue
		}
		steady++
		before := owners(msg)
		for r := range message.Records(msg) {
			binary.BigEndian.PutUint32(msg[r.At:], random.Uint32())
		}
		for i, after := range owners(msg) {
			if !bytes.Equal(after, before[i]) {
				t.Fatalf("% x: owner %d was %q, and is %q with other TTLs", msg, i, before[i], after)
			}
		}
	}
	if steady < 1000 || unsteady < 1000 {
		t.Errorf("%d messages are steady and %d are not: that shows little", steady, unsteady)
	}
}

// BenchmarkSteady is what each answer that is to be kept costs: with owners that are the QNAME, and with some that are names in RDATA.
func BenchmarkSteady(b *testing.B) {
	for _, bb := range []struct {
		name string
		msg  []byte
	}{
		{"qname", withOwners([2]string{"\xC0\x0C", "1234"}, [2]string{"\xC0\x0C", "1234"})},
		{"alias", withOwners([2]string{"\xC0\x0C", "\x01a\x01b\x00"}, [2]string{"\xC0\x29", "1234"})},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !message.Steady(bb.msg) {
					b.Fatal("not steady")
				}
			}
		})
	}
}
