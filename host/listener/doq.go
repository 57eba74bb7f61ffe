package listener

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/weirdns/weir/host/internal/stack"
	"github.com/weirdns/weir/host/message"
)

// alpnQUIC is the protocol of DNS over QUIC (RFC 9250 section 4.1.1).
const alpnQUIC = "doq"

// Error codes of DNS over QUIC, RFC 9250 section 4.3.
const (
	doqNoError       = 0x0
	doqProtocolError = 0x2
	doqExcessiveLoad = 0x4
	doqUnspecified   = 0x5
)

// Faults of a client that end its connection with DOQ_PROTOCOL_ERROR, RFC 9250 section 4.3.3.
var (
	errStreamLength    = errors.New("a stream is not one message behind its length")
	errStreamID        = errors.New("the ID of a message is not 0")
	errStreamNoQuery   = errors.New("a message is no query")
	errStreamKeepalive = errors.New("a query has the option edns-tcp-keepalive")
)

// serveQUIC serves DNS over QUIC, one query on each stream.
func (l *Listener) serveQUIC(ctx, work context.Context) {
	server := &quicServer{listener: l, in: l.quicIn, code: doqExcessiveLoad}
	server.serve(ctx, l.keeper.server(nil, alpnQUIC), -1, func(conn *quic.Conn, g *guest) {
		var streams sync.WaitGroup
		for {
			s, err := conn.AcceptStream(g.ending)
			if err != nil {
				break
			}
			g.begin()
			streams.Go(func() {
				defer l.quicIn.survive()
				defer g.end()
				ended := false
				defer func() {
					if !ended { // by a panic
						s.CancelRead(doqUnspecified)
						s.CancelWrite(doqUnspecified)
					}
				}()
				l.answerStream(work, conn, g, s)
				ended = true
			})
		}
		streams.Wait()
		part(conn, doqNoError)
	})
}

// answerStream answers the query on a stream.
func (l *Listener) answerStream(work context.Context, conn *quic.Conn, g *guest, s *quic.Stream) {
	s.SetReadDeadline(time.Now().Add(l.messageTimeout)) //nolint:errcheck // then the read fails as well
	msg, err := receiveStream(g, s)
	var out []byte
	if err == nil {
		stack.Deepen() // now, since streams that bring nothing need no such stack
		e := l.quicIn
		j := e.jobs.get()
		defer e.jobs.put(j)
		out, err = answerQUIC(work, e, j, g, msg)
	}
	var reset *quic.StreamError
	switch {
	case errors.Is(err, errStreamLength), errors.Is(err, errStreamID), errors.Is(err, errStreamNoQuery), errors.Is(err, errStreamKeepalive):
		conn.CloseWithError(doqProtocolError, err.Error()) //nolint:errcheck // it has none
	case errors.As(err, &reset): // the client does not want the answer any more
		s.CancelWrite(reset.ErrorCode)
	case err != nil || out == nil: // too slow, or a filter says nothing
		s.CancelRead(doqUnspecified)
		s.CancelWrite(doqUnspecified)
	default:
		s.SetWriteDeadline(time.Now().Add(l.writeTimeout)) //nolint:errcheck // then the write fails as well
		framed := append(binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(out)), uint16(len(out))), out...)
		g.respond()
		_, err := s.Write(framed)
		g.proceed()
		if err != nil {
			s.CancelWrite(doqUnspecified)
			return
		}
		s.Close() //nolint:errcheck // the client may have left
	}
}

// answerQUIC answers a query that came over QUIC. An error is the client's.
func answerQUIC(work context.Context, e *entrance, j *job, g *guest, msg []byte) ([]byte, error) {
	q := &j.exchange.Query
	j.names = g.names
	out, ok := e.parse(j, msg, true, g.addr, e.now())
	switch {
	case out == nil && !ok:
		return nil, errStreamNoQuery
	case q.ID != 0:
		return nil, errStreamID
	case q.HasOption(message.OptionKeepalive):
		return nil, errStreamKeepalive
	case !ok:
		return out, nil
	}
	return e.resolve(work, j, ""), nil
}

// receiveStream is readStream, which waits for the client.
func receiveStream(g *guest, s io.Reader) ([]byte, error) {
	g.stall()
	defer g.proceed()
	return readStream(s)
}

// readStream returns the message on a stream, which is all that is on it (RFC 9250 section 4.2).
//
//	| LENGTH, 2 octets | message, LENGTH octets | end of the stream
func readStream(s io.Reader) ([]byte, error) {
	buf := make([]byte, 0, jobQuery)
	for {
		n, err := s.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		whole := 2
		if len(buf) >= whole {
			whole += int(binary.BigEndian.Uint16(buf))
			if len(buf) > whole {
				return nil, errStreamLength
			}
		}
		switch {
		case errors.Is(err, io.EOF) && len(buf) == whole && whole > 2:
			return buf[2:], nil
		case errors.Is(err, io.EOF):
			return nil, errStreamLength
		case err != nil:
			return nil, err
		}
		if len(buf) == cap(buf) { // as octets come, not as the length promises them; one more shows what is too much
			buf = append(make([]byte, 0, min(2*cap(buf), 3+message.MaxSize)), buf...)
		}
	}
}
