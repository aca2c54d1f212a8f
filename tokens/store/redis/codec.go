package redis

import (
	"errors"
	"fmt"
	"strconv"

	"lingpai/tokens/store"
)

// All that this package knows of the codec of package store is in this file.

// errOther is what makes a record corrupt that lies under another key.
var errOther = errors.New("it is of another key")

// table says how the records of one kind become bytes.
type table[R any] struct {
	kind   store.ChangeKind
	id     func(*R) *string
	encode func(store.Codec, R) ([]byte, error)
	decode func(store.Codec, []byte) (R, error)
	// state gives the field of the counters that a record counts in, or "".
	state func(R) string
}

func stateless[R any](R) string { return "" }

var components = table[store.Component]{
	kind:   store.ChangedComponent,
	id:     func(c *store.Component) *string { return &c.AppID },
	encode: store.Codec.EncodeComponent,
	decode: store.Codec.DecodeComponent,
	state:  stateless[store.Component],
}

var accounts = table[store.Account]{
	kind:   store.ChangedAccount,
	id:     func(a *store.Account) *string { return &a.AppID },
	encode: store.Codec.EncodeAccount,
	decode: store.Codec.DecodeAccount,
	state:  stateless[store.Account],
}

var authorizers = table[store.Authorizer]{
	kind:   store.ChangedAuthorizer,
	id:     func(a *store.Authorizer) *string { return &a.AppID },
	encode: store.Codec.EncodeAuthorizer,
	decode: store.Codec.DecodeAuthorizer,
	state:  func(a store.Authorizer) string { return counted(a.State) },
}

// read decodes the record of appID.
func (t *table[R]) read(codec store.Codec, appID, data string) (R, error) {
	rec, err := t.decode(codec, []byte(data))
	if err == nil && *t.id(&rec) != appID {
		err = fmt.Errorf("%w: %w", errOther, store.ErrCorrupt)
	}
	if err != nil {
		var none R
		return none, err
	}
	return rec, nil
}

// encodePush leaves out the Seq, which the server gives.
func encodePush(codec store.Codec, p store.Push) ([]byte, error) {
	p.Seq = 0
	return codec.EncodePush(p)
}

// decodePush reads the push stored under the field seq.
func decodePush(codec store.Codec, seq, data string) (store.Push, error) {
	p, err := codec.DecodePush([]byte(data))
	if err != nil {
		return store.Push{}, fmt.Errorf("push %s: %w", seq, err)
	}
	if p.Seq, err = strconv.ParseUint(seq, 10, 64); err != nil || p.Seq == 0 {
		return store.Push{}, fmt.Errorf("seq of a push: %w", store.ErrCorrupt)
	}
	return p, nil
}
