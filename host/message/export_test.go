package message

// What the tests, which are outside of the package, need from within.
var CheckName = checkName
