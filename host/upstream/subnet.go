package upstream

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/weirdns/weir/host/message"
)

// forwarded is how much of the network of a client is told unless the configuration says it: what RFC 7871 section 11.1 recommends.
var forwarded = message.SubnetLimits{IPv4: 24, IPv6: 56}

// parseSubnet reads Config.ClientSubnet, and returns the option that goes with each query, nil for none, or how much of each client's own network does.
func parseSubnet(text string) (option []byte, limits message.SubnetLimits, err error) {
	verb, value, _ := strings.Cut(text, " ")
	value = strings.TrimSpace(value)
	switch {
	case text == "strip":
		return nil, limits, nil
	case verb == "forward":
		limits, err = parseLimits(text, value)
		return nil, limits, err
	}
	prefix, err := netip.ParsePrefix(value)
	switch {
	case verb != "set" || err != nil:
		return nil, limits, fmt.Errorf("%q: want strip, forward, or set and a prefix, such as \"set 192.0.2.0/24\"", text)
	case prefix != prefix.Masked():
		return nil, limits, fmt.Errorf("%q has bits set behind its length: want \"set %s\"", text, prefix.Masked())
	}
	s := message.Subnet{Family: message.FamilyIPv4, Bits: uint8(prefix.Bits())}
	if prefix.Addr().Is6() {
		s.Family = message.FamilyIPv6
	}
	copy(s.Address[:], prefix.Addr().AsSlice())
	return s.AppendOption(nil, 0), limits, nil
}

// parseLimits reads "/24 /56", the largest prefixes of IPv4 and of IPv6; nothing is the default. text is all of the value, for errors.
func parseLimits(text, value string) (message.SubnetLimits, error) {
	if value == "" {
		return forwarded, nil
	}
	wrong := fmt.Errorf("%q: want forward, or forward and the largest prefixes of IPv4 and IPv6, such as \"forward /24 /56\"", text)
	words := strings.Fields(value)
	if len(words) != 2 {
		return message.SubnetLimits{}, wrong
	}
	var bits [2]uint8
	for i, most := range []int{32, 128} {
		digits, ok := strings.CutPrefix(words[i], "/")
		n, err := strconv.Atoi(digits)
		switch {
		case !ok || err != nil:
			return message.SubnetLimits{}, wrong
		case n < 1 || n > most:
			return message.SubnetLimits{}, fmt.Errorf("%q: %s is not between /1 and /%d, as a prefix of %s", text, words[i], most, [2]string{"IPv4", "IPv6"}[i])
		}
		bits[i] = uint8(n)
	}
	return message.SubnetLimits{IPv4: bits[0], IPv6: bits[1]}, nil
}

// Subnets returns how much of the network of a client the servers are told by "forward" in c, which is valid; otherwise that is nothing.
func (c Config) Subnets() message.SubnetLimits {
	_, limits, _ := parseSubnet(c.WithDefaults().ClientSubnet)
	return limits
}

// tell settles what t tells its server of the client's network, before it is built.
func (x *exchange) tell(t *try) {
	if x.group.subnets.On() && t.edns && !x.untold {
		t.subnet = x.group.subnets.Of(x.query)
	}
}

// parse reads msg, which matches t, as its response.
func (t *try) parse(msg []byte) error {
	if t.subnet.Family != 0 {
		return t.response.ParseFor(msg, &t.question, &t.subnet)
	}
	return t.response.Parse(msg, &t.question)
}

// untell asks the server of t, which refused a query that told a subnet, once more without: only so it shows what it refuses (RFC 7871 section 7.3).
// It reports whether it could.
func (x *exchange) untell(t *try, now time.Time) bool {
	x.untold = true
	return x.follow(t, now, manner{over: t.over, edns: t.edns})
}

// ownOnly has a response be for the network of this client only, since the server has not been told it, and nobody knows whom it refuses else.
func (x *exchange) ownOnly(r *message.Response) {
	r.Tailored, r.Scope = true, x.group.subnets.Of(x.query).Bits
}
