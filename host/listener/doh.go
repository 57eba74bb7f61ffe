package listener

import (
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/weirdns/weir/host/internal/stack"
	"github.com/weirdns/weir/host/message"
)

const (
	// dnsMessage is the media type of a DNS message, RFC 8484 section 6.
	dnsMessage = "application/dns-message"
	// maxURL is how long the URL of a request may be, in octets. A query that needs more can be sent with POST.
	maxURL = 1 << 10
	// smallContent is how many octets all servers hold back until the handler is done, and then say the length of by themselves, for less than we would.
	smallContent = 2 << 10
)

// contentDNS is the value of a field, for all responses: nobody writes to it.
var contentDNS = []string{dnsMessage}

// doh answers requests for DNS over HTTPS, RFC 8484, and those for the JSON form.
type doh struct {
	in     *entrance
	paths  map[string]bool
	altSvc []string // where there is HTTP/3 (RFC 7838 section 3)

	read, write time.Duration // how long the content of a request, and a response may take; over HTTP/3, where no server sees to that
}

func newDoH(config Config, in *entrance) *doh {
	h := &doh{in: in, paths: map[string]bool{}}
	for _, path := range config.Paths() {
		h.paths[path] = true
	}
	return h
}

var closing = []string{"close"}

// problem is what a client did wrong, and the status that says so.
type problem struct {
	status int
	text   string
}

var (
	problemURL    = &problem{http.StatusRequestURITooLong, "the URL is too long: use POST"}
	problemPath   = &problem{http.StatusNotFound, "there is nothing at this path"}
	problemMethod = &problem{http.StatusMethodNotAllowed, "use GET or POST"}
	problemNoDNS  = &problem{http.StatusBadRequest, "the parameter dns is missing"}
	problemBase64 = &problem{http.StatusBadRequest, "the parameter dns is not base64url without padding"}
	problemType   = &problem{http.StatusUnsupportedMediaType, "the content has to be " + dnsMessage}
	problemLarge  = &problem{http.StatusRequestEntityTooLarge, "the content is too large for a DNS message"}
	problemBody   = &problem{http.StatusBadRequest, "the content did not come"}
	problemQuery  = &problem{http.StatusBadRequest, "this is no DNS query"}
)

// ServeHTTP implements http.Handler.
func (h *doh) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m := r.Context().Value(memberKey{}).(*member)
	m.begin()
	defer m.end()
	defer h.recover()
	if r.Context().Err() != nil { // the client has given it up, as in a flood of streams that are reset (CVE-2023-44487): what it asks for costs nothing more
		return
	}
	if r.ProtoMajor < 3 {
		w.Header()["Alt-Svc"] = h.altSvc
		if h.in.idle.Load() == 0 { // the listener ends: another connection for the next request; over HTTP/2 net/http makes that a GOAWAY
			w.Header()["Connection"] = closing
		}
	} else {
		c, now := http.NewResponseController(w), time.Now()
		c.SetReadDeadline(now.Add(h.read))   //nolint:errcheck // then the stream has ended
		c.SetWriteDeadline(now.Add(h.write)) //nolint:errcheck // as above
	}
	switch {
	case len(r.RequestURI) > maxURL:
		problemURL.write(w)
	case r.URL.Path == jsonPath:
		h.resolveJSON(w, r, m)
	case !h.paths[r.URL.Path]:
		problemPath.write(w)
	default:
		h.resolve(w, r, m)
	}
}

// recover ends a request by a panic as one without a response, and counts it; the servers would write the stack to a log for each.
func (h *doh) recover() {
	v := recover()
	if v == nil {
		return
	}
	if err, ok := v.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
		h.in.counters.panics.Inc()
		h.in.logPanic.Do(func() {
			h.in.log.Error("a request caused a panic; further ones are only counted", "panic", v, "transport", h.in.transport.String(), "stack", string(debug.Stack()))
		})
	}
	panic(http.ErrAbortHandler)
}

// resolve answers a request with a DNS message in it.
func (h *doh) resolve(w http.ResponseWriter, r *http.Request, m *member) {
	msg, p := decodeRequest(r, m)
	if p != nil {
		p.write(w)
		return
	}
	stack.Deepen() // now, since requests whose content does not come need no such stack
	j := h.in.jobs.get()
	defer h.in.jobs.put(j)
	out, p := h.answer(j, r, m, msg)
	if p != nil {
		p.write(w)
		return
	}
	header := w.Header()
	header["Content-Type"] = contentDNS
	header["Cache-Control"] = []string{cacheControl(out)}
	if len(out) > smallContent {
		header["Content-Length"] = []string{strconv.Itoa(len(out))}
	}
	m.respond()
	defer m.proceed()
	w.Write(out) //nolint:errcheck // the client may have left
}

// answer returns the response to the query msg, which is in j's buffers.
func (h *doh) answer(j *job, r *http.Request, m *member, msg []byte) ([]byte, *problem) {
	j.names = m.names
	out, ok := h.in.parse(j, msg, true, m.addr, h.in.now())
	switch {
	case ok:
		out = h.in.resolve(r.Context(), j, r.URL.Path)
		if out == nil { // a filter says nothing: HTTP has no other way to do so
			panic(http.ErrAbortHandler)
		}
	case out == nil:
		return nil, problemQuery
	}
	return out, nil
}

// decodeRequest returns the DNS message in a request on the connection m, RFC 8484 section 4.1.
func decodeRequest(r *http.Request, m *member) ([]byte, *problem) {
	switch r.Method {
	case http.MethodGet:
		return decodeURL(r.URL.RawQuery)
	case http.MethodPost:
		if kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); !strings.EqualFold(strings.TrimSpace(kind), dnsMessage) {
			return nil, problemType
		}
		m.stall()
		defer m.proceed()
		return readBody(r.Body, r.ContentLength)
	}
	return nil, problemMethod
}

// decodeURL returns the message in the parameter dns of the query of a URL, which is no longer than maxURL.
func decodeURL(query string) ([]byte, *problem) {
	for query != "" {
		var parameter string
		parameter, query, _ = strings.Cut(query, "&")
		if value, ok := strings.CutPrefix(parameter, "dns="); ok {
			msg, err := base64.RawURLEncoding.Strict().DecodeString(value)
			if err != nil || strings.ContainsAny(value, "\r\n") { // which base64 ignores
				return nil, problemBase64
			}
			return msg, nil
		}
	}
	return nil, problemNoDNS
}

// readBody reads a message of length octets, -1 if that was not said.
func readBody(body io.Reader, length int64) ([]byte, *problem) {
	if length > message.MaxSize {
		return nil, problemLarge
	}
	buf := make([]byte, 0, jobQuery)
	for {
		n, err := body.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case len(buf) > message.MaxSize:
			return nil, problemLarge
		case errors.Is(err, io.EOF):
			return buf, nil
		case err != nil:
			return nil, problemBody
		}
		if len(buf) == cap(buf) { // as octets come, not as the length promises them; one more shows what is too much
			buf = append(make([]byte, 0, min(2*cap(buf), 1+message.MaxSize)), buf...)
		}
	}
}

// cacheControl says how long a response may be kept by caches of HTTP: as long as its records, RFC 8484 section 5.1.
func cacheControl(msg []byte) string {
	return "max-age=" + strconv.FormatUint(uint64(message.MaxAge(msg)), 10)
}

func (p *problem) write(w http.ResponseWriter) {
	if p.status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", "GET, POST")
	}
	w.Header().Set("Cache-Control", "no-store")
	http.Error(w, p.text, p.status)
}
