package store

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"

	"lingpai/tokens/secret"
)

// ErrKey means that a value cannot be read because its key is not among those
// of the Codec. The error around it names the id of that key.
var ErrKey = errors.New("encrypted with a key that store.encryption_keys does not hold")

const (
	keyBytes = 32
	// The envelope of an encrypted value:
	//
	//	1 byte    version of the envelope, 1
	//	8 bytes   id of the key: the first of the key's SHA-256
	//	12 bytes  nonce, random
	//	n bytes   ciphertext, AES-256-GCM
	//	16 bytes  tag
	//
	// Version and id are not secret. They are not authenticated by themselves:
	// changed ones lead to another key, or to none, with which nothing opens.
	envelopeVersion = 1
	idBytes         = 8
	headBytes       = 1 + idBytes
	nonceAndTag     = 12 + 16
)

// Overhead is by how many bytes an envelope is longer than what is in it.
const Overhead = headBytes + nonceAndTag

type keyID [idBytes]byte

func (id keyID) String() string { return hex.EncodeToString(id[:]) }

// Codec turns records into the bytes that are stored, and back. With keys the
// secrets in them are encrypted: ticket, access tokens, refresh tokens and the
// messages of pushes; all else stays readable. Secrets that were stored without
// keys are read as well.
//
// The zero value has no keys and does not encrypt. A Codec is immutable, may be
// copied, and is safe for concurrent use.
type Codec struct{ ring *ring }

type ring struct {
	first keyID
	keys  map[keyID]cipher.AEAD
}

// NewCodec returns a Codec that encrypts with the first of keys and decrypts
// with all. Each is 32 bytes in Base64. No keys give the zero Codec.
func NewCodec(keys ...secret.String) (Codec, error) {
	if len(keys) == 0 {
		return Codec{}, nil
	}
	r := &ring{keys: make(map[keyID]cipher.AEAD, len(keys))}
	for i, text := range keys {
		key, err := base64.StdEncoding.DecodeString(text.Reveal())
		if err != nil || len(key) != keyBytes {
			return Codec{}, fmt.Errorf("encryption key %d is not %d bytes in Base64", i+1, keyBytes)
		}
		block, err := aes.NewCipher(key)
		if err != nil {
			return Codec{}, fmt.Errorf("encryption key %d: %w", i+1, err)
		}
		aead, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			return Codec{}, fmt.Errorf("encryption key %d: %w", i+1, err)
		}
		sum := sha256.Sum256(key)
		id := keyID(sum[:idBytes])
		if i == 0 {
			r.first = id
		}
		r.keys[id] = aead
	}
	return Codec{ring: r}, nil
}

// NewKey returns a new random key, in Base64.
func NewKey() secret.String {
	key := make([]byte, keyBytes)
	rand.Read(key) // which never fails
	return secret.New(base64.StdEncoding.EncodeToString(key))
}

// Encrypts reports whether the Codec has keys.
func (c Codec) Encrypts() bool { return c.ring != nil }

// KeyID is the id of the key that encrypts, in hex; "" without keys.
func (c Codec) KeyID() string {
	if !c.Encrypts() {
		return ""
	}
	return c.ring.first.String()
}

// Seal encrypts value with the first key into an envelope that opens only with
// the same associated data. It panics without keys.
func (c Codec) Seal(value, associated []byte) []byte {
	envelope := make([]byte, 0, len(value)+Overhead)
	envelope = append(envelope, envelopeVersion)
	envelope = append(envelope, c.ring.first[:]...)
	return c.ring.keys[c.ring.first].Seal(envelope, nil, value, associated)
}

// Open gives what is in an envelope. The error is ErrKey, ErrNewer if the
// envelope is of a version that this lingpai does not know, or ErrCorrupt if it
// or the associated data is not what it was.
func (c Codec) Open(envelope, associated []byte) ([]byte, error) {
	switch {
	case len(envelope) < Overhead || envelope[0] == 0:
		return nil, fmt.Errorf("envelope of %d bytes: %w", len(envelope), ErrCorrupt)
	case envelope[0] > envelopeVersion:
		return nil, fmt.Errorf("envelope of version %d: %w", envelope[0], ErrNewer)
	}
	id := keyID(envelope[1:headBytes])
	if err := c.holds(id); err != nil {
		return nil, err
	}
	value, err := c.ring.keys[id].Open(nil, nil, envelope[headBytes:], associated)
	if err != nil {
		return nil, fmt.Errorf("envelope does not authenticate: %w", ErrCorrupt)
	}
	return value, nil
}

func (c Codec) holds(id keyID) error {
	if c.Encrypts() && c.ring.keys[id] != nil {
		return nil
	}
	return fmt.Errorf("key %s: %w", id, ErrKey)
}

// Mark is for a store to note which keys its values may be encrypted with, so
// that missing ones are found when it is opened and not at the first call. It
// takes the mark found in the store, nil if there is none, and returns the one
// to put there before anything is written: found itself, or found with the id
// of the first key added. After all values were written anew, Mark(nil) is the
// mark. The error is ErrKey if a key is missing.
func (c Codec) Mark(found []byte) (mark []byte, err error) {
	mine := false
	for _, text := range bytes.Fields(found) {
		var id keyID
		if len(text) != hex.EncodedLen(idBytes) {
			return nil, fmt.Errorf("mark of encryption keys: %w", ErrCorrupt)
		}
		if _, err := hex.Decode(id[:], text); err != nil {
			return nil, fmt.Errorf("mark of encryption keys: %w", ErrCorrupt)
		}
		if err := c.holds(id); err != nil {
			return nil, err
		}
		mine = mine || id == c.ring.first
	}
	if mine || !c.Encrypts() {
		return found, nil
	}
	return bytes.TrimSpace(fmt.Appendf(bytes.Clone(found), " %s", c.ring.first)), nil
}
