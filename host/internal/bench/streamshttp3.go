//go:build linux

package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// connectHTTP3 asks over HTTP/3, with GET, as connectHTTPS does over HTTP/2.
func (s *streams) connectHTTP3(ctx context.Context, first int, more func() bool) (tally, error) {
	conn, err := quic.DialAddr(ctx, s.addr, s.tls, nil)
	if err != nil {
		return tally{}, err
	}
	defer conn.CloseWithError(0, "") //nolint:errcheck // it has none
	client := new(http3.Transport).NewClientConn(conn)
	return s.askAll(conn, func(query, buf []byte, begun time.Time) (int, error) {
		return s.exchangeHTTP3(ctx, client, query[2:], buf, begun)
	}, first, more)
}

// exchangeHTTP3 asks one query, and returns the RCODE of the response. buf is for that.
func (s *streams) exchangeHTTP3(ctx context.Context, client http.RoundTripper, query, buf []byte, begun time.Time) (code int, err error) {
	ctx, cancel := context.WithDeadline(ctx, begun.Add(patience))
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+s.addr+"/dns-query?dns="+base64.RawURLEncoding.EncodeToString(query), nil)
	if err != nil {
		return 0, err
	}
	request.Header.Set("Accept", "application/dns-message")
	response, err := client.RoundTrip(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("%w: %s", errNoResponse, response.Status)
	}
	n, err := io.ReadFull(response.Body, buf)
	if !errors.Is(err, io.ErrUnexpectedEOF) { // the end of the content is within buf, and behind something
		return 0, errors.Join(err, errNoResponse)
	}
	return checkResponse(buf[:n], query)
}
