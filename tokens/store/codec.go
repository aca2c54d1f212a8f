package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"lingpai/tokens/secret"
)

// Errors of the record codec. None of them quotes a record's content.
var (
	// ErrCorrupt means that stored bytes are no record.
	ErrCorrupt = errors.New("record is corrupt")
	// ErrNewer means that a newer lingpai wrote this, in a form that this one
	// does not know.
	ErrNewer = errors.New("written by a newer version of lingpai")
	// ErrInvalid means that a record cannot be stored: its app id or digest is
	// empty or longer than 256 bytes, a text in it is no UTF-8, or a year in it
	// has more than four digits.
	ErrInvalid = errors.New("record cannot be stored")
)

const (
	// The forms of records written by this package: versionPlain if none of the
	// secrets in it is encrypted, versionSealed if all are and there is one. The
	// version grows when a reader of the former form would misread a record: a
	// field that it may ignore needs no new version. A new secret is none such,
	// since the names of all secrets are part of what is authenticated.
	versionPlain  = 1
	versionSealed = 2

	// maxKey bounds app ids and digests, which are keys in every store.
	maxKey = 256
)

// The kinds of records, as errors name them and as encrypted values are bound
// to them: never changed.
const (
	kindComponent  = "component"
	kindAuthorizer = "authorizer"
	kindAccount    = "account"
	kindPush       = "push"
)

// Keys are short because a platform may have a million records, and they are
// never given a new meaning.
type wireToken struct {
	Value       sealed    `json:"t,omitempty"`
	ExpiresAt   time.Time `json:"x,omitzero"`
	RefreshedAt time.Time `json:"r,omitzero"`
	Generation  uint64    `json:"g,omitempty"`
}

type wireComponent struct {
	Version          int       `json:"v"`
	AppID            string    `json:"id"`
	Ticket           sealed    `json:"tk,omitempty"`
	TicketCreatedAt  time.Time `json:"tc,omitzero"`
	TicketReceivedAt time.Time `json:"tr,omitzero"`
	Token            wireToken `json:"at,omitzero"`
}

type wireAuthorizer struct {
	Version      int       `json:"v"`
	AppID        string    `json:"id"`
	State        State     `json:"s,omitempty"`
	RefreshToken sealed    `json:"rt,omitempty"`
	Token        wireToken `json:"at,omitzero"`
	AuthorizedAt time.Time `json:"au,omitzero"`
	EventAt      time.Time `json:"ev,omitzero"`
	EventDigest  string    `json:"ed,omitempty"`
	Scopes       []int     `json:"sc,omitempty"`
}

type wireAccount struct {
	Version int       `json:"v"`
	AppID   string    `json:"id"`
	Token   wireToken `json:"at,omitzero"`
}

type wirePush struct {
	Version    int       `json:"v"`
	Seq        uint64    `json:"n"`
	Digest     string    `json:"d"`
	ReceivedAt time.Time `json:"r,omitzero"`
	Message    sealed    `json:"m,omitempty"`
}

// EncodeComponent gives the bytes to store for rec, or ErrInvalid. Without keys
// the result holds secrets.
func (c Codec) EncodeComponent(rec Component) ([]byte, error) {
	version, s := c.sealAll(kindComponent, rec.AppID, named{"tk", rec.Ticket}, named{"at.t", rec.Token.Value})
	return encode(kindComponent, rec.AppID, nil, wireComponent{
		Version:          version,
		AppID:            rec.AppID,
		Ticket:           s[0],
		TicketCreatedAt:  rec.TicketCreatedAt.UTC(),
		TicketReceivedAt: rec.TicketReceivedAt.UTC(),
		Token:            encodeToken(rec.Token, s[1]),
	})
}

// DecodeComponent reads what EncodeComponent wrote. Times are in UTC. The error
// is ErrCorrupt, ErrNewer or ErrKey.
func (c Codec) DecodeComponent(data []byte) (Component, error) {
	var w wireComponent
	if err := decode(kindComponent, data, &w, &w.Version); err != nil {
		return Component{}, err
	}
	s, err := c.openAll(kindComponent, w.AppID, w.Version, stored{"tk", w.Ticket}, stored{"at.t", w.Token.Value})
	if err != nil {
		return Component{}, err
	}
	return Component{
		AppID:            w.AppID,
		Ticket:           s[0],
		TicketCreatedAt:  w.TicketCreatedAt.UTC(),
		TicketReceivedAt: w.TicketReceivedAt.UTC(),
		Token:            decodeToken(w.Token, s[1]),
	}, nil
}

