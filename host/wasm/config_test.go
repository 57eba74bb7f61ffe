package wasm

import (
	"strings"
	"testing"
)

func TestSize(t *testing.T) {
	for _, tt := range []struct {
		text string
		want Size
		str  string // "" when it is an error
	}{
		{"32MiB", 32 << 20, "32MiB"},
		{"512 KiB", 512 << 10, "512KiB"},
		{"1024MiB", 1 << 30, "1GiB"},
		{"65537", 65537, "65537B"},
		{"0", 0, "0B"},
		{"32MB", 0, ""},
		{"-1", 0, ""},
		{"", 0, ""},
		{"1.5MiB", 0, ""},
		{"99999999999999999GiB", 0, ""},
	} {
		t.Run(tt.text, func(t *testing.T) {
			var got Size
			err := got.UnmarshalText([]byte(tt.text))
			if (err == nil) != (tt.str != "") {
				t.Fatalf("UnmarshalText(%q): %v, want an error: %v", tt.text, err, tt.str == "")
			}
			if err == nil && (got != tt.want || got.String() != tt.str) {
				t.Errorf("UnmarshalText(%q) = %d (%s), want %d (%s)", tt.text, got, got, tt.want, tt.str)
			}
		})
	}
}

func TestConfigValidate(t *testing.T) {
	for _, tt := range []struct {
		name   string
		config Config
		want   []string // beginnings of the lines
	}{
		{"defaults", Config{}, nil},
		{"everything", Config{
			Fuel: 10, Memory: 4 << 10, OnError: "refuse", Grants: []string{"forward", "files", "forward"},
		}, []string{"fuel: is 10: ", "memory: is 4KiB: ", `on_error: "refuse" is unknown: `, `grants[1]: "files" is not a grant: `, `grants[2]: "forward" is there twice`}},
		{"too much", Config{Fuel: 1 << 62, Memory: 8 << 30}, []string{"fuel: ", "memory: is 8GiB: "}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			if err := tt.config.Validate(); err != nil {
				got = strings.Split(err.Error(), "\n")
			}
			if len(got) != len(tt.want) {
				t.Fatalf("Validate gives %d mistakes, want %d:\n%s", len(got), len(tt.want), strings.Join(got, "\n"))
			}
			for i := range got {
				if !strings.HasPrefix(got[i], tt.want[i]) {
					t.Errorf("mistake %d is %q, want %q...", i, got[i], tt.want[i])
				}
			}
		})
	}
}
