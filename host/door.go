package host

import (
	"context"
	"fmt"

	"github.com/weirdns/weir/host/chain"
	"github.com/weirdns/weir/host/listener"
	"github.com/weirdns/weir/host/message"
)

// door is where queries of one listener enter: it finds the chain for a client. The longest prefix that holds the client's address decides, at
// first among the scopes with the path of the query, then among those without a path; else it is the chain of the listener.
type door struct {
	scopes *listener.Scopes
	paths  map[string]*listener.Scopes
	chains []*chain.Chain // by scope
	other  *chain.Chain
	index  uint16 // of the listener
}

var _ chain.Handler = (*door)(nil)

func newDoor(c listener.Config, index uint16, chains map[string]*chain.Chain) (*door, error) {
	d := &door{other: chains[c.Chain], index: index}
	for _, s := range c.Scope {
		d.chains = append(d.chains, chains[s.Chain])
	}
	var err error
	if d.paths, err = c.Scopes(); err != nil {
		return nil, fmt.Errorf("listener %s: %w", c.Address, err)
	}
	d.scopes = d.paths[""]
	return d, nil
}

// Begin implements chain.Handler.
func (d *door) Begin(x *chain.Exchange) bool {
	q := &x.Query
	q.Listener = d.index // as it is now: it may be another one after a reload
	scope, ok := 0, false
	if q.Path != "" {
		if s := d.paths[q.Path]; s != nil {
			scope, ok = s.Find(q.Client.Addr())
		}
	}
	ofPath := ok
	if !ok {
		scope, ok = d.scopes.Find(q.Client.Addr())
	}
	if ok {
		q.Scope = uint16(scope)
		if q.Trace != nil {
			name := d.chains[scope].Name()
			what := "clients"
			if ofPath {
				what = "path"
			}
			q.Trace.Add(message.Step{Part: "listener", Event: "scope", Chain: name}, "client %s is in {listener[%d].scope[%d].%s}: chain %s",
				q.Client.Addr(), q.Listener, scope, what, name)
		}
		return d.chains[scope].Begin(x)
	}
	q.Scope = message.None
	if q.Trace != nil {
		name := d.other.Name()
		q.Trace.Add(message.Step{Part: "listener", Event: "scope", Chain: name}, "client %s is in no scope: {listener[%d].chain} says %s",
			q.Client.Addr(), q.Listener, name)
	}
	return d.other.Begin(x)
}

// Complete implements chain.Handler.
func (d *door) Complete(ctx context.Context, x *chain.Exchange) { x.Complete(ctx) }
