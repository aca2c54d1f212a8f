package authorize

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"lingpai/tokens"
	"lingpai/tokens/secret"
)

// stateLifetime is how long a visit to WeChat may take.
const stateLifetime = 2 * time.Hour

// maxClockSkew is how far the clocks of two sidecars may differ.
const maxClockSkew = 5 * time.Minute

// Errors of a state that came back.
var (
	errForged  = errors.New("state is not ours")
	errExpired = errors.New("state is too old")
)

// passage is what a visitor takes along through WeChat, as a signed parameter of
// redirect_uri: nothing is kept here, so that any sidecar can go on with it. It is
// no secret.
type passage struct {
	request
	Link     tokens.Link `json:"l,omitempty"`
	IssuedAt int64       `json:"i"` // Unix seconds
}

// deriveKey makes the key of states, so that the secret can serve other ends too.
func deriveKey(from secret.String) []byte {
	key, err := hkdf.Key(sha256.New, []byte(from.Reveal()), nil, "lingpai authorization page state 1", sha256.Size)
	if err != nil {
		panic(err) // only too long a key can do that
	}
	return key
}

func sign(key []byte, text string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}

// seal writes a passage as base64url(JSON).base64url(HMAC-SHA256 of what stands
// before the dot).
func (p passage) seal(key []byte) string {
	raw, err := json.Marshal(p)
	if err != nil {
		panic(err) // strings and numbers only
	}
	payload := base64.RawURLEncoding.EncodeToString(raw)
	return payload + "." + base64.RawURLEncoding.EncodeToString(sign(key, payload))
}

// openState reads a state that came back at now. With errExpired the passage is
// ours all the same.
func openState(key []byte, state string, now time.Time) (passage, error) {
	var p passage
	payload, mac, _ := strings.Cut(state, ".")
	given, err := base64.RawURLEncoding.DecodeString(mac)
	if err != nil || !hmac.Equal(given, sign(key, payload)) {
		return passage{}, errForged
	}
	raw, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil || json.Unmarshal(raw, &p) != nil {
		return passage{}, errForged
	}
	age := now.Sub(time.Unix(p.IssuedAt, 0))
	if age >= stateLifetime || age < -maxClockSkew {
		return p, errExpired
	}
	return p, nil
}
