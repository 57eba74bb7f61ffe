package listener

import (
	"context"
	"sync"

	"github.com/weirdns/weir/host/chain"
	"github.com/weirdns/weir/host/message"
)

// wait has a UDP query completed that has to wait. If the handler can, without a goroutine: then whoever has the answer of the upstream goes on with the
// query, and sends the response. all counts it until then. batch is that of the present goroutine.
func (l *Listener) wait(ctx context.Context, all *sync.WaitGroup, s *socket, j *job, batch *message.Batch) {
	if l.udpIn.starter == nil {
		all.Go(func() {
			l.answer(s, j, l.udpIn.complete(ctx, j))
		})
		return
	}
	all.Add(1)
	l.udpIn.counters.inFlight.Inc()
	j.listener, j.socket, j.all, j.exchange.Batch = l, s, all, batch
	if j.exchange.Wake == nil {
		j.exchange.Wake = func() { l.goOn(j) }
	}
	l.goOn(j)
}

// goOn takes j as far as it gets without waiting. If that is not the end, it will be called again, perhaps before it returns.
func (l *Listener) goOn(j *job) {
	out, done := l.udpIn.advance(context.Background(), j, stepStart)
	if !done {
		return
	}
	l.udpIn.counters.inFlight.Dec()
	j.out = out
	if b := j.exchange.Batch; b != nil {
		b.Add(j)
	} else {
		j.Release()
	}
}

// Release implements message.Held: it is the end of a query that has waited.
func (j *job) Release() {
	all := j.all
	j.listener.answer(j.socket, j, j.out)
	all.Done()
}

// answer sends a response, if there is one, and is the end of j.
func (l *Listener) answer(s *socket, j *job, out []byte) {
	if out != nil {
		s.send(out, &j.peer)
	}
	l.udpIn.waiting.release()
	l.jobs.put(j)
}

// step is a method of a handler.
type step uint8

const (
	stepBegin    step = iota // chain.Handler.Begin
	stepComplete             // chain.Handler.Complete
	stepStart                // chain.Starter.Start
)

// take has the handler take a step with x, and reports whether x is done.
func (e *entrance) take(ctx context.Context, x *chain.Exchange, s step) (done bool) {
	switch s {
	case stepBegin:
		return e.handler.Begin(x)
	case stepStart:
		return e.starter.Start(x)
	default:
		e.handler.Complete(ctx, x)
		return true
	}
}
