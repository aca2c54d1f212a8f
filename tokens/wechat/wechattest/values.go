package wechattest

import (
	cryptorand "crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"time"
)

const urlSafe = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// values makes everything that looks random, repeatably for a given seed. Not
// safe for concurrent use: the Server's lock guards it.
type values struct {
	seed uint64
	rng  *rand.Rand
}

func newValues(seed uint64) *values {
	if seed == 0 {
		var b [8]byte
		cryptorand.Read(b[:])
		// A seed of 52 bits survives every JSON reader.
		seed = binary.BigEndian.Uint64(b[:])>>12 | 1
	}
	var key [32]byte
	binary.BigEndian.PutUint64(key[:], seed)
	copy(key[8:], "lingpai wechattest")
	return &values{seed: seed, rng: rand.New(rand.NewChaCha8(key))}
}

func (v *values) text(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = urlSafe[v.rng.IntN(len(urlSafe))]
	}
	return string(b)
}

func (v *values) digits(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte('0' + v.rng.IntN(10))
	}
	return string(b)
}

func (v *values) hex(n int) string {
	b := make([]byte, (n+1)/2)
	v.bytes(b)
	return hex.EncodeToString(b)[:n]
}

func (v *values) bytes(b []byte) {
	for i := range b {
		b[i] = byte(v.rng.Uint32())
	}
}

// token has the length and the shape of WeChat's access tokens.
func (v *values) token() string {
	n := 130 + v.rng.IntN(28)
	return fmt.Sprintf("%d_", 60+v.rng.IntN(39)) + v.text(n-3)
}

func (v *values) ticket() string       { return "ticket@@@" + v.text(86) }
func (v *values) refreshToken() string { return "refreshtoken@@@" + v.text(43) }
func (v *values) authCode() string     { return "queryauthcode@@@" + v.text(86) }
func (v *values) preAuthCode() string  { return "preauthcode@@@" + v.text(86) }
func (v *values) jsTicket() string     { return "kgt8ON7yVITDhtdwci0q" + v.text(66) }
func (v *values) userName() string     { return "gh_" + v.hex(12) }

// rid is the request id in WeChat's error messages.
func (v *values) rid(now time.Time) string {
	return fmt.Sprintf("%08x-%08x-%08x", uint32(now.Unix()), v.rng.Uint32(), v.rng.Uint32())
}
