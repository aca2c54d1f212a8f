// Package msgcrypt is the message security of WeChat's pushes: the signature
// and the AES envelope, as pure functions.
//
// https://developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/api/Before_Develop/Technical_Plan.html
package msgcrypt

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"slices"
)

// Errors of Decrypt and ParseKey. Neither holds key, plaintext or ciphertext.
var (
	// ErrKey means that an EncodingAESKey is not 43 Base64 characters.
	ErrKey = errors.New("EncodingAESKey must be 43 characters of a-z, A-Z, 0-9 (and + or /)")
	// ErrCiphertext means that a ciphertext is not Base64 of whole AES blocks,
	// or that what it decrypts to is no envelope: usually the wrong key.
	ErrCiphertext = errors.New("ciphertext does not open with this key")
)

// padBlock is the PKCS#7 block size WeChat uses: 32, not AES's 16.
const padBlock = 32

// headerSize is what stands before the message: 16 random bytes and the
// message's length, 4 bytes big-endian.
const headerSize = 16 + 4

// Key is a parsed EncodingAESKey. The zero value opens nothing. Safe for
// concurrent use.
type Key struct {
	block cipher.Block
	iv    [aes.BlockSize]byte
}

// ParseKey parses an EncodingAESKey (消息加解密Key) of 43 Base64 characters.
// The last character's spare bits may be set: the console makes such keys.
func ParseKey(encodingAESKey string) (Key, error) {
	raw, err := base64.StdEncoding.DecodeString(encodingAESKey + "=")
	if err != nil || len(raw) != 32 {
		return Key{}, ErrKey
	}
	block, err := aes.NewCipher(raw)
	if err != nil {
		return Key{}, ErrKey
	}
	key := Key{block: block}
	copy(key.iv[:], raw)
	return key, nil
}

// Signature returns msg_signature: lower-case hex SHA-1 of the sorted values,
// joined.
func Signature(token, timestamp, nonce, encrypt string) string {
	parts := []string{token, timestamp, nonce, encrypt}
	slices.Sort(parts)
	h := sha1.New()
	for _, part := range parts {
		h.Write([]byte(part))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Verify reports in constant time whether signature is the msg_signature of
// the other values.
func Verify(token, timestamp, nonce, encrypt, signature string) bool {
	want := Signature(token, timestamp, nonce, encrypt)
	return subtle.ConstantTimeCompare([]byte(want), []byte(signature)) == 1
}

// Encrypt seals msg for appID and returns it in Base64. The 16 bytes of random
// must be fresh for each message.
func (k Key) Encrypt(random [16]byte, msg []byte, appID string) (string, error) {
	if k.block == nil {
		return "", ErrKey
	}
	size := headerSize + len(msg) + len(appID)
	pad := padBlock - size%padBlock
	plain := make([]byte, 0, size+pad)
	plain = append(plain, random[:]...)
	plain = binary.BigEndian.AppendUint32(plain, uint32(len(msg)))
	plain = append(plain, msg...)
	plain = append(plain, appID...)
	for range pad {
		plain = append(plain, byte(pad))
	}
	cipher.NewCBCEncrypter(k.block, k.iv[:]).CryptBlocks(plain, plain)
	return base64.StdEncoding.EncodeToString(plain), nil
}

// Decrypt opens a Base64 ciphertext and returns the message and the appid at
// its tail, which the caller has to compare with its own. Any fault is
// ErrCiphertext (or ErrKey for a zero Key), with no hint which: the caller
// answers strangers.
func (k Key) Decrypt(encrypt string) (msg []byte, appID string, err error) {
	if k.block == nil {
		return nil, "", ErrKey
	}
	plain, err := base64.StdEncoding.DecodeString(encrypt)
	if err != nil || len(plain) == 0 || len(plain)%aes.BlockSize != 0 {
		return nil, "", ErrCiphertext
	}
	cipher.NewCBCDecrypter(k.block, k.iv[:]).CryptBlocks(plain, plain)
	// As WeChat's own samples do: a pad byte outside of 1..32 means no padding.
	if pad := int(plain[len(plain)-1]); pad >= 1 && pad <= padBlock && pad <= len(plain) {
		plain = plain[:len(plain)-pad]
	}
	if len(plain) < headerSize {
		return nil, "", ErrCiphertext
	}
	length := binary.BigEndian.Uint32(plain[16:headerSize])
	rest := plain[headerSize:]
	if uint64(length) > uint64(len(rest)) {
		return nil, "", ErrCiphertext
	}
	return rest[:length], string(rest[length:]), nil
}