// EncodeAuthorizer gives the bytes to store for rec, or ErrInvalid. Without keys
// the result holds secrets.
func (c Codec) EncodeAuthorizer(rec Authorizer) ([]byte, error) {
	version, s := c.sealAll(kindAuthorizer, rec.AppID, named{"rt", rec.RefreshToken}, named{"at.t", rec.Token.Value})
	return encode(kindAuthorizer, rec.AppID, []string{string(rec.State), rec.EventDigest}, wireAuthorizer{
		Version:      version,
		AppID:        rec.AppID,
		State:        rec.State,
		RefreshToken: s[0],
		Token:        encodeToken(rec.Token, s[1]),
		AuthorizedAt: rec.AuthorizedAt.UTC(),
		EventAt:      rec.EventAt.UTC(),
		EventDigest:  rec.EventDigest,
		Scopes:       rec.Scopes,
	})
}

// DecodeAuthorizer reads what EncodeAuthorizer wrote. Times are in UTC, and no
// scopes come back as nil. The error is ErrCorrupt, ErrNewer or ErrKey.
func (c Codec) DecodeAuthorizer(data []byte) (Authorizer, error) {
	var w wireAuthorizer
	if err := decode(kindAuthorizer, data, &w, &w.Version); err != nil {
		return Authorizer{}, err
	}
	s, err := c.openAll(kindAuthorizer, w.AppID, w.Version, stored{"rt", w.RefreshToken}, stored{"at.t", w.Token.Value})
	if err != nil {
		return Authorizer{}, err
	}
	if len(w.Scopes) == 0 {
		w.Scopes = nil
	}
	return Authorizer{
		AppID:        w.AppID,
		State:        w.State,
		RefreshToken: s[0],
		Token:        decodeToken(w.Token, s[1]),
		AuthorizedAt: w.AuthorizedAt.UTC(),
		EventAt:      w.EventAt.UTC(),
		EventDigest:  w.EventDigest,
		Scopes:       w.Scopes,
	}, nil
}

// EncodeAccount gives the bytes to store for rec, or ErrInvalid. Without keys
// the result holds secrets.
func (c Codec) EncodeAccount(rec Account) ([]byte, error) {
	version, s := c.sealAll(kindAccount, rec.AppID, named{"at.t", rec.Token.Value})
	return encode(kindAccount, rec.AppID, nil, wireAccount{
		Version: version,
		AppID:   rec.AppID,
		Token:   encodeToken(rec.Token, s[0]),
	})
}

// DecodeAccount reads what EncodeAccount wrote. Times are in UTC. The error is
// ErrCorrupt, ErrNewer or ErrKey.
func (c Codec) DecodeAccount(data []byte) (Account, error) {
	var w wireAccount
	if err := decode(kindAccount, data, &w, &w.Version); err != nil {
		return Account{}, err
	}
	s, err := c.openAll(kindAccount, w.AppID, w.Version, stored{"at.t", w.Token.Value})
	if err != nil {
		return Account{}, err
	}
	return Account{AppID: w.AppID, Token: decodeToken(w.Token, s[0])}, nil
}

// EncodePush gives the bytes to store for rec, or ErrInvalid. Without keys the
// result holds secrets.
func (c Codec) EncodePush(rec Push) ([]byte, error) {
	version, s := c.sealAll(kindPush, rec.Digest, named{"m", rec.Message})
	return encode(kindPush, rec.Digest, nil, wirePush{
		Version:    version,
		Seq:        rec.Seq,
		Digest:     rec.Digest,
		ReceivedAt: rec.ReceivedAt.UTC(),
		Message:    s[0],
	})
}

