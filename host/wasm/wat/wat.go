// Package wat assembles the WebAssembly text format, for tests and tools.
//
// Tests of a sandbox need modules that no compiler would make: an endless loop, a call out of bounds, a wrong
// signature. In the text format each is ten readable lines, and with this package running them needs nothing but Go.
// It is not on the query path and no part of the program loads it; it checks names, syntax and literals but does not
// validate types, so that tests can also write modules which must be refused.
//
// It knows the instructions of package opcode in their flat and folded forms, and all module fields of the core
// specification 2.0 with inline imports and exports, tags, and custom sections:
//
//	(module
//	  (import "env" "log" (func $log (param i32)))
//	  (memory (export "memory") 1 2)
//	  (data (i32.const 8) "hello\00")
//	  (func (export "run") (param $n i32) (result i32)
//	    (loop $again
//	      (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
//	    i32.const 8
//	    call $log
//	    local.get $n)
//	  (@custom "manifest" "{}"))
//
// Custom sections come at the end of the module in the order of the text; function names go to a name section, so
// that stack traces have them. What it leaves out: the (type ...) field's recursive groups, placement of custom
// sections, and the script commands of .wast files.
package wat

import "fmt"

// Compile assembles a module: one (module ...) or its fields alone. Errors start with the line: "wat: line 3: ...".
func Compile(src string) (module []byte, err error) {
	// The assembler is recursive descent over a tree; unwinding with a panic that never leaves this function keeps
	// every production free of error plumbing.
	defer func() {
		switch e := recover().(type) {
		case nil:
		case *syntaxError:
			module, err = nil, e
		default:
			panic(e)
		}
	}()
	fields := parse(src)
	if len(fields) == 1 && fields[0].head() == "module" {
		fields = fields[0].list[1:]
		if len(fields) > 0 && fields[0].isName() {
			fields = fields[1:]
		}
	}
	return assemble(fields), nil
}

// MustCompile is Compile for source that is part of a test: it panics on an error.
func MustCompile(src string) []byte {
	module, err := Compile(src)
	if err != nil {
		panic(err)
	}
	return module
}

type syntaxError struct {
	line int
	text string
}

func (e *syntaxError) Error() string { return fmt.Sprintf("wat: line %d: %s", e.line, e.text) }

func fail(line int, format string, args ...any) {
	panic(&syntaxError{line, fmt.Sprintf(format, args...)})
}
