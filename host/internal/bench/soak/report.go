//go:build linux

package soak

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// drift is how much of itself a figure may grow or shrink over the whole run, see trend.
const drift = 0.05

// leastToJudge is the shortest time with faults that says something about that, and about what a machine that is busy with something else can cause: queries that are lost, and
// SERVFAIL. Over a shorter one they are printed and no more, and only wrong answers decide.
const leastToJudge = 5 * time.Minute

// young is how long weir has then until it counts.
const young = 2 * time.Minute

// watch samples weir.
type watch struct {
	setting *setting
	at      []float64 // seconds
	calm    []bool    // there was no fault for a while
	values  [len(watched)][]float64
}

// watched are the metrics that stay what they are.
var watched = [...]struct {
	metric, name string
	unit         float64
	calm         bool // only while there is no fault: until then there are several times as many, for a second, of what queries wait on that nobody answers
}{
	{"process_resident_memory_bytes", "resident memory, MB", 1e6, false}, {"go_goroutines", "goroutines", 1, true}, {"process_open_fds", "descriptors", 1, true},
}

func (w *watch) sample(at time.Duration, calm bool) error {
	samples, err := w.setting.metrics()
	if err != nil {
		return err
	}
	w.at, w.calm = append(w.at, at.Seconds()), append(w.calm, calm)
	for i, m := range watched {
		w.values[i] = append(w.values[i], samples[m.metric]/m.unit)
	}
	return nil
}

// forget drops the samples of the first time.
func (w *watch) forget(before time.Duration) {
	from, _ := slices.BinarySearch(w.at, before.Seconds())
	w.at, w.calm = w.at[from:], w.calm[from:]
	for i := range w.values {
		w.values[i] = w.values[i][from:]
	}
}

// judged returns the samples of a figure that count, and their times.
func (w *watch) judged(figure int) (at, y []float64) {
	for i, v := range w.values[figure] {
		if w.calm[i] || !watched[figure].calm {
			at, y = append(at, w.at[i]), append(y, v)
		}
	}
	return at, y
}

