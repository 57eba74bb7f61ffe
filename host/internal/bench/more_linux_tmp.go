//go:build linux

package main

func runLoad(a []string) error       { return nil }
func benchPaced(o *options) error    { return nil }
func benchOverload(o *options) error { return nil }
func benchGrowth(o *options) error   { return nil }
func benchCores(o *options) error    { return nil }
