package store

import (
	"encoding/base64"
	"fmt"
	"strings"

	"lingpai/tokens/secret"
)

// sealed is a secret as it lies in a stored record: its bytes in Base64, which
// keeps each of them, also of a push that is no UTF-8; or sealedPrefix and the
// Base64 of an envelope. Base64 has no colon, so neither is taken for the other.
//
// All secrets of all records pass through sealAll on their way in and openAll
// on their way out, and nothing else does.
type sealed string

const sealedPrefix = "enc:"

// named is a secret and the name of its field.
type named struct {
	field string
	value secret.String
}

// stored is a sealed secret and the name of its field.
type stored struct {
	field string
	value sealed
}

// sealAll gives the secrets of the record of kind under key as they are stored,
// and the version of the record. The empty secret gives "", so that its field
// can be left out.
func (c Codec) sealAll(kind, key string, secrets ...named) (version int, out []sealed) {
	out = make([]sealed, len(secrets))
	set := ""
	for _, s := range secrets {
		if !s.value.Empty() {
			set += s.field + " "
		}
	}
	if set == "" || !c.Encrypts() {
		for i, s := range secrets {
			out[i] = sealed(base64.StdEncoding.EncodeToString([]byte(s.value.Reveal())))
		}
		return versionPlain, out
	}
	for i, s := range secrets {
		if s.value.Empty() {
			continue
		}
		envelope := c.Seal([]byte(s.value.Reveal()), binding(kind, key, s.field, set))
		out[i] = sealed(sealedPrefix + base64.StdEncoding.EncodeToString(envelope))
	}
	return versionSealed, out
}

// openAll is the reverse. In a record of versionSealed all secrets are
// encrypted and there is at least one: anything else was not written by sealAll.
func (c Codec) openAll(kind, key string, version int, secrets ...stored) ([]secret.String, error) {
	out := make([]secret.String, len(secrets))
	set := ""
	for _, s := range secrets {
		if s.value != "" {
			set += s.field + " "
		}
	}
	if version == versionSealed && set == "" {
		return nil, fmt.Errorf("decode %s: its secrets are missing: %w", kind, ErrCorrupt)
	}
	for i, s := range secrets {
		if s.value == "" {
			continue
		}
		text, encrypted := strings.CutPrefix(string(s.value), sealedPrefix)
		if encrypted != (version == versionSealed) {
			return nil, fmt.Errorf("decode %s: field %s has not the form of version %d: %w", kind, s.field, version, ErrCorrupt)
		}
		value, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return nil, fmt.Errorf("decode %s: field %s: %w", kind, s.field, ErrCorrupt)
		}
		if encrypted {
			if value, err = c.Open(value, binding(kind, key, s.field, set)); err != nil {
				return nil, fmt.Errorf("decode %s: field %s: %w", kind, s.field, err)
			}
		}
		out[i] = secret.New(string(value))
	}
	return out, nil
}

// binding is the associated data of a secret: its place, and which secrets are
// in the record, so that none can be moved, or removed beside another. Only key
// may hold any byte, and it is the last.
func binding(kind, key, field, set string) []byte {
	return []byte("lingpai record\x00" + kind + "\x00" + field + "\x00" + set + "\x00" + key)
}
