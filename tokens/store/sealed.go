package store

import "lingpai/tokens/secret"

// sealed is a secret as it lies in a stored record; in JSON it is base64, which
// keeps every byte, also of a push that is no UTF-8.
//
// All secrets of all records pass through seal on their way in and open on
// their way out, and nothing else does: encryption at rest (store.encryption_keys)
// belongs into these two functions.
type sealed []byte

// seal gives nil for the empty secret, so that its field can be left out.
func seal(s secret.String) sealed {
	if s.Empty() {
		return nil
	}
	return sealed(s.Reveal())
}

func (s sealed) open() secret.String { return secret.New(string(s)) }
