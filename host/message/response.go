package message

import (
	"context"
	"encoding/binary"
	"errors"
)

// Response is a checked response on its way through weir. Message has no OPT record; what EDNS said is in the fields.
type Response struct {
	Message  []byte // header, the question, the records; owned by whoever gave the buffer that it was appended to
	RCODE    uint16 // with the extension of EDNS
	Class    uint16 // kind of response, see ClassNODATA; set by Parse and SetRCODE
	EDE      []byte // Extended DNS Errors as EDNS options in wire format; shared, never modified
	Upstream uint16 // index of the upstream whose answer it is; None when a filter or weir itself made it
	Silent   bool   // weir made it because no upstream gave a response
	Cached   bool   // it was in the cache
	Tailored bool   // an upstream was told the client's network, or that it is not to be known; see Scope
	Scope    uint8  // of a tailored response: how many bits of that network it is for; 0 is everybody

	rdata  int  // of the OPT in what Finish returned: where it begins; 0 without one
	signed bool // see Signed
}

// Resolver answers queries. Chains, caches and groups of upstream servers are resolvers, so that they nest.
//
// Resolve appends a response to dst and returns it; the caller owns dst, before and after, whatever is returned. It waits no longer than the
// query's deadline, nor after ctx is done. An RCODE such as SERVFAIL from a server is a response; an error means that there is none.
// Resolve does not keep q or dst.
type Resolver interface {
	Resolve(ctx context.Context, q *Query, dst []byte) (Response, error)
}

// Transaction is a query that is being answered by a [Starter], and then the answer. Who starts it owns it and may use it again and again; from
// Start to the end nobody else touches it, nor its Query and Dst.
type Transaction struct {
	Query *Query
	Dst   []byte // the response is appended to it
	// Done is called when a transaction that Start left open has ended, once, on a goroutine that other queries wait for: it must not
	// block. It may be called before Start returns.
	Done func()
	// Batch is that of the goroutine which has the transaction: who calls Start, and then who calls Done. Nil when it has none, and what is to
	// be sent is sent at once.
	Batch *Batch

	Response Response
	Err      error // there is no response
}

// Starter is a Resolver for those who do not wait for the answer on a goroutine of their own: thousands of queries in flight are thousands of
// transactions, but no stack and no timer.
type Starter interface {
	Resolver
	// Start does what Resolve does. If it returns true, Response and Err are final. Otherwise Done will be called when they are; that
	// may have happened already, so the transaction is not to be touched any more but by Done.
	Start(t *Transaction) (ended bool)
}

var (
	errHeader   = errors.New("message: not a response to a query")
	errQuestion = errors.New("message: the question is not the one asked")
	errSections = errors.New("message: the counts in the header and the records differ")
	errOPT      = errors.New("message: OPT record out of place")
	errTSIG     = errors.New("message: has a TSIG record")
	errLarge    = errors.New("message: larger than 65535 octets")
)

// Answers reports whether msg answers a query that was sent with this ID and question: QR set, opcode QUERY, exactly one question, and that
// the same one to the letter (RFC 5452 section 9.1; the case of letters counts, which makes forging harder). It looks at nothing else.
func Answers(msg []byte, id uint16, question *Question) bool {
	end := headerSize + question.size()
	return len(msg) >= end &&
		binary.BigEndian.Uint16(msg) == id &&
		msg[2]&0xF8 == 0x80 &&
		binary.BigEndian.Uint16(msg[4:]) == 1 &&
		string(msg[headerSize:end-4]) == string(question.Name) &&
		binary.BigEndian.Uint16(msg[end-4:]) == question.Type &&
		binary.BigEndian.Uint16(msg[end-2:]) == question.Class
}

// Truncated reports whether the TC bit is set in a message with a whole header.
func Truncated(msg []byte) bool { return msg[2]&(FlagTC>>8) != 0 }

// Parse checks msg from an upstream as the response to question and makes r from it. The case of letters in the question does not
// matter here. The message is changed in place: an OPT record is taken out, after its extended RCODE and Extended DNS Errors have been
// noted; so are records behind the OPT, which are optional data of the additional section (taking out only the OPT would break the
// pointers behind it). A TSIG record is an error, since weir signs no queries (RFC 8945 section 5.4). r keeps msg, which is of no use after an
// error. Everything is bounded by the size of msg; no input makes it panic. It allocates
// only when there are Extended DNS Errors.
func (r *Response) Parse(msg []byte, question *Question) error {
	return r.parse(msg, question, true, nil)
}

// ParseOwn is Parse for a message that a filter made: an OPT record is an error, and TC and AD are cleared, since these are the host's.
func (r *Response) ParseOwn(msg []byte, question *Question) error {
	if err := r.parse(msg, question, false, nil); err != nil {
		return err
	}
	msg[2] &^= FlagTC >> 8
	msg[3] &^= FlagAD // what a filter has made nobody has validated
	return nil
}

