//go:build linux

package main

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// metricsOf returns what weir exports, by name and labels as they stand there.
func metricsOf(s *server) (map[string]float64, error) {
	r, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/metrics", s.Admin))
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	return parseMetrics(string(text))
}

// parseMetrics reads the text format of Prometheus, without time stamps.
func parseMetrics(text string) (map[string]float64, error) {
	metrics := map[string]float64{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		end := strings.LastIndexByte(line, ' ')
		if end < 0 {
			return nil, fmt.Errorf("metrics: %q has no value", line)
		}
		value, err := strconv.ParseFloat(line[end+1:], 64)
		if err != nil {
			return nil, fmt.Errorf("metrics: %q: %w", line, err)
		}
		metrics[line[:end]] = value
	}
	return metrics, nil
}

// printCalls shows that filters are called for each query that weir has got.
func printCalls(o *options, s *server) error {
	m, err := metricsOf(s)
	if err != nil {
		return err
	}
	queries := m[`weir_chain_queries_total{chain="main"}`]
	fmt.Fprint(o.out, "calls for each query so far:")
	for _, call := range []string{`filter="authority",phase="query"`, `filter="rules",phase="query"`, `filter="alternate",phase="response"`} {
		name, _, _ := strings.Cut(strings.TrimPrefix(call, `filter="`), `"`)
		fmt.Fprintf(o.out, " %s %.2f", name, m["weir_filter_calls_total{"+call+"}"]/queries)
	}
	fmt.Fprintln(o.out, " (alternate has nothing to say about an answer)")
	return nil
}
