package meter

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/weirdns/weir/host/wasm/wat"
)

// features are the ones that weir's modules may use.
const features = api.CoreFeaturesV2 | experimental.CoreFeaturesTailCall | experimental.CoreFeaturesExtendedConst |
	experimental.CoreFeaturesExceptionHandling

// command is a line of a script of the specification's tests, as wast2json writes it.
type command struct {
	Type     string
	Line     int
	Filename string
	Name     string
	As       string
	Action   struct {
		Type, Module, Field string
		Args                []constant
	}
}

type constant struct {
	Type     string
	LaneType string `json:"lane_type"`
	Value    json.RawMessage
}

// stack appends the constant's stack slots.
func (c constant) stack(slots []uint64) ([]uint64, error) {
	if c.Type == "v128" {
		var lanes []string
		if err := json.Unmarshal(c.Value, &lanes); err != nil {
			return nil, err
		}
		width, _ := strconv.Atoi(c.LaneType[1:])
		var v [2]uint64
		for i, lane := range lanes {
			n, err := number(lane, width)
			if err != nil {
				return nil, err
			}
			v[i*width/64] |= n << (i * width % 64)
		}
		return append(slots, v[0], v[1]), nil
	}
	var text string
	if err := json.Unmarshal(c.Value, &text); err != nil {
		return nil, err
	}
	n, err := number(text, 64)
	if c.Type == "externref" {
		n++ // wazero's null is 0
	}
	return append(slots, n), err
}

func number(text string, bits int) (uint64, error) {
	switch {
	case text == "null":
		return 0, nil
	case strings.HasPrefix(text, "-"):
		n, err := strconv.ParseInt(text, 10, 64)
		return uint64(n) & (1<<bits - 1), err
	}
	return strconv.ParseUint(text, 10, 64)
}

// spectest is the module that the scripts import.
var spectest = wat.MustCompile(`(module
	(global (export "global_i32") i32 (i32.const 666)) (global (export "global_i64") i64 (i64.const 666))
	(global (export "global_f32") f32 (f32.const 666.6)) (global (export "global_f64") f64 (f64.const 666.6))
	(table (export "table") 10 20 funcref) (memory (export "memory") 1 2)
	(func (export "print")) (func (export "print_i32") (param i32)) (func (export "print_i64") (param i64))
	(func (export "print_f32") (param f32)) (func (export "print_f64") (param f64))
	(func (export "print_i32_f32") (param i32 f32)) (func (export "print_f64_f64") (param f64 f64)))`)

// script runs the commands of a file; each call's outcome is a line of the result.
type script struct {
	dir     string
	runtime wazero.Runtime
	metered bool
	refused []string
	modules map[string]api.Module
	last    api.Module
}

func (s *script) run(ctx context.Context, commands []command) (outcomes []string) {
	s.modules = make(map[string]api.Module)
	if _, err := s.runtime.InstantiateWithConfig(ctx, spectest, wazero.NewModuleConfig().WithName("spectest")); err != nil {
		return []string{err.Error()}
	}
	for i, c := range commands {
		switch c.Type {
		case "module":
			s.instantiate(ctx, c, commands[i+1:])
		case "action", "assert_return", "assert_trap", "assert_exhaustion", "assert_exception":
			outcomes = append(outcomes, fmt.Sprintf("line %d %s %s: %s", c.Line, c.Type, c.Action.Field, s.act(ctx, c)))
		}
	}
	return outcomes
}

// instantiate gives the module the name that it is registered with later, as wazero wants it from the start.
func (s *script) instantiate(ctx context.Context, c command, rest []command) {
	s.last = nil
	name := ""
	for _, next := range rest {
		if next.Type == "module" && c.Name == "" {
			break
		}
		if next.Type == "register" && next.Name == c.Name {
			name = next.As
			break
		}
	}
	module, err := os.ReadFile(filepath.Join(s.dir, c.Filename))
	if err == nil && s.metered {
		module, _, err = Rewrite(module, Options{
			Fuel: 1 << 60, Stack: 1 << 26, MaxMemoryPages: 65536, MaxTableElements: 1 << 27,
		})
		if err != nil {
			s.refused = append(s.refused, fmt.Sprintf("%s: %v", c.Filename, err))
		}
	}
	if err == nil {
		config := wazero.NewModuleConfig().WithName(name).WithStartFunctions()
		s.last, err = s.runtime.InstantiateWithConfig(ctx, module, config)
	}
	if err == nil && c.Name != "" {
		s.modules[c.Name] = s.last
	}
}

