// Package conformance has the test that writes CONFORMANCE.md, and fails when the page is not what the tests of this repository say.
//
// A test that shows a rule of an RFC is named TestRFC, the number, and what it is about, such as TestRFC7766HalfClose. Its comment begins with the
// name, a colon, and the rule in a sentence, which is a row of the page.
package conformance
