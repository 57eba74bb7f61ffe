//go:build linux

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/quic-go/quic-go"
	"golang.org/x/sync/errgroup"
)

// connectQUIC asks over QUIC.
func (s *streams) connectQUIC(ctx context.Context, first int, more func() bool) (tally, error) {
	conn, err := quic.DialAddr(ctx, s.addr, s.tls, nil)
	if err != nil {
		return tally{}, err
	}
	defer conn.CloseWithError(0, "") //nolint:errcheck // it has none
	return s.askAll(conn, func(query, buf []byte, begun time.Time) (int, error) { return exchange(conn, query, buf, begun) }, first, more)
}

// exchanger asks one query, which is behind its length, and returns the RCODE of the response. buf is for that.
type exchanger func(query, buf []byte, begun time.Time) (code int, err error)

// askAll asks with as many queries on their way as a connection has.
func (s *streams) askAll(conn *quic.Conn, exchange exchanger, first int, more func() bool) (tally, error) {
	var tallies [streamsInFlight]tally
	var all errgroup.Group
	for i := range tallies {
		all.Go(func() error { return s.ask(conn, exchange, first+i, &tallies[i], more) })
	}
	err := all.Wait()
	var sum tally
	for _, t := range tallies {
		sum.add(t)
	}
	return sum, err
}

// ask sends one query after the other as long as more says so, from one of the list on.
func (s *streams) ask(conn *quic.Conn, exchange exchanger, first int, t *tally, more func() bool) error {
	buf := make([]byte, 2+datagramSize)
	for i := first; more(); i++ {
		begun := time.Now()
		t.Sent++
		code, err := exchange(s.queries[i%len(s.queries)], buf, begun)
		if err != nil {
			if conn.Context().Err() != nil {
				return fmt.Errorf("%s closed a connection: %w", s.addr, err)
			}
			t.Lost++
			continue
		}
		t.completed(code, time.Since(begun))
	}
	return nil
}

// exchange is the exchanger of DNS over QUIC.
func exchange(conn *quic.Conn, query, buf []byte, begun time.Time) (code int, err error) {
	ctx, cancel := context.WithDeadline(context.Background(), begun.Add(patience))
	defer cancel()
	stream, err := conn.OpenStreamSync(ctx)
	if err != nil {
		return 0, err
	}
	if err := stream.SetDeadline(begun.Add(patience)); err != nil {
		return 0, err
	}
	if _, err := stream.Write(query); err != nil {
		return 0, err
	}
	if err := stream.Close(); err != nil {
		return 0, err
	}
	n, err := io.ReadFull(stream, buf)
	if !errors.Is(err, io.ErrUnexpectedEOF) { // the end of the stream is within buf, and behind something
		stream.CancelRead(0)
		return 0, errors.Join(err, errNoResponse)
	}
	if n < 2 || int(binary.BigEndian.Uint16(buf)) != n-2 {
		return 0, errNoResponse
	}
	return checkResponse(buf[2:n], query[2:])
}
