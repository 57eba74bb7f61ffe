package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirdns/weir/host"
	"github.com/weirdns/weir/host/explain"
	"github.com/weirdns/weir/host/message"
)

func explainCommand() *cobra.Command {
	var client, listener, file, admin, over, path string
	var tcp, live, asJSON bool
	cmd := &cobra.Command{
		Use:   "explain NAME [TYPE]",
		Short: "Tell what happens to a query: chain, filters, cache, upstreams",
		Long: `Tell what happens to a query, step by step: the chain that the client gets, what each filter decides and why, with the line of the
configuration, what the cache has, and each try of an upstream with the time it took.

Without --live and --admin this is done here, from the file: as a start would, weir loads it, but serves nothing. The caches are empty then, and
the upstreams are really asked. With --live the weir that runs with this file is asked, at the address that [admin] names, and with --admin
the one at that address; the query is one like any client's, so what it brings is in the cache afterwards.

TYPE is A unless given. The exit code is 0 whenever the query could be explained, whatever its response, and 1 otherwise.`,
		Example: `  weir explain www.home.arpa
  weir explain www.corp.example AAAA --client 127.0.9.1 --config /etc/weir/weir.toml
  weir explain example.com --live
  weir explain example.com MX --admin 127.0.0.1:5380 --json`,
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: completeQuestion,
		RunE: func(cmd *cobra.Command, args []string) error {
			q := explain.Question{Name: args[0], Listener: listener, Path: path}
			var ok bool
			if q.Over, ok = message.ParseTransport(over); !ok {
				return fmt.Errorf("--over: %q is none of udp, tcp, tls, https, quic", over)
			}
			if tcp {
				q.Over = message.TCP
			}
			if len(args) > 1 {
				q.Type = args[1]
			}
			if client != "" {
				var err error
				if q.Client, err = netip.ParseAddr(client); err != nil {
					return fmt.Errorf("--client: %q is not an IP address", client)
				}
			}
			if _, err := q.Wire(); err != nil {
				return err
			}
			trail, where, err := trailOf(cmd, q, file, admin, live)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if asJSON {
				e := json.NewEncoder(out)
				e.SetIndent("", "  ")
				e.SetEscapeHTML(false)
				return e.Encode(trail)
			}
			fmt.Fprintln(cmd.ErrOrStderr(), where)
			return trail.WriteText(out)
		},
	}
	f := cmd.Flags()
	f.StringVar(&client, "client", "", "address of the client that asks (default 127.0.0.1)")
	f.StringVar(&listener, "listener", "", "address of the listener that is asked (default the first)")
	f.BoolVar(&tcp, "tcp", false, "as if asked over TCP")
	f.StringVar(&over, "over", "udp", "as if asked over udp, tcp, tls, https or quic")
	f.StringVar(&path, "path", "", "as if asked at this path of a URL, over https")
	f.StringVarP(&file, "config", "c", defaultFile, "the configuration")
	f.BoolVar(&live, "live", false, "ask the weir that runs with this configuration")
	f.StringVar(&admin, "admin", "", "ask the weir whose admin server has this address; no configuration is read")
	f.BoolVar(&asJSON, "json", false, "print the trail as JSON")
	cmd.MarkFlagsMutuallyExclusive("live", "admin")
	cobra.CheckErr(cmd.MarkFlagFilename("config", "toml"))
	cobra.CheckErr(cmd.RegisterFlagCompletionFunc("listener", completeListener))
	return cmd
}

// trailOf has the question explained, here or by a weir that runs, and says where.
func trailOf(cmd *cobra.Command, q explain.Question, file, admin string, live bool) (*explain.Trail, string, error) {
	ctx := cmd.Context()
	if admin == "" {
		f, log, err := load(cmd, []string{file})
		if err != nil {
			return nil, "", err
		}
		if !live {
			s, err := host.New(ctx, f, programVersion(), log)
			if err != nil {
				return nil, "", say(cmd, err)
			}
			trail, err := s.Explain(ctx, q)
			return trail, fmt.Sprintf("; from %s, with empty caches; upstreams were asked", f.Path), errors.Join(err, s.Close())
		}
		if admin = f.Admin.Address; admin == "" {
			return nil, "", fmt.Errorf("%s: there is no [admin] with an address, so that a weir with this configuration can't be asked", f.Path)
		}
	}
	trail, err := askAdmin(ctx, admin, q)
	return trail, fmt.Sprintf("; from the weir at %s", admin), err
}

// explainTimeout is more than any query may take.
const explainTimeout = 35 * time.Second

// maxTrail bounds what is read of an answer: 256 steps and a response of 64 KiB, in JSON.
const maxTrail = 4 << 20

// askAdmin asks an admin server.
func askAdmin(ctx context.Context, address string, q explain.Question) (*explain.Trail, error) {
	ctx, cancel := context.WithTimeout(ctx, explainTimeout)
	defer cancel()
	values := url.Values{"name": {q.Name}, "type": {q.Type}, "listener": {q.Listener}}
	if q.Client.IsValid() {
		values.Set("client", q.Client.String())
	}
	values.Set("over", q.Over.String())
	if q.Path != "" {
		values.Set("path", q.Path)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, (&url.URL{Scheme: "http", Host: address, Path: "/explain", RawQuery: values.Encode()}).String(), nil)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", address, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the weir at %s: %w", address, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxTrail))
	if err != nil {
		return nil, fmt.Errorf("ask the weir at %s: %w", address, err)
	}
	if resp.StatusCode != http.StatusOK {
		var problem struct{ Error string }
		if json.Unmarshal(body, &problem) != nil || problem.Error == "" {
			return nil, fmt.Errorf("%s is not the admin server of a weir that can explain: it says %s", address, resp.Status)
		}
		return nil, fmt.Errorf("the weir at %s: %s", address, problem.Error)
	}
	trail := new(explain.Trail)
	if err := json.Unmarshal(body, trail); err != nil {
		return nil, fmt.Errorf("read what %s says: %w", address, err)
	}
	return trail, nil
}
