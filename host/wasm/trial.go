package wasm

// What a trial of a filter looks at beside its verdicts: package trial.

// Result is what configure returned: the bits of abi/README.md section 4.
func (f *Filter) Result() uint64 { return f.interest }

// FuelUsed is how many units of fuel all calls that have ended used together. It takes the instances out of use for a moment.
func (f *Filter) FuelUsed() uint64 { return f.counts().fuel }
