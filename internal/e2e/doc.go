// Package e2e owns the tests of the whole program: the built binary as a
// process, between real HTTP clients and the WeChat simulator. It holds nothing
// but tests.
package e2e
