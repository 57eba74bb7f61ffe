package main

import (
	"os"
	"slices"
	"strings"

	"github.com/miekg/dns"
	"github.com/spf13/cobra"

	"github.com/weirdns/weir/host/config"
)

// completeQuestion completes [@SERVER] NAME [TYPE]: names nobody knows, but the types are few.
func completeQuestion(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	args = slices.DeleteFunc(slices.Clone(args), func(a string) bool { return strings.HasPrefix(a, "@") })
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

// completeListener completes the address of a listener of the configuration that --config names.
func completeListener(cmd *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	path, err := cmd.Flags().GetString("config")
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	f, err := config.Load(path, os.Environ())
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var addresses []cobra.Completion
	for _, l := range f.Listeners {
		addresses = append(addresses, cobra.CompletionWithDesc(l.Address, "chain "+l.Chain))
	}
	return addresses, cobra.ShellCompDirectiveNoFileComp
}
