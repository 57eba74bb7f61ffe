//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
)

// install installs what is missing of dnsdist, unbound and dnsperf from Debian. It tells of what it can't; only without dnsperf there
// is nothing to be done.
func install(o *options) error {
	var missing []string
	for _, program := range []string{"dnsdist", "unbound", "dnsperf"} {
		if !available(program) {
			missing = append(missing, program) // packages and programs have the same names
		}
	}
	if len(missing) > 0 {
		if err := aptInstall(missing); err != nil {
			fmt.Fprintf(o.out, "can't install %v: %v\n", missing, err)
		}
	}
	if !available("dnsperf") {
		return fmt.Errorf("there is no dnsperf: install it, or run this as root on Debian")
	}
	return nil
}

// aptInstall installs packages and has none of their services started, as the policy of the system may: a server that listens on port 53 is
// nothing that a benchmark should leave behind.
func aptInstall(packages []string) error {
	const policy = "/usr/sbin/policy-rc.d"
	if os.Geteuid() == 0 {
		if _, err := os.Stat(policy); os.IsNotExist(err) {
			if err := os.WriteFile(policy, []byte("#!/bin/sh\nexit 101\n"), 0o755); err != nil {
				return err
			}
			defer os.Remove(policy)
		}
	}
	for _, args := range [][]string{{"update", "-qq"}, append([]string{"install", "-y", "-qq", "--no-install-recommends"}, packages...)} {
		cmd := exec.Command("apt-get", args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("apt-get %s: %w: %s", args[0], err, out)
		}
	}
	return nil
}
