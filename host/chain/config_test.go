package chain

import "testing"

func TestConfigValidate(t *testing.T) {
	tests := []struct {
		name   string
		config Config
		want   string
	}{
		{"filters and upstream", Config{Filters: []string{"authority", "rules"}, Upstream: "default"}, ""},
		{"only filters", Config{Filters: []string{"authority"}}, ""},
		{"only an upstream", Config{Upstream: "default"}, ""},
		{"both orders", Config{Upstream: "default", Precedence: "rules"}, ""},
		{"nothing", Config{}, "upstream: is missing: without it and without filters, nothing answers"},
		{"twice", Config{Filters: []string{"a", "b", "a"}}, `filters[2]: "a" is there twice, first in {filters[0]}: a query passes a filter once`},
		{"empty name", Config{Filters: []string{""}}, "filters[0]: is empty: write the name of a filter"},
		{"two mistakes", Config{Filters: []string{"a", "a"}, Precedence: "x"},
			"filters[1]: \"a\" is there twice, first in {filters[0]}: a query passes a filter once\n" +
				"precedence: \"x\" is unknown: write \"authority\" or \"rules\""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := ""
			if err := tt.config.Validate(); err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("Validate() = %q, want %q", got, tt.want)
			}
		})
	}
}
