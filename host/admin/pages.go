package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"

	"github.com/weirdns/weir/host/explain"
	"github.com/weirdns/weir/host/message"
)

// Readiness says whether weir should get queries. Its JSON form is stable.
type Readiness struct {
	Ready    bool     `json:"ready"`
	Reasons  []string `json:"reasons"`  // why it is not ready
	Warnings []string `json:"warnings"` // what is wrong and does not count
}

// ready shows r: as lines of text, or as JSON to who asks for that. The status is 200 or 503.
func ready(w http.ResponseWriter, req *http.Request, r Readiness) {
	status := http.StatusOK
	if !r.Ready {
		status = http.StatusServiceUnavailable
	}
	if strings.Contains(req.Header.Get("Accept"), "application/json") {
		object(w, status, r)
		return
	}
	lines := []string{"ready"}
	if !r.Ready {
		lines[0] = "not ready"
	}
	lines = append(lines, r.Reasons...)
	for _, warning := range r.Warnings {
		lines = append(lines, "warning: "+warning)
	}
	text(w, status, strings.Join(lines, "\n"))
}

// maxExplains bounds the queries that are explained at a time: they wait for upstreams, and are on nobody's way but the operator's.
const maxExplains = 8

// explainer is the page /explain.
type explainer struct {
	explain func(context.Context, explain.Question) (*explain.Trail, error)
	slots   chan struct{}
}

// ServeHTTP implements http.Handler.
func (e *explainer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	question, err := parseQuestion(r)
	if err != nil {
		object(w, http.StatusBadRequest, problem{err.Error()})
		return
	}
	select {
	case e.slots <- struct{}{}:
		defer func() { <-e.slots }()
	default:
		w.Header().Set("Retry-After", "1")
		object(w, http.StatusServiceUnavailable, problem{fmt.Sprintf("%d queries are being explained already: try again", maxExplains)})
		return
	}
	trail, err := e.explain(r.Context(), question)
	if err != nil {
		status := http.StatusInternalServerError
		if _, ok := errors.AsType[*explain.QuestionError](err); ok {
			status = http.StatusBadRequest
		}
		object(w, status, problem{err.Error()})
		return
	}
	object(w, http.StatusOK, trail)
}

type problem struct {
	Error string `json:"error"`
}

// parseQuestion reads the parameters of /explain. What it does not know is an error, since it may be a misspelling.
func parseQuestion(r *http.Request) (q explain.Question, err error) {
	for key, values := range r.URL.Query() {
		value := values[0]
		switch key {
		case "name":
			q.Name = value
		case "type":
			q.Type = value
		case "listener":
			q.Listener = value
		case "client":
			if q.Client, err = netip.ParseAddr(value); err != nil {
				return q, fmt.Errorf("client: %q is not an IP address", value)
			}
		case "over":
			var ok bool
			if q.Over, ok = message.ParseTransport(value); !ok {
				return q, fmt.Errorf("over: %q is none of udp, tcp, tls, https, quic", value)
			}
		case "path":
			q.Path = value
		default:
			return q, fmt.Errorf("%q is no parameter: there are name, type, client, listener, over, path", key)
		}
	}
	if q.Name == "" {
		return q, errors.New("name is missing: write for example /explain?name=www.example.com&type=A")
	}
	return q, nil
}

// object writes v as JSON. There is nothing to be done about a client that is gone.
func object(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false) // it is no HTML, and says so
	e.Encode(v)            //nolint:errcheck // see above
}

// text writes lines.
func text(w http.ResponseWriter, status int, lines string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	fmt.Fprintln(w, lines)
}
