package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"
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
	// version is the form of all records written by this package. It grows when
	// a reader of the former form would misread a record: a field that it may
	// ignore needs no new version.
	version = 1
	// maxKey bounds app ids and digests, which are keys in every store.
	maxKey = 256
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

// EncodeComponent gives the bytes to store for c, or ErrInvalid. The result
// holds secrets.
func EncodeComponent(c Component) ([]byte, error) {
	return encode("component", c.AppID, nil, wireComponent{
		Version:          version,
		AppID:            c.AppID,
		Ticket:           seal(c.Ticket),
		TicketCreatedAt:  c.TicketCreatedAt.UTC(),
		TicketReceivedAt: c.TicketReceivedAt.UTC(),
		Token:            encodeToken(c.Token),
	})
}

// DecodeComponent reads what EncodeComponent wrote. Times are in UTC. The error
// is ErrCorrupt or ErrNewer.
func DecodeComponent(data []byte) (Component, error) {
	var w wireComponent
	if err := decode("component", data, &w, &w.Version); err != nil {
		return Component{}, err
	}
	return Component{
		AppID:            w.AppID,
		Ticket:           w.Ticket.open(),
		TicketCreatedAt:  w.TicketCreatedAt.UTC(),
		TicketReceivedAt: w.TicketReceivedAt.UTC(),
		Token:            decodeToken(w.Token),
	}, nil
}

// EncodeAuthorizer gives the bytes to store for a, or ErrInvalid. The result
// holds secrets.
func EncodeAuthorizer(a Authorizer) ([]byte, error) {
	return encode("authorizer", a.AppID, []string{string(a.State), a.EventDigest}, wireAuthorizer{
		Version:      version,
		AppID:        a.AppID,
		State:        a.State,
		RefreshToken: seal(a.RefreshToken),
		Token:        encodeToken(a.Token),
		AuthorizedAt: a.AuthorizedAt.UTC(),
		EventAt:      a.EventAt.UTC(),
		EventDigest:  a.EventDigest,
		Scopes:       a.Scopes,
	})
}

// DecodeAuthorizer reads what EncodeAuthorizer wrote. Times are in UTC, and no
// scopes come back as nil. The error is ErrCorrupt or ErrNewer.
func DecodeAuthorizer(data []byte) (Authorizer, error) {
	var w wireAuthorizer
	if err := decode("authorizer", data, &w, &w.Version); err != nil {
		return Authorizer{}, err
	}
	if len(w.Scopes) == 0 {
		w.Scopes = nil
	}
	return Authorizer{
		AppID:        w.AppID,
		State:        w.State,
		RefreshToken: w.RefreshToken.open(),
		Token:        decodeToken(w.Token),
		AuthorizedAt: w.AuthorizedAt.UTC(),
		EventAt:      w.EventAt.UTC(),
		EventDigest:  w.EventDigest,
		Scopes:       w.Scopes,
	}, nil
}

// EncodeAccount gives the bytes to store for a, or ErrInvalid. The result holds
// secrets.
func EncodeAccount(a Account) ([]byte, error) {
	return encode("account", a.AppID, nil, wireAccount{
		Version: version,
		AppID:   a.AppID,
		Token:   encodeToken(a.Token),
	})
}

// DecodeAccount reads what EncodeAccount wrote. Times are in UTC. The error is
// ErrCorrupt or ErrNewer.
func DecodeAccount(data []byte) (Account, error) {
	var w wireAccount
	if err := decode("account", data, &w, &w.Version); err != nil {
		return Account{}, err
	}
	return Account{AppID: w.AppID, Token: decodeToken(w.Token)}, nil
}

// EncodePush gives the bytes to store for p, or ErrInvalid. The result holds
// secrets.
func EncodePush(p Push) ([]byte, error) {
	return encode("push", p.Digest, nil, wirePush{
		Version:    version,
		Seq:        p.Seq,
		Digest:     p.Digest,
		ReceivedAt: p.ReceivedAt.UTC(),
		Message:    seal(p.Message),
	})
}

// DecodePush reads what EncodePush wrote. Times are in UTC. The error is
// ErrCorrupt or ErrNewer.
func DecodePush(data []byte) (Push, error) {
	var w wirePush
	if err := decode("push", data, &w, &w.Version); err != nil {
		return Push{}, err
	}
	return Push{
		Seq:        w.Seq,
		Digest:     w.Digest,
		ReceivedAt: w.ReceivedAt.UTC(),
		Message:    w.Message.open(),
	}, nil
}

func encodeToken(t Token) wireToken {
	return wireToken{
		Value:       seal(t.Value),
		ExpiresAt:   t.ExpiresAt.UTC(),
		RefreshedAt: t.RefreshedAt.UTC(),
		Generation:  t.Generation,
	}
}

func decodeToken(w wireToken) Token {
	return Token{
		Value:       w.Value.open(),
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
	case *got > version:
		return fmt.Errorf("decode %s of version %d: %w", kind, *got, ErrNewer)
	case err != nil || *got != version:
		return fmt.Errorf("decode %s of %d bytes: %w", kind, len(data), ErrCorrupt)
	}
	return nil
}
