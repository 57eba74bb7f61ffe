package host

import (
	"context"
	"fmt"

	"github.com/weirdns/weir/host/chain"
	"github.com/weirdns/weir/host/listener"
	"github.com/weirdns/weir/host/message"
)

// door is where queries of one listener enter: it finds the chain for a client. The longest prefix that holds the client's address decides, at
// first among the scopes with a name of the client, then among those with the path of the query, then among the others; else it is the
// chain of the listener.
type door struct {
	scopes listener.Matchers
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
	if d.scopes, err = c.Matchers(); err != nil {
		return nil, fmt.Errorf("listener %s: %w", c.Address, err)
	}
	return d, nil
}

// Begin implements chain.Handler.
func (d *door) Begin(x *chain.Exchange) bool {
	q := &x.Query
	q.Listener = d.index // as it is now: it may be another one after a reload
	scope, key, ok := d.scopes.Find(q)
	if ok {
		q.Scope = uint16(scope)
		if q.Trace != nil {
			name := d.chains[scope].Name()
			q.Trace.Add(message.Step{Part: "listener", Event: "scope", Chain: name}, "client %s is in {listener[%d].scope[%d].%s}: chain %s",
				q.Client.Addr(), q.Listener, scope, key, name)
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
