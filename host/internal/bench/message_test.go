//go:build linux

package main

import (
	"testing"

	"github.com/miekg/dns"
)

// TestAnswer has another implementation of DNS read what upstreams and load send.
func TestAnswer(t *testing.T) {
	for _, tt := range []struct {
		name    string
		qtype   uint16
		mode    string
		rcode   int
		answers int
	}{
		{"an address", dns.TypeA, answers, dns.RcodeSuccess, 1},
		{"no data", dns.TypeAAAA, answers, dns.RcodeSuccess, 0},
		{"no such name", dns.TypeA, nxdomain, dns.RcodeNameError, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			query := new(dns.Msg).SetQuestion("h1.example.test.", tt.qtype)
			query.SetEdns0(1232, false) // which the upstreams ignore
			octets, err := query.Pack()
			if err != nil {
				t.Fatal(err)
			}
			buffer := make([]byte, datagramSize)
			size := answer(buffer, copy(buffer, octets), tt.mode)
			var got dns.Msg
			if err := got.Unpack(buffer[:size]); err != nil {
				t.Fatal(err)
			}
			if !got.Response || got.Id != query.Id || got.Rcode != tt.rcode || len(got.Answer) != tt.answers || got.Question[0] != query.Question[0] || len(got.Extra) > 0 {
				t.Errorf("got %v, want RCODE %d and %d records", &got, tt.rcode, tt.answers)
			}
			if rcode(buffer) != tt.rcode {
				t.Errorf("rcode: got %d, want %d", rcode(buffer), tt.rcode)
			}
		})
	}
	if got := answer(make([]byte, datagramSize), 5, answers); got != 0 {
		t.Errorf("no message: got %d octets", got)
	}
}

func TestAppendQuery(t *testing.T) {
	var got dns.Msg
	if err := got.Unpack(appendQuery(nil, 4711, "h1.example.test")); err != nil {
		t.Fatal(err)
	}
	want := dns.Question{Name: "h1.example.test.", Qtype: dns.TypeA, Qclass: dns.ClassINET}
	if got.Id != 4711 || !got.RecursionDesired || len(got.Question) != 1 || got.Question[0] != want {
		t.Errorf("got %v, want ID 4711, RD and %v", &got, want)
	}
}
