package cookie

import (
	"crypto/rand"
	"encoding/binary"
	"net/netip"
	"time"
)

// Secret is what a client makes its cookies of. Nobody else knows it.
type Secret struct{ key key }

// NewSecret returns a random secret.
func NewSecret() *Secret {
	var secret [SecretSize]byte
	rand.Read(secret[:])
	return &Secret{newKey(&secret)}
}

// Client returns the client cookie to show to a server that is asked from local: another one for each server, so that two of them can't tell that they
// are asked by the same client, for each local address, so that nobody can tell that the client has moved (RFC 9018 section 3), and for each day
// (RFC 7873 section 7.1). It allocates nothing.
func (s *Secret) Client(local, server netip.AddrPort, now time.Time) (cookie [ClientSize]byte) {
	var in [16 + 16 + 2 + 8]byte
	from, to := local.Addr().As16(), server.Addr().As16()
	copy(in[:], from[:])
	copy(in[16:], to[:])
	binary.BigEndian.PutUint16(in[32:], server.Port())
	binary.BigEndian.PutUint64(in[34:], uint64(now.Unix()/int64(rollover/time.Second)))
	binary.LittleEndian.PutUint64(cookie[:], s.key.hash(in[:]))
	return cookie
}
