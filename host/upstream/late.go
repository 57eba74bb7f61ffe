package upstream

import (
	"slices"
	"time"

	"github.com/weirdns/weir/host/message"
)

// A try that is overdue counts as a fail of its server; then another one's answer ends the query, and the try is dropped. When this machine is busy, or the server is for a moment,
// the answer is on its way all the same, and shows that the server is up. So where a server has such fails, the socket stays open for as long as a probe may take, for that. It is
// taken for an answer as others are: from the server's address, at the port, with the ID and the question to the letter.

// maxLate is how many dropped tries are waited for, of a server: a server that is gone has as many sockets open for nothing at most.
const maxLate = 16

// late is a try that was dropped.
type late struct {
	id       uint16
	question message.Question
	sent     time.Time
}

// expect has an answer to t noticed, which is dropped, if it can be news. mu is held, and that of its exchange.
func (k *socket) expect(t *try) {
	s := k.server
	if t.failed || t.exchange.purpose != forQuery || s.fails.Load() == 0 {
		return
	}
	if s.expected.Add(1) > maxLate {
		s.expected.Add(-1)
		return
	}
	question := t.question
	question.Name = slices.Clone(question.Name) // the exchange will have other queries
	question.Key = nil
	k.late = append(k.late, late{id: t.id, question: question, sent: t.sent})
}

// lateUntil is when no answer is news any more. mu is held.
func (k *socket) lateUntil() time.Time {
	return slices.MaxFunc(k.late, func(a, b late) int { return a.sent.Compare(b.sent) }).sent.Add(probeTimeout)
}

// hearLate looks at a message with the ID of a try that doesn't wait.
func (k *socket) hearLate(msg []byte) {
	now := time.Now()
	took, ok := k.isLate(msg, now)
	if s := k.server; ok && s.group.isHealthy(uint16(msg[3]&0xF)) {
		s.observe(took, now)
		if s.health.late(now) {
			s.metrics.healthy.Set(1)
			s.group.log.Info("server is up: its answer was late", "server", s.name, "took", took)
		}
	}
}

// isLate reports whether a message is the answer to a try that was dropped, and how long it took.
func (k *socket) isLate(msg []byte, now time.Time) (took time.Duration, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	i := slices.IndexFunc(k.late, func(l late) bool { return message.Answers(msg, l.id, &l.question) })
	if i < 0 {
		return 0, false
	}
	took = now.Sub(k.late[i].sent)
	return took, took <= probeTimeout
}
