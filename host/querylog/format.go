package querylog

import (
	"net/netip"
	"strconv"
	"time"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/host/message"
)

// flags are the names of the bits of a response's header, in the order in which CoreDNS writes them.
var flags = []struct {
	bit  uint16
	name string
}{
	{message.FlagQR, "qr"}, {message.FlagAA, "aa"}, {message.FlagTC, "tc"}, {message.FlagRD, "rd"}, {message.FlagRA, "ra"}, {message.FlagAD, "ad"}, {message.FlagCD, "cd"},
}

func appendFlags(dst []byte, word uint16) []byte {
	before := len(dst)
	for _, f := range flags {
		if word&f.bit == 0 {
			continue
		}
		if len(dst) > before {
			dst = append(dst, ',')
		}
		dst = append(dst, f.name...)
	}
	return dst
}

// appendCoreDNS appends e as the plugin log of CoreDNS does:
//
//	[INFO] CLIENT:PORT - ID "TYPE CLASS NAME PROTOCOL SIZE DO UDPSIZE" RCODE FLAGS SIZE SECONDSs
//
// RCODE and FLAGS of a query without a response are "-". The name has no character that could end it, or the line.
func appendCoreDNS(dst []byte, e *Entry) []byte {
	dst = append(dst, "[INFO] "...)
	if e.Client.IsValid() {
		dst = netip.AddrPortFrom(e.Client.Addr().WithZone(""), e.Client.Port()).AppendTo(dst)
	} else { // over a Unix-domain socket
		dst = append(dst, "unix:0"...)
	}
	dst = append(dst, " - "...)
	dst = strconv.AppendUint(dst, uint64(e.ID), 10)
	dst = append(dst, ' ', '"')
	dst = append(dst, dns.Type(e.Type).String()...)
	dst = append(dst, ' ')
	dst = append(dst, dns.Class(e.Class).String()...)
	dst = append(dst, ' ')
	name := len(dst)
	dst = message.AppendNameText(dst, e.Name())
	for i, c := range dst[name:] { // as CoreDNS has it
		if 'A' <= c && c <= 'Z' {
			dst[name+i] = c | 0x20
		}
	}
	dst = append(dst, ' ')
	dst = append(dst, e.Transport.String()...)
	dst = append(dst, ' ')
	dst = strconv.AppendInt(dst, int64(e.Size), 10)
	dst = append(dst, ' ')
	dst = strconv.AppendBool(dst, e.DO)
	dst = append(dst, ' ')
	size := max(uint64(e.UDPSize), 512)
	if e.Transport != message.UDP {
		size = message.MaxSize
	}
	dst = strconv.AppendUint(dst, size, 10)
	dst = append(dst, '"', ' ')
	if e.Dropped {
		dst = append(dst, "- -"...)
	} else {
		dst = append(dst, message.RCODEString(e.RCODE)...)
		dst = append(dst, ' ')
		dst = appendFlags(dst, e.Flags)
	}
	dst = append(dst, ' ')
	dst = strconv.AppendInt(dst, int64(e.Response), 10)
	dst = append(dst, ' ')
	dst = strconv.AppendFloat(dst, e.Took.Seconds(), 'f', -1, 64)
	return append(dst, 's', '\n')
}

// appendJSON appends e as an object, with the first fields as log/slog has them. Those in brackets are there when there is something to say:
//
//	time, level, msg       "INFO", "query"
//	client, port           address of the client
//	transport, id          "udp", "tcp"
//	name, type, class      of the question, in presentation format
//	do, udp_size, size     DNSSEC OK, the size that its OPT offers, octets of the query
//	[rcode, flags, response_size, [ede]]  of the response, if there is one; flags as "qr,rd,ra"
//	took_us                microseconds from the query to its response
//	[chain, upstream, cached]
func appendJSON(dst []byte, e *Entry) []byte {
	dst = append(dst, `{"time":"`...)
	dst = e.Time.AppendFormat(dst, time.RFC3339Nano)
	dst = append(dst, `","level":"INFO","msg":"query","client":"`...)
	if e.Client.IsValid() {
		dst = e.Client.Addr().WithZone("").AppendTo(dst)
	} else { // over a Unix-domain socket
		dst = append(dst, "unix"...)
	}
	dst = appendNumber(dst, `","port":`, uint64(e.Client.Port()))
	dst = appendText(dst, `,"transport":"`, e.Transport.String())
	dst = appendNumber(dst, `,"id":`, uint64(e.ID))
	dst = append(dst, `,"name":"`...)
	dst = appendName(dst, e.Name())
	dst = appendText(dst, `","type":"`, dns.Type(e.Type).String())
	dst = appendText(dst, `,"class":"`, dns.Class(e.Class).String())
	dst = append(dst, `,"do":`...)
	dst = strconv.AppendBool(dst, e.DO)
	dst = appendNumber(dst, `,"udp_size":`, uint64(e.UDPSize))
	dst = appendNumber(dst, `,"size":`, uint64(e.Size))
	if !e.Dropped {
		dst = appendText(dst, `,"rcode":"`, message.RCODEString(e.RCODE))
		dst = append(dst, `,"flags":"`...)
		dst = appendFlags(dst, e.Flags)
		dst = appendNumber(dst, `","response_size":`, uint64(e.Response))
		if e.EDE != message.None {
			dst = appendNumber(dst, `,"ede":`, uint64(e.EDE))
		}
	}
	dst = appendNumber(dst, `,"took_us":`, uint64(max(e.Took, 0).Microseconds()))
	if e.Chain != "" {
		dst = appendText(dst, `,"chain":"`, e.Chain)
	}
	if e.Upstream != "" {
		dst = appendText(dst, `,"upstream":"`, e.Upstream)
		dst = append(dst, `,"cached":`...)
		dst = strconv.AppendBool(dst, e.Cached)
	}
	return append(dst, '}', '\n')
}

func appendNumber(dst []byte, key string, n uint64) []byte {
	return strconv.AppendUint(append(dst, key...), n, 10)
}

// appendText appends a text that needs no escaping: a name of the configuration, or one of our own.
func appendText(dst []byte, key, text string) []byte {
	return append(append(append(dst, key...), text...), '"')
}

// appendName appends a name within a JSON string. Its presentation format is printable ASCII, so that only these two need escaping.
func appendName(dst, name []byte) []byte {
	var text [4*message.MaxName + 1]byte
	for _, c := range message.AppendNameText(text[:0], name) {
		if c == '"' || c == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, c)
	}
	return dst
}
