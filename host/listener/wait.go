package listener

import (
	"context"

	"github.com/weirdns/weir/host/chain"
	"github.com/weirdns/weir/host/datagram"
	"github.com/weirdns/weir/host/message"
)

// wait has a UDP query completed that has to wait. If the handler can, without a goroutine: then whoever has the answer of the upstream goes on with the
// query, and sends the response. It has been taken into the quota, until then. batch is that of the present goroutine.
func (l *Listener) wait(ctx context.Context, s *socket, j *job, batch *message.Batch) {
	if l.udpIn.starter == nil {
		taken := j.share
		j.exchange.Batch = nil
		go func() {
			defer l.udpIn.waiting.release(taken)
			defer l.udpIn.survive()
			l.answer(s, j, l.udpIn.complete(ctx, j))
		}()
		return
	}
	j.listener, j.socket, j.exchange.Batch = l, s, batch
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
	j.out = out
	if b := j.exchange.Batch; b != nil {
		b.Add(j.socket, j)
	} else {
		taken := j.share
		l.answer(j.socket, j, out)
		l.udpIn.waiting.release(taken)
	}
}

// Send implements message.Sender: it sends the responses of queries that have waited, and is their end.
func (s *socket) Send(held []any) {
	lot := datagram.GetLot()
	for _, h := range held {
		j := h.(*job)
		if len(j.out) == 0 {
			continue
		}
		if lot.Full() {
			s.out.Write(lot)
			lot.Reset()
		}
		lot.AddTo(s.out, j.out, j.peer.addr, j.peer.control[:j.peer.controlSize])
	}
	s.out.Write(lot) // an error is not the listener's: the client is gone, or it was never there
	lot.Put()
	l := held[0].(*job).listener // which has the socket
	l.jobs.end(held, l.udpIn.waiting.shares)
	l.udpIn.waiting.leave(len(held))
}

// answer sends a response, if there is one, and is the end of j.
func (l *Listener) answer(s *socket, j *job, out []byte) {
	if out != nil {
		s.send(out, &j.peer)
	}
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
