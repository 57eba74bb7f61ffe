package main

import (
	"slices"

	"github.com/miekg/dns"
	"github.com/spf13/cobra"
)

// completeQuestion completes NAME [TYPE]: names nobody knows, but the types are few.
func completeQuestion(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) != 1 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return questionTypes(), cobra.ShellCompDirectiveNoFileComp
}

// questionTypes are the types that a question can have, in order.
func questionTypes() []string {
	var types []string
	for t, name := range dns.TypeToString {
		switch t {
		case dns.TypeNone, dns.TypeReserved, dns.TypeOPT, dns.TypeAXFR, dns.TypeIXFR, dns.TypeTSIG, dns.TypeTKEY, dns.TypeSIG:
		default:
			types = append(types, name)
		}
	}
	slices.Sort(types)
	return types
}

// completeFile completes [FILE], a configuration.
func completeFile(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return []cobra.Completion{"toml"}, cobra.ShellCompDirectiveFilterFileExt
}