func (r *Response) parse(msg []byte, question *Question, upstream bool, sent *Subnet) error {
	*r = Response{Upstream: None, Tailored: sent != nil}
	end := headerSize + question.size()
	switch {
	case len(msg) < end || msg[2]&0xF8 != 0x80 || binary.BigEndian.Uint16(msg[4:]) != 1:
		return errHeader
	case len(msg) > MaxSize:
		return errLarge
	case !EqualName(msg[headerSize:end-4], question.Key),
		binary.BigEndian.Uint16(msg[end-4:]) != question.Type,
		binary.BigEndian.Uint16(msg[end-2:]) != question.Class:
		return errQuestion
	}
	answers := int(binary.BigEndian.Uint16(msg[6:]))
	authority := answers + int(binary.BigEndian.Uint16(msg[8:]))
	records := authority + int(binary.BigEndian.Uint16(msg[10:]))
	extended, size, hasData, hasNS, hasSOA := uint16(0), 0, false, false, false
	off := end
	for i := range records {
		rec, err := parseRecord(msg, off)
		if err != nil {
			return err
		}
		switch {
		case i < answers:
			hasData = hasData || rec.Type == question.Type || question.Type == TypeANY
		case i < authority:
			hasNS = hasNS || rec.Type == TypeNS
			hasSOA = hasSOA || rec.Type == TypeSOA
		}
		switch rec.Type {
		case TypeOPT:
			if !upstream || i < authority || size != 0 || rec.owner+1 != rec.fixed || !validOptions(rec.data(msg)) {
				return errOPT
			}
			if sent != nil && !r.heed(sent, rec.data(msg)) {
				return errSubnet
			}
			extended = uint16(rec.TTL >> 24)
			r.EDE = appendEDEs(nil, rec.data(msg))
			size = rec.owner
			binary.BigEndian.PutUint16(msg[10:], uint16(i-authority))
		case TypeTSIG:
			return errTSIG
		case TypeRRSIG, TypeNSEC, TypeNSEC3:
			r.signed = r.signed || authenticates(rec.Type, question.Type)
		}
		off = rec.end
	}
	if off != len(msg) {
		return errSections
	}
	if size == 0 {
		size = len(msg)
	}
	r.Message = msg[:size]
	r.RCODE = extended<<4 | uint16(msg[3]&0xF)
	r.Class = classOf(r.RCODE, hasData, hasNS && !hasSOA && answers == 0)
	return nil
}

func classOf(rcode uint16, hasData, referral bool) uint16 {
	switch {
	case rcode == NOERROR && !hasData && !referral:
		return ClassNODATA
	case rcode >= ClassNODATA:
		return ClassOther
	}
	return rcode
}

// SetRCODE makes r a response without records, with this RCODE, to q. It is appended to dst. When q has no valid question the
// message is a header only.
func (r *Response) SetRCODE(dst []byte, q *Query, rcode uint16) {
	start := len(dst)
	dst = append(dst, 0, 0, 0x80, byte(rcode&0xF), 0, 0, 0, 0, 0, 0, 0, 0)
	if q.Name != nil {
		dst[start+5] = 1
		dst = q.AppendWire(dst)
	}
	*r = Response{Message: dst[start:], RCODE: rcode, Class: classOf(rcode, false, false), Upstream: None}
}

// OwnSize is the UDP payload size that weir offers in its OPT records, to clients and upstreams: it stays clear of IP fragments
// (RFC 9715 section 3, and the DNS flag day of 2020).
const OwnSize = 1232

// Finish makes r the message that answers q on the wire, in place, and returns it: the ID of q, its question in the case in which the
// client asked, QR, RA, RD and CD (RFC 1035 section 4.1.1, RFC 4035 section 3.2.2), AA and TC as r has them
// (an upstream that may only be asked over UDP can leave a response truncated), AD as r has it if q asks for it, by AD or by DO
// (RFC 6840 section 5.8), Z clear, and an OPT if and only if q has one (RFC 6891 section 7). What is larger than limit octets loses its additional section, and if that is not enough
// all records, with TC set (RFC 2181 section 9). The question of r must be that of q but for the case of letters.
// The OPT is appended to r.Message; AddOption and Pad can add to it.
func (r *Response) Finish(q *Query, limit int) []byte {
	msg, rcode := r.Message, r.RCODE
	if rcode > 0xF && !q.EDNS {
		rcode = SERVFAIL // an extended RCODE can't be said without EDNS (RFC 6891 section 9)
	}
	binary.BigEndian.PutUint16(msg, q.ID)
	own := uint16(FlagAA | FlagTC)
	if q.DO || q.Flags&FlagAD != 0 {
		own |= FlagAD
	}
	flags := uint16(FlagQR|FlagRA) | q.Flags&(0xF<<11|FlagRD|FlagCD) | binary.BigEndian.Uint16(msg[2:])&own | rcode&0xF
	question := headerSize
	if q.Name != nil {
		copy(msg[headerSize:], q.Name)
		question = q.QuestionSize()
	}
	opt, ede := 0, r.EDE
	if q.EDNS {
		opt = 11 + len(ede)
	}
	if len(msg)+opt > limit {
		msg = dropAdditional(msg, question)
	}
	if len(msg)+opt > limit && len(ede) > 0 {
		ede, opt = nil, 11
	}
	if len(msg)+opt > limit {
		msg = msg[:question]
		clear(msg[6:headerSize])
		flags = flags&^FlagAD | FlagTC
	}
	binary.BigEndian.PutUint16(msg[2:], flags)
	r.rdata = 0
	if q.EDNS {
		r.rdata = len(msg) + 11
		binary.BigEndian.PutUint16(msg[10:], binary.BigEndian.Uint16(msg[10:])+1)
		msg = appendOPT(msg, OwnSize, uint8(rcode>>4), q.DO, ede)
	}
	return msg
}

// dropAdditional cuts the additional section of a checked message whose records begin at off.
func dropAdditional(msg []byte, off int) []byte {
	if binary.BigEndian.Uint16(msg[10:]) == 0 {
		return msg
	}
	for range int(binary.BigEndian.Uint16(msg[6:])) + int(binary.BigEndian.Uint16(msg[8:])) {
		r, err := parseRecord(msg, off)
		if err != nil {
			return msg
		}
		off = r.end
	}
	binary.BigEndian.PutUint16(msg[10:], 0)
	return msg[:off]
}
