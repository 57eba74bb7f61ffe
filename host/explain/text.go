package explain

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// WriteText writes the trail for a person: the question, a line for each step with the time since the query began, and the response.
func (t *Trail) WriteText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s, asked by %s over %s at %s (%s)\n\n", t.Name, t.Type, t.Client, t.Over, t.Listener, t.Position)
	width := 0
	for _, s := range t.Steps {
		width = max(width, len(s.who()))
	}
	for _, s := range t.Steps {
		fmt.Fprintf(&b, "%9s  %-*s  %s\n", milliseconds(s.AfterUS), width, s.who(), s.Text)
	}
	b.WriteByte('\n')
	if t.Response == nil {
		fmt.Fprintf(&b, "no response, after %s\n", milliseconds(t.TookUS))
	} else {
		t.Response.write(&b, t.TookUS)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// who is the part that speaks; of a filter the phase too, if it is the way up.
func (s *Step) who() string {
	who := s.Part
	if s.Name != "" {
		who += " " + s.Name
	}
	if s.Phase == "response" {
		who += ", response"
	}
	return who
}

func (r *Response) write(b *strings.Builder, took int64) {
	from := ""
	if r.Upstream != "" {
		from = ", from upstream " + r.Upstream
		if r.Cached {
			from = ", from the cache of upstream " + r.Upstream
		}
	}
	fmt.Fprintf(b, "%s, flags %s, %d octets%s, after %s\n", r.RCODE, cmp.Or(strings.Join(r.Flags, " "), "none"), r.Octets, from, milliseconds(took))
	for _, e := range r.EDE {
		name := dns.ExtendedErrorCodeToString[e.Code]
		if e.Text != "" {
			name += ": " + e.Text
		}
		fmt.Fprintf(b, "  %-10s  %s\n", fmt.Sprintf("EDE %d", e.Code), name)
	}
	for _, s := range []struct {
		name    string
		records []string
	}{{"answer", r.Answer}, {"authority", r.Authority}, {"additional", r.Additional}} {
		for _, rr := range s.records {
			fmt.Fprintf(b, "  %-10s  %s\n", s.name, rr)
		}
	}
}

func milliseconds(us int64) string {
	return fmt.Sprintf("%.2f ms", float64(us)/float64(time.Millisecond/time.Microsecond))
}
