package main

import (
	"strconv"

	"github.com/weirdns/weir/sdk"
)

// maxAlternates is bounded by the cookie.
const maxAlternates = 1000

// configure reads the alternates, and is interested in the responses that some alternate is for.
func (f *filter) configure(c *sdk.Config) sdk.Interest {
	for key := range c.Object() {
		if key != "alternate" {
			c.Unknown()
			continue
		}
		for range c.Array() {
			f.read(c)
		}
	}
	if len(f.alternates) > maxAlternates {
		c.MistakeAt("alternate", "has "+strconv.Itoa(len(f.alternates))+" elements, at most "+strconv.Itoa(maxAlternates)+" are allowed")
	}
	var all sdk.Interest
	for _, a := range f.alternates {
		all |= a.classes
	}
	return all
}

// read reads one alternate.
func (f *filter) read(c *sdk.Config) {
	path := c.Path()
	a := alternate{upstream: -1}
	hasUpstream := false
	for key := range c.Object() {
		switch key {
		case "rcodes":
			for range c.Array() {
				before := len(c.Mistakes())
				rcode := c.RCODE()
				if rcode == sdk.NOERROR && len(c.Mistakes()) == before {
					c.Mistake("NOERROR is an answer; to ask again when it is empty, set nodata = true")
				}
				a.classes |= sdk.Responses(sdk.Class(rcode))
			}
		case "nodata":
			if c.Bool() {
				a.classes |= sdk.Responses(sdk.NODATA)
			}
		case "zones":
			a.zones = new(sdk.Suffixes)
			for range c.Array() {
				if zone := c.Zone(); zone != nil {
					a.zones.Set(zone, 0)
				}
			}
		case "types":
			a.types = []sdk.Type{}
			for range c.Array() {
				a.types = append(a.types, c.Type())
			}
		case "upstream":
			hasUpstream = true
			a.upstream = c.Upstream()
			a.name = c.UpstreamName(a.upstream)
		case "original":
			if c.Bool() {
				a.options |= sdk.Original
			}
		default:
			c.Unknown()
		}
	}
	if !hasUpstream {
		c.MistakeAt(path, "has no upstream: want the one to ask")
	}
	if a.classes == 0 {
		c.MistakeAt(path, "is for no response: want rcodes, such as [\"NXDOMAIN\", \"SERVFAIL\"], or nodata = true")
	}
	f.alternates = append(f.alternates, a)
}
