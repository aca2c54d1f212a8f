package memory

import (
	"errors"
	"fmt"

	"lingpai/tokens/store"
)

// table keeps the records of one kind by app id. What is in it was made by
// decode and is never changed in place.
type table[R any] struct {
	kind    string
	records map[string]R
	id      func(*R) *string
	// copy gives a record that shares nothing with its argument.
	copy   func(R) R
	encode func(R) ([]byte, error)
	decode func([]byte) (R, error)
}

func (t *table[R]) read(appID string) (R, error) {
	rec, ok := t.records[appID]
	if !ok {
		return rec, fmt.Errorf("memory: %s %q: %w", t.kind, appID, store.ErrNotFound)
	}
	return t.copy(rec), nil
}

// update does what package store says of an Update method. old is the record
// before, and found whether there was one. fn's error is returned as it is.
func (t *table[R]) update(appID string, fn func(*R) error) (old R, found bool, rec R, err error) {
	old, found = t.records[appID]
	if !found {
		*t.id(&old) = appID
	}
	next := t.copy(old)
	if err := fn(&next); err != nil {
		if errors.Is(err, store.ErrUnchanged) {
			return old, found, t.copy(old), err
		}
		return old, found, rec, err
	}
	*t.id(&next) = appID
	data, err := t.encode(next)
	if err != nil {
		return old, found, rec, fmt.Errorf("memory: update %q: %w", appID, err)
	}
	// Not into next: fn may have kept its address.
	stored, err := t.decode(data)
	if err != nil {
		return old, found, rec, fmt.Errorf("memory: update %q: %w", appID, err)
	}
	t.records[appID] = stored
	return old, found, t.copy(stored), nil
}

func components(codec store.Codec) table[store.Component] {
	return table[store.Component]{
		kind:    "component",
		records: make(map[string]store.Component),
		id:      func(c *store.Component) *string { return &c.AppID },
		copy:    func(c store.Component) store.Component { return c },
		encode:  codec.EncodeComponent,
		decode:  codec.DecodeComponent,
	}
}

func accounts(codec store.Codec) table[store.Account] {
	return table[store.Account]{
		kind:    "account",
		records: make(map[string]store.Account),
		id:      func(a *store.Account) *string { return &a.AppID },
		copy:    func(a store.Account) store.Account { return a },
		encode:  codec.EncodeAccount,
		decode:  codec.DecodeAccount,
	}
}