// trend returns the level of a figure at the first and at the last sample: the medians of the first third and of the last, on a line that is extended to the
// ends. A line by least squares follows peaks that happen to lie at an end, and medians don't, whereas what is never given back raises all that comes after it.
func trend(y []float64) (first, last float64) {
	n := max(1, len(y)/3)
	if len(y) == 0 {
		return 0, 0
	}
	first, last = median(y[:n]), median(y[len(y)-n:])
	more := (last - first) / 4 // the middles of those thirds are two thirds of the time apart, and a sixth from the ends
	return first - more, last + more
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// medians returns the median of each minute, as text, or of each calm stretch if there is nothing between them.
func medians(at, y []float64) string {
	var text strings.Builder
	for from := 0; from < len(at); {
		to, _ := slices.BinarySearch(at, at[from]+60)
		fmt.Fprintf(&text, " %.0f", median(y[from:to]))
		from = to
	}
	return text.String()
}

func (o *oracle) totals() (sent, right int64) {
	for c := range classes {
		sent += o.sent[c].Load()
		right += o.right[c].Load()
	}
	return sent, right
}

// progress is a line about how it is going.
func (o *oracle) progress() string {
	sent, right := o.totals()
	o.mu.Lock()
	defer o.mu.Unlock()
	kinds := make(map[string]int)
	for i := range o.failures {
		if o.excuse(&o.failures[i]) == "" {
			kinds[o.failures[i].kind]++
		}
	}
	return fmt.Sprintf("%d asked, %d right; without an excuse: %d wrong answers, %d SERVFAIL, %d lost", sent, right, kinds[wrong], kinds[servfail], kinds[lost])
}

// report prints what came of a run, and returns whether it is what was wanted.
func (o *oracle) report(out io.Writer, spent *times, rate float64, f *faults, w *watch) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	sent, right := o.totals()
	took := spent[warming] + spent[faulty] + spent[calm]
	fmt.Fprintf(out, "\n%d queries in %v, %.0f a second of %.0f wanted; %d right answers:", sent, took.Round(time.Second), float64(sent)/took.Seconds(), rate, right)
	for t := range transports {
		fmt.Fprintf(out, " %s %d", transportNames[t], o.over[t].Load())
	}
	fmt.Fprintln(out)
	for c := range classes {
		fmt.Fprintf(out, "  %-8s %9d asked, %9d right\n", classNames[c], o.sent[c].Load(), o.right[c].Load())
	}
	fmt.Fprintf(out, "%v with faults, in %d of %d seconds at least one; %v calm; %v before, to warm up\n",
		spent[faulty].Round(time.Second), f.made, f.second, spent[calm].Round(time.Second), spent[warming].Round(time.Second))
	fmt.Fprint(out, "what went wrong:")
	for _, what := range f.order {
		fmt.Fprintf(out, " %s %d;", what, f.counts[what])
	}
	fmt.Fprintln(out, " and the filters trapped")

	ok := true
	verdict := func(good bool, format string, args ...any) {
		word := "reached"
		if !good {
			word, ok = "MISSED", false
		}
		fmt.Fprintf(out, "%-8s %s\n", word, fmt.Sprintf(format, args...))
	}
	kinds, excused := make(map[string]int), make(map[string]int)
	log, err := o.setting.log()
	if err != nil {
		fmt.Fprintln(out, "weir's log:", err)
	}
	shown, told := 0, time.Time{}
	for i := range o.failures {
		failed := &o.failures[i]
		if why := o.excuse(failed); why != "" {
			excused[failed.kind+", "+why]++
			continue
		}
		kinds[failed.kind]++
		if shown++; shown > 20 {
			continue
		}
		fmt.Fprintf(out, "  %s, %s over %s, asked %s, after %v: %q: %x: %s\n", failed.kind, classNames[failed.class], transportNames[failed.over],
			failed.at.Format("15:04:05.000"), failed.end.Sub(failed.at).Round(time.Millisecond), failed.qname(), failed.wire, failed.said)
		if failed.at.Sub(told) > time.Second { // else the circumstances are those of the one before
			failed.tell(out, &o.history, log)
			told = failed.at
		}
	}
	for _, why := range slices.Sorted(maps.Keys(excused)) {
		fmt.Fprintf(out, "excused: %d %s\n", excused[why], why)
	}
	for _, s := range o.stalls {
		fmt.Fprintf(out, "the machine stood still at %s for %v\n", s.begin.Format("15:04:05"), s.end.Sub(s.begin).Round(100*time.Millisecond))
	}
	if o.more > 0 {
		fmt.Fprintf(out, "and %d failures more, which nobody looked at\n", o.more)
	}
	verdict(kinds[wrong] == 0, "%d wrong answers, want 0", kinds[wrong])
	verdict(right > 0, "%d of %d queries answered right, want some", right, sent)
	if spent[faulty] < leastToJudge {
		verdict = func(_ bool, format string, args ...any) {
			fmt.Fprintf(out, "%-8s %s, in a longer run\n", "", fmt.Sprintf(format, args...))
		}
	}
	verdict(kinds[lost]+o.more == 0, "%d queries lost, want 0", kinds[lost]+o.more)
	verdict(kinds[servfail] == 0, "%d SERVFAIL that nothing explains, want 0", kinds[servfail])
	verdict(right > sent*9/10, "%d of %d queries answered right, want 90%%: the load was borne", right, sent)
	if spent[faulty] >= leastToJudge {
		w.forget(young)
	}
	for i, m := range watched {
		at, y := w.judged(i)
		first, last := trend(y)
		change := 0.0
		if first != 0 {
			change = last/first - 1
		}
		good := change >= -drift && change <= drift
		verdict(good, "%s: %.0f at first, %.0f in the end, %+.1f%%, by the medians of the first and the last third of %d samples; want ±%.0f%%; %.0f to %.0f with faults",
			m.name, first, last, 100*change, len(y), 100*drift, slices.Min(w.values[i]), slices.Max(w.values[i]))
		fmt.Fprintf(out, "%-8s medians, minute by minute:%s\n", "", medians(at, y))
	}
	return ok
}