// act calls a function or reads a global.
func (s *script) act(ctx context.Context, c command) string {
	m := s.last
	if c.Action.Module != "" {
		m = s.modules[c.Action.Module]
	}
	if m == nil {
		return "no module"
	}
	if c.Action.Type == "get" {
		g := m.ExportedGlobal(c.Action.Field)
		if g == nil {
			return "no global"
		}
		return fmt.Sprintf("%#x", g.Get())
	}
	f := m.ExportedFunction(c.Action.Field)
	if f == nil {
		return "no function"
	}
	var args []uint64
	for _, arg := range c.Action.Args {
		var err error
		if args, err = arg.stack(args); err != nil {
			return err.Error()
		}
	}
	if s.metered {
		m.ExportedGlobal(FuelExport).(api.MutableGlobal).Set(1 << 60)
		m.ExportedGlobal(StackExport).(api.MutableGlobal).Set(1 << 25)
	}
	results, err := f.Call(ctx, args...)
	if err != nil {
		if c.Type == "assert_exhaustion" {
			return "exhausted"
		}
		text, _, _ := strings.Cut(err.Error(), "\n")
		return text
	}
	for i, t := range f.Definition().ResultTypes() {
		if t == 0x70 && results[i] != 0 && len(results) == len(f.Definition().ResultTypes()) {
			results[i] = 1 // an address
		}
	}
	return fmt.Sprintf("%#x", results)
}

// TestSpecification runs the scripts of the WebAssembly specification's own test suite, which wazero carries along,
// with the modules as they are and metered: each call must have the same outcome.
func TestSpecification(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/tetratelabs/wazero").Output()
	dir := filepath.Join(strings.TrimSpace(string(out)), "internal", "integration_test", "spectest")
	if _, statErr := os.Stat(dir); err != nil || statErr != nil {
		t.Skipf("the module cache has no copy of wazero with its spectest folder: %v %v", err, statErr)
	}
	files, calls, returns := 0, 0, 0
	var refused []string
	for _, suite := range []string{"v1", "v2", "tail-call", "exception-handling", "extended-const"} {
		scripts, err := filepath.Glob(filepath.Join(dir, suite, "testdata", "*.json"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range scripts {
			t.Run(suite+"/"+strings.TrimSuffix(filepath.Base(name), ".json"), func(t *testing.T) {
				text, err := os.ReadFile(name)
				if err != nil {
					t.Fatal(err)
				}
				var file struct{ Commands []command }
				if err := json.Unmarshal(text, &file); err != nil {
					t.Fatal(err)
				}
				var outcomes [2][]string
				for i := range outcomes {
					ctx := t.Context()
					r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().WithCoreFeatures(features))
					s := script{dir: filepath.Dir(name), runtime: r, metered: i == 1}
					outcomes[i] = s.run(ctx, file.Commands)
					refused = append(refused, s.refused...)
					if err := r.Close(ctx); err != nil {
						t.Fatal(err)
					}
				}
				for i, want := range outcomes[0] {
					if got := outcomes[1][i]; got != want {
						t.Errorf("metered: %s\nas is:   %s", got, want)
					}
				}
				files++
				calls += len(outcomes[0])
				returns += len(slices.DeleteFunc(outcomes[0], func(s string) bool {
					return !strings.Contains(s, " assert_return ") || !strings.Contains(s, ": [") && !strings.Contains(s, ": 0x")
				}))
			})
		}
	}
	t.Logf("%d scripts with %d calls; %d assert_return with results; %d modules refused:\n%s", files, calls, returns, len(refused),
		strings.Join(refused, "\n"))
	if returns < 10_000 {
		t.Errorf("%d assert_return with results, want the whole suite", returns)
	}
}
