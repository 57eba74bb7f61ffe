package listener

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/host/message"
)

// The JSON form of DNS over HTTPS is for people and scripts. There is no RFC for it: it is what Google and Cloudflare have, with the names of
// its members and parameters.
//
//	/resolve?name=www.example.com&type=AAAA&do=1&cd=1
const (
	jsonPath = "/resolve"
	dnsJSON  = "application/dns-json" // to clients that ask for it
)

// jsonMessage is a response.
type jsonMessage struct {
	Status     uint16 // RCODE
	TC         bool
	RD         bool
	RA         bool
	AD         bool
	CD         bool
	Question   []jsonQuestion
	Answer     []jsonRecord `json:",omitempty"`
	Authority  []jsonRecord `json:",omitempty"`
	Additional []jsonRecord `json:",omitempty"`
	EDE        []jsonError  `json:"extended_dns_errors,omitempty"`
}

type jsonQuestion struct {
	Name string `json:"name"`
	Type uint16 `json:"type"`
}

type jsonRecord struct {
	Name string `json:"name"`
	Type uint16 `json:"type"`
	TTL  uint32
	Data string `json:"data"` // in presentation format
}

type jsonError struct {
	Code uint16 `json:"info_code"`
	Text string `json:"extra_text,omitempty"`
}

// resolveJSON answers a request for the JSON form.
func (h *doh) resolveJSON(w http.ResponseWriter, r *http.Request, m *member) {
	if r.Method != http.MethodGet {
		problemMethod.write(w)
		return
	}
	msg, err := jsonQuery(r.URL.RawQuery)
	if err != nil {
		(&problem{http.StatusBadRequest, err.Error()}).write(w)
		return
	}
	j := h.in.jobs.get()
	defer h.in.jobs.put(j)
	out, p := h.answer(j, r, m, msg)
	if p != nil {
		p.write(w)
		return
	}
	text, err := appendJSON(out)
	if err != nil {
		(&problem{http.StatusInternalServerError, "the response can't be shown as JSON: " + err.Error()}).write(w)
		return
	}
	header := w.Header()
	header.Set("Content-Type", "application/json")
	if strings.Contains(r.Header.Get("Accept"), dnsJSON) {
		header.Set("Content-Type", dnsJSON)
	}
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", cacheControl(out))
	m.respond()
	defer m.proceed()
	w.Write(text) //nolint:errcheck // the client may have left
}

// jsonQuery returns the query that the parameters of a URL ask for.
func jsonQuery(query string) ([]byte, error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, errors.New("the parameters are malformed")
	}
	name := values.Get("name")
	if _, ok := dns.IsDomainName(name); !ok || name == "" {
		return nil, errors.New("name is not a domain name: write for example /resolve?name=www.example.com&type=A")
	}
	rrtype, err := jsonType(values.Get("type"))
	if err != nil {
		return nil, err
	}
	flags := map[string]bool{}
	for _, key := range []string{"do", "cd"} {
		if flags[key], err = strconv.ParseBool(values.Get(key)); err != nil && values.Has(key) {
			return nil, errors.New(key + " is neither 1 nor 0")
		}
	}
	m := new(dns.Msg).SetQuestion(dns.Fqdn(name), rrtype)
	m.Id, m.CheckingDisabled = 0, flags["cd"]
	m.AuthenticatedData = true // whoever asks in JSON would like to know (RFC 6840 section 5.7)
	m.SetEdns0(message.OwnSize, flags["do"])
	return m.Pack()
}

// jsonType reads a type: a number, a name, or TYPE and a number (RFC 3597 section 5). None is A.
func jsonType(text string) (uint16, error) {
	text = strings.ToUpper(text)
	if text == "" {
		return dns.TypeA, nil
	}
	if t, ok := dns.StringToType[text]; ok {
		return t, nil
	}
	n, err := strconv.ParseUint(strings.TrimPrefix(text, "TYPE"), 10, 16)
	if err != nil {
		return 0, errors.New("type is not a type: write A, MX, HTTPS …, or a number")
	}
	return uint16(n), nil
}

// appendJSON returns a response as JSON.
func appendJSON(wire []byte) ([]byte, error) {
	m := new(dns.Msg)
	if err := m.Unpack(wire); err != nil {
		return nil, err
	}
	out := jsonMessage{
		Status: uint16(m.Rcode), TC: m.Truncated, RD: m.RecursionDesired, RA: m.RecursionAvailable, AD: m.AuthenticatedData, CD: m.CheckingDisabled,
	}
	for _, q := range m.Question {
		out.Question = append(out.Question, jsonQuestion{q.Name, q.Qtype})
	}
	for _, section := range []struct {
		records []dns.RR
		to      *[]jsonRecord
	}{{m.Answer, &out.Answer}, {m.Ns, &out.Authority}, {m.Extra, &out.Additional}} {
		for _, rr := range section.records {
			if opt, ok := rr.(*dns.OPT); ok {
				out.EDE = jsonErrors(opt)
				continue
			}
			head := rr.Header()
			data := strings.TrimPrefix(rr.String(), head.String())
			*section.to = append(*section.to, jsonRecord{head.Name, head.Rrtype, head.Ttl, data})
		}
	}
	return json.Marshal(&out)
}

func jsonErrors(opt *dns.OPT) (all []jsonError) {
	for _, o := range opt.Option {
		if e, ok := o.(*dns.EDNS0_EDE); ok {
			all = append(all, jsonError{e.InfoCode, e.ExtraText})
		}
	}
	return all
}