// DecodePush reads what EncodePush wrote. Times are in UTC. The error is
// ErrCorrupt, ErrNewer or ErrKey.
func (c Codec) DecodePush(data []byte) (Push, error) {
	var w wirePush
	if err := decode(kindPush, data, &w, &w.Version); err != nil {
		return Push{}, err
	}
	s, err := c.openAll(kindPush, w.Digest, w.Version, stored{"m", w.Message})
	if err != nil {
		return Push{}, err
	}
	return Push{
		Seq:        w.Seq,
		Digest:     w.Digest,
		ReceivedAt: w.ReceivedAt.UTC(),
		Message:    s[0],
	}, nil
}

// The functions below are those of the Codec without keys.

// EncodeComponent is Codec{}.EncodeComponent.
func EncodeComponent(rec Component) ([]byte, error) { return Codec{}.EncodeComponent(rec) }

// DecodeComponent is Codec{}.DecodeComponent.
func DecodeComponent(data []byte) (Component, error) { return Codec{}.DecodeComponent(data) }

// EncodeAuthorizer is Codec{}.EncodeAuthorizer.
func EncodeAuthorizer(rec Authorizer) ([]byte, error) { return Codec{}.EncodeAuthorizer(rec) }

// DecodeAuthorizer is Codec{}.DecodeAuthorizer.
func DecodeAuthorizer(data []byte) (Authorizer, error) { return Codec{}.DecodeAuthorizer(data) }

// EncodeAccount is Codec{}.EncodeAccount.
func EncodeAccount(rec Account) ([]byte, error) { return Codec{}.EncodeAccount(rec) }

// DecodeAccount is Codec{}.DecodeAccount.
func DecodeAccount(data []byte) (Account, error) { return Codec{}.DecodeAccount(data) }

// EncodePush is Codec{}.EncodePush.
func EncodePush(rec Push) ([]byte, error) { return Codec{}.EncodePush(rec) }

// DecodePush is Codec{}.DecodePush.
func DecodePush(data []byte) (Push, error) { return Codec{}.DecodePush(data) }

func encodeToken(t Token, value sealed) wireToken {
	return wireToken{
		Value:       value,
		ExpiresAt:   t.ExpiresAt.UTC(),
		RefreshedAt: t.RefreshedAt.UTC(),
		Generation:  t.Generation,
	}
}

func decodeToken(w wireToken, value secret.String) Token {
	return Token{
		Value:       value,
		ExpiresAt:   w.ExpiresAt.UTC(),
		RefreshedAt: w.RefreshedAt.UTC(),
		Generation:  w.Generation,
	}
}

// encode refuses what would not come back as it was: JSON has no way to write
// text that is no UTF-8, and encoding/json replaces it without a word.
func encode(kind, key string, texts []string, wire any) ([]byte, error) {
	if key == "" || len(key) > maxKey {
		return nil, fmt.Errorf("encode %s: key of %d bytes: %w", kind, len(key), ErrInvalid)
	}
	for _, text := range append(texts, key) {
		if !utf8.ValidString(text) {
			return nil, fmt.Errorf("encode %s: text is not UTF-8: %w", kind, ErrInvalid)
		}
	}
	data, err := json.Marshal(wire)
	if err != nil {
		// Only a time can fail here. encoding/json's error is left out because
		// what it quotes is not ours to decide.
		return nil, fmt.Errorf("encode %s: time out of range: %w", kind, ErrInvalid)
	}
	return data, nil
}

// decode reads data into wire, of which got is the version field. The errors of
// encoding/json quote numbers, times and characters of the record, so they are
// not passed on.
func decode(kind string, data []byte, wire any, got *int) error {
	err := json.Unmarshal(data, wire)
	if err != nil {
		// A newer form may have other types in the same fields; its version is
		// all that has to be readable.
		var head struct {
			Version int `json:"v"`
		}
		*got = 0
		if json.Unmarshal(data, &head) == nil {
			*got = head.Version
		}
	}
	switch {
	case *got > versionSealed:
		return fmt.Errorf("decode %s of version %d: %w", kind, *got, ErrNewer)
	case err != nil || *got < versionPlain:
		return fmt.Errorf("decode %s of %d bytes: %w", kind, len(data), ErrCorrupt)
	}
	return nil
}
