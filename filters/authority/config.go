package main

import (
	"strconv"

	"github.com/weirdns/weir/sdk"
	"github.com/weirdns/weir/sdk/json"
)

// configure reads the configuration that README.md describes.
func (a *authority) configure(c *sdk.Config) sdk.Interest {
	a.ttl = -1
	a.node.Grow(0)
	a.other.Grow(0)
	a.parent.Grow(0)
	var outside [][]byte // what delegate lists
	for key := range c.Object() {
		switch key {
		case "zones":
			for i := range c.Array() {
				a.addZone(c, i)
			}
		case "delegate":
			for range c.Array() {
				outside = append(outside, c.Zone())
			}
		case "fallthrough":
			if c.Kind() == json.Bool {
				a.throughAll = c.Bool()
				continue
			}
			for range c.Array() {
				if zone := c.Zone(); zone != nil {
					a.through.Set(zone, 0)
				}
			}
		case "ttl":
			a.ttl = c.Seconds(maxTTL)
		default:
			c.Unknown()
		}
	}
	for i, zone := range outside {
		if zone == nil {
			continue
		}
		if earlier, ok := a.zones.Set(zone, delegated); !ok && earlier != delegated {
			c.MistakeAt("delegate["+strconv.Itoa(i)+"]", "this is the whole zone of table \""+a.tables[earlier].Name+
				"\": take the table out of zones, or delegate names below the apex")
		}
	}
	if len(a.tables) == 0 {
		return 0
	}
	a.simple = a.ttl < 0 && len(outside) == 0
	return sdk.Queries | sdk.Lookup
}

// addZone reads the name of a table, which is number i of the list, and finds out which zone it holds: its first key is the apex.
func (a *authority) addZone(c *sdk.Config, i int) {
	table := c.Table(sdk.ZoneTable)
	if table == nil {
		return
	}
	apex, _, ok := table.Next(nil, &a.node)
	if !ok {
		c.Mistake("table \"" + table.Name + "\" is empty: want a zone with an SOA record")
		return
	}
	if earlier, ok := a.zones.Set(apex, table.Index()); !ok {
		c.Mistake("table \"" + table.Name + "\" holds " + string(sdk.AppendText(nil, apex)) + ", which table \"" + a.tables[earlier].Name + "\" holds already")
		return
	}
	for len(a.tables) <= table.Index() {
		a.tables, a.places = append(a.tables, nil), append(a.places, 0)
	}
	a.tables[table.Index()], a.places[table.Index()] = table, i
}
