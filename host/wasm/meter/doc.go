// Package meter rewrites a WebAssembly module at load, so that running it takes a bounded amount of time, native stack,
// memory and table elements. It is a pass over the binary, with no knowledge of filters; package wasm owns what the
// host does with the result.
//
// wazero's own guard calls back into Go at each loop header, which costs a small filter several times its own run
// time, and it does not see recursion, tail calls or bulk instructions at all. Two globals in the module are cheap
// instead. A module
//
//	(func $sum (param $n i32) (result i32) (local $s i32)
//	  (loop $l
//	    (local.set $s (i32.add (local.get $s) (local.get $n)))
//	    (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
//	  (call $log (local.get $s))
//	  (return (local.get $s)))
//
// becomes, written with f for the fuel's local and -= for what takes four instructions:
//
//	(global $fuel (export "weir_fuel") (mut i64) (i64.const 50000000))
//	(global $stack (export "weir_stack") (mut i64) (i64.const 2097152))
//	(func $sum (param $n i32) (result i32) (local $s i32) (local $f i64)
//	  $f = $fuel
//	  $stack -= 128; if $stack < 0 { unreachable }      ;; if it may recur; 128 is its frame
//	  block (result i32)                                ;; so that each way out passes the end
//	    (loop $l
//	      $f -= 12; if $f < 0 { unreachable }           ;; the entry's cost is in it
//	      (local.set $s (i32.add (local.get $s) (local.get $n)))
//	      (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
//	    $fuel = $f
//	    (call $log (local.get $s))                      ;; takes from $fuel itself
//	    $f = $fuel
//	    (br 0 (local.get $s))                           ;; was return
//	  end
//	  $fuel = $f
//	  $stack += 128)
//
// # Fuel
//
// Fuel is taken in units of at most about 4 ns (cost.go). It is checked at function entries and loop headers, since no
// endless run avoids both; what lies between is as long as the module's text, once. Each instruction is paid for
// before it runs: at a charge point that control must have passed since it last ran. Charge points are the function's
// entry and the loop headers, and further places once a point has more than 120 units to take ("chunk"); such a point
// pays for both arms of a small if, and for the rest of a small block that a br_if leaves, whether they run or not.
// That takes more fuel and less time: with chunks of 40 units, calls of a Go guest were 2 to 8 percent slower. A loop header never pays for more than a chunk of what its body may skip, so a small loop in a function of
// thousands of instructions (stock Go makes each function one loop around a br_table) pays for itself only. Code
// behind a loop is paid for before it.
//
// A function that has a loop without calls keeps the fuel in a local, which the compiler keeps in a register, and
// brings it home before calls and at its end: a loop of ten instructions takes 1.0 to 1.5 times as long as
// without. Others work on the global. A function that begins with a loop, as those of Go do, pays for its entry in the loop's header.
//
// Bulk instructions, memory.grow and table.grow are charged by their operand and checked on the spot. Growing beyond
// what there can be is not charged: it fails as it should. try_table is charged for the copy of the native stack that
// wazero makes for it, twice its size.
//
// The trap is an unreachable under an if. Branching to one trap at the function's end, as compilers do, was slower.
//
// # Stack
//
// A function that is on no cycle of the call graph is on the stack once, and the frames of all such functions along
// the longest path are added up at load and refused beyond half of Options.Stack. An indirect call leads to all
// functions of its type that a table, a global or ref.func refers to. Imported functions lead nowhere: the host must
// not call back into the module that it serves.
//
// Functions on a cycle take their frame from the budget when they are entered and give it back when they are left, at
// one place at their end; a return_call gives it back before. After an exception is caught, the budget is what it was
// in this frame, which a local remembers. wazero runs a tail call as a plain call where it passes parameters on the
// stack: those are rewritten to calls, and counted.
//
// wazero gives each value that it can't keep in a register a place of its own in the frame, so frames grow with the
// length of the code. The estimate counts locals, the deepest operand stack, each assignment to a local twice, operands
// that live across a call, and locals that blocks merge. TestRecursion holds it against real frames: it is 1.4 to 5
// times too large in the shapes tried, and 2 MiB by that measure come to 5.3 MB of allocations by wazero at most
// (which doubles its stack, and copies it), in 5 ms. Go's frames are estimated at 1 KB in the median, so that
// recursion of some thousand calls is possible; a Go guest parses JSON
// that is nested 800 deep.
//
// # What stays, and what does not
//
// Function, table, memory, type and global indexes stay as they are; the two globals come last, and types, locals and
// labels that are added can't be reached by a module that was not valid before. The start function stays and runs on
// Options.Fuel. Memories and tables get their maximum lowered. Custom sections are kept, except for those that speak of
// places in the code: DWARF, source maps, relocations, branch hints, and the labels in the name section. Stack traces
// keep their function names and lose their lines.
//
// Refused are atomics, typed function references, relaxed SIMD, several memories, 64-bit memories, the withdrawn
// try/catch, catch clauses with a loop's label, and more than 16 catch clauses in one try_table.
//
// # The host's part
//
// Set FuelExport and StackExport before each call, or enter by the exports of Options.Enter, which is what small functions are worth: to set two
// globals and read one through wazero takes 25 ns, as parameters and results they take 4. Discard the instance after a trap, do not call back into it from
// imported functions, and give initialization (_initialize of stock Go takes 3,000,000 units) and configuration a tank of
// their own.
//
// 5,000,000 units, for a call on the query path, last for 28 ms at most with any one instruction of BenchmarkExhaust but
// these: loads that each miss the caches and the TLB take 56 ms, and memory.grow by single pages 80 ms, most of it for
// moving the memory, which wazero's WithMemoryCapacityFromMax avoids. Usual code runs at 0.1 to 0.3 ns per unit.
package meter
