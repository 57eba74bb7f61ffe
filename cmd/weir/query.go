package main

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
	"github.com/spf13/cobra"

	"github.com/weirdns/weir/host/explain"
)

func queryCommand() *cobra.Command {
	var tcp, noRecurse, dnssec, short bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "query [@SERVER[:PORT]] NAME [TYPE]",
		Short: "Ask a DNS server a question and print what it says",
		Long: `Ask a DNS server a question and print what it says, like a small dig.

SERVER is an address, with port 53 unless another one follows, or unix: and the path of a socket; without one it is 127.0.0.1:5300, where
the example configuration listens.
TYPE is A unless given. The exit code is 0 whenever there was a response, whatever its RCODE, and 1 when there was none.`,
		Example: `  weir query printer.home.arpa
  weir query @192.0.2.53:53 example.com MX --tcp
  weir query @unix:/run/weir/dns.sock example.com
  weir query www.home.arpa AAAA --short`,
		ValidArgsFunction: completeQuestion,
		RunE: func(cmd *cobra.Command, args []string) error {
			server, q, err := parseQuestion(args)
			if err != nil {
				return err
			}
			m := new(dns.Msg)
			m.Id = dns.Id()
			m.RecursionDesired = !noRecurse
			m.Question = []dns.Question{q}
			m.SetEdns0(1232, dnssec)
			c := dns.Client{Timeout: timeout, Net: "udp"}
			if tcp {
				c.Net = "tcp"
			}
			address, local := strings.CutPrefix(server, "unix:")
			if local {
				c.Net = "unix"
			}
			r, took, err := c.ExchangeContext(cmd.Context(), m, address)
			if err == nil && r.Truncated && c.Net == "udp" {
				c.Net = "tcp"
				fmt.Fprintln(cmd.ErrOrStderr(), ";; truncated, asking again over TCP")
				r, took, err = c.ExchangeContext(cmd.Context(), m, address)
			}
			if err != nil {
				return fmt.Errorf("no response from %s: %w", server, err)
			}
			out := cmd.OutOrStdout()
			if short {
				for _, rr := range r.Answer {
					fmt.Fprintln(out, strings.TrimPrefix(rr.String(), rr.Header().String()))
				}
				return nil
			}
			fmt.Fprint(out, r)
			fmt.Fprintf(out, "\n;; %s over %s in %s, %d octets\n", server, c.Net, took.Round(10*time.Microsecond), r.Len())
			return nil
		},
	}
	cmd.Flags().BoolVar(&tcp, "tcp", false, "ask over TCP")
	cmd.Flags().BoolVar(&noRecurse, "norecurse", false, "clear the RD bit")
	cmd.Flags().BoolVar(&dnssec, "dnssec", false, "set the DO bit")
	cmd.Flags().BoolVar(&short, "short", false, "print only the RDATA of the answers")
	cmd.Flags().DurationVar(&timeout, "timeout", 3*time.Second, "how long to wait for the response")
	return cmd
}

// parseQuestion reads [@SERVER[:PORT]] NAME [TYPE], with the server in any place as in dig.
func parseQuestion(args []string) (server string, q dns.Question, err error) {
	server = "127.0.0.1:5300"
	q.Qclass = dns.ClassINET
	q.Qtype = dns.TypeA
	var words []string
	for _, a := range args {
		if s, ok := strings.CutPrefix(a, "@"); ok {
			if server, err = withPort(s); err != nil {
				return "", q, err
			}
			continue
		}
		words = append(words, a)
	}
	if len(words) == 0 || len(words) > 2 {
		return "", q, fmt.Errorf("needs a NAME and at most a TYPE, such as: weir query www.home.arpa AAAA")
	}
	if _, ok := dns.IsDomainName(words[0]); !ok {
		return "", q, fmt.Errorf("%q is not a domain name", words[0])
	}
	q.Name = dns.Fqdn(words[0])
	if len(words) == 2 {
		if q.Qtype, err = explain.ParseType(words[1]); err != nil {
			return "", q, err
		}
	}
	return server, q, nil
}

func withPort(s string) (string, error) {
	if path, ok := strings.CutPrefix(s, "unix:"); ok && path != "" {
		return s, nil
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return net.JoinHostPort(a.String(), "53"), nil
	}
	if _, err := netip.ParseAddrPort(s); err != nil {
		return "", fmt.Errorf("@%s is not an address, or address and port: write @192.0.2.53, @192.0.2.53:5300, @[2001:db8::53]:53 or @unix:/run/weir/dns.sock", s)
	}
	return s, nil
}
