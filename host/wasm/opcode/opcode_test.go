package opcode

import "testing"

func TestTable(t *testing.T) {
	names := make(map[string]Code)
	for i := range All() {
		if got := ByCode(i.Code); got != i {
			t.Errorf("ByCode(%#x) = %v, want %v", i.Code, got, i)
		}
		if other, ok := names[i.Name]; ok && i.Name != "select" {
			t.Errorf("%#x and %#x are both called %s", other, i.Code, i.Name)
		}
		names[i.Name] = i.Code
		if got := ByName(i.Name); got == nil || got.Name != i.Name {
			t.Errorf("ByName(%q) = %v", i.Name, got)
		}
	}
	// 188 of one octet (MVP, sign extension, references, tail calls, exceptions), 18 after 0xfc, 236 vector ones.
	for _, tt := range []struct {
		what      string
		got, want int
	}{{"plain", count(plain[:]), 188}, {"misc", count(misc[:]), 18}, {"vector", count(vector[:]), 236}} {
		if tt.got != tt.want {
			t.Errorf("%d %s instructions, want %d", tt.got, tt.what, tt.want)
		}
	}
	if got := ByName("select").Code; got != Select {
		t.Errorf("select has code %#x, want %#x", got, Select)
	}
}

func TestUnknown(t *testing.T) {
	for _, c := range []Code{0x06, 0x14, 0xfe, 0xff, 0xfc12, 0xfcff, 0xfd9a, 0xfe00, 0xffff} {
		if got := ByCode(c); got != nil {
			t.Errorf("ByCode(%#x) = %v, want nil", c, got)
		}
	}
}

func TestOperands(t *testing.T) {
	tests := []struct {
		name    string
		in, out int
		ok      bool
	}{
		{"i32.add", 2, 1, true}, {"i32.store", 2, 0, true}, {"memory.copy", 3, 0, true}, {"data.drop", 0, 0, true},
		{"memory.size", 0, 1, true}, {"call", 0, 0, false}, {"drop", 0, 0, false},
	}
	for _, tt := range tests {
		if in, out, ok := ByName(tt.name).Operands(); in != tt.in || out != tt.out || ok != tt.ok {
			t.Errorf("%s: Operands() = %d, %d, %t, want %d, %d, %t", tt.name, in, out, ok, tt.in, tt.out, tt.ok)
		}
	}
}

func count(table []Instruction) (n int) {
	for _, i := range table {
		if i.Name != "" {
			n++
		}
	}
	return n
}
