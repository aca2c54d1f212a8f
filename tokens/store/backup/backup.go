// Package backup owns the file that all records of a store are exported into and
// restored from, between stores of any kind. It is always encrypted.
//
// The file is
//
//	17 bytes  "lingpai-backup-1\n"
//	16 bytes  random, of this file
//	chunks    1 byte: 1 if it is the last, else 0
//	          4 bytes: length of what follows, big-endian
//	          an envelope of package store, at most chunkBytes in it
//
// Each envelope is bound to the two fields before the chunks, to the chunk's
// number and to whether it is the last, so that chunks cannot be left out, cut
// off, put in another order or taken from another file. What is in them, one
// after the other, is text: lines of a kind, a space and a record, as a store
// without keys writes it, the last line being the number of records of each
// kind.
package backup

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"

	"lingpai/tokens/store"
)

// Errors of this package, beside those of package store.
var (
	// ErrFormat means that the file is no backup.
	ErrFormat = errors.New("not a backup that lingpai export wrote")
	// ErrDamaged means that a backup was cut off or changed.
	ErrDamaged = errors.New("the backup is damaged or not complete")
	// ErrNotEmpty means that the store to restore into has records.
	ErrNotEmpty = errors.New("the store is not empty")
)

// The kinds of lines.
const (
	kindComponent  = "component"
	kindAccount    = "account"
	kindAuthorizer = "authorizer"
	kindPush       = "push"
	kindDelivery   = "delivery"
	kindEnd        = "end"
)

// pageSize is how many records are read from a store at a time.
const pageSize = 1000

// Counts is how many records of each kind there are.
type Counts struct {
	Components  int `json:"components"`
	Accounts    int `json:"accounts"`
	Authorizers int `json:"authorizers"`
	Pushes      int `json:"pushes"`
	// Deliveries are pending ones and dead letters.
	Deliveries int `json:"deliveries,omitempty"`
}

// Total is the number of all records.
func (c Counts) Total() int {
	return c.Components + c.Accounts + c.Authorizers + c.Pushes + c.Deliveries
}

// IDs are app ids that a store may have records of: those of the configuration.
// A store that is a store.Lister tells the others itself.
type IDs struct{ Components, Accounts []string }

// Complete returns ids and those that s tells of.
func (ids IDs) Complete(ctx context.Context, s store.Store) (IDs, error) {
	all := IDs{slices.Clone(ids.Components), slices.Clone(ids.Accounts)}
	if lister, ok := s.(store.Lister); ok {
		components, err := lister.ComponentIDs(ctx)
		if err != nil {
			return IDs{}, err
		}
		accounts, err := lister.AccountIDs(ctx)
		if err != nil {
			return IDs{}, err
		}
		all.Components, all.Accounts = append(all.Components, components...), append(all.Accounts, accounts...)
	}
	for _, list := range []*[]string{&all.Components, &all.Accounts} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	return all, nil
}

// Write writes all records of s to w, encrypted with the first key of codec. A
// record that changes meanwhile is in it as it was at some moment. progress, if
// not nil, is called after each record.
func Write(ctx context.Context, w io.Writer, codec store.Codec, s store.Store, ids IDs, progress func()) (Counts, error) {
	if !codec.Encrypts() {
		return Counts{}, errors.New("no key to encrypt with")
	}
	chunks, err := newChunkWriter(w, codec)
	if err != nil {
		return Counts{}, err
	}
	if ids, err = ids.Complete(ctx, s); err != nil {
		return Counts{}, err
	}
	e := exporter{w: chunks, progress: progress}
	err = errors.Join(
		each(ids.Components, &e, kindComponent, &e.counts.Components, store.EncodeComponent,
			func(id string) (store.Component, error) { return s.Component(ctx, id) }),
		each(ids.Accounts, &e, kindAccount, &e.counts.Accounts, store.EncodeAccount,
			func(id string) (store.Account, error) { return s.Account(ctx, id) }),
	)
	if err == nil {
		err = e.authorizers(ctx, s)
	}
	if err == nil {
		err = e.pushes(ctx, s)
	}
	if d, ok := s.(store.Deliveries); ok && err == nil {
		err = e.deliveries(ctx, d)
	}
	if err != nil {
		return Counts{}, err
	}
	end, err := json.Marshal(e.counts)
	if err == nil {
		err = e.line(kindEnd, end)
	}
	if err == nil {
		err = chunks.Close()
	}
	return e.counts, err
}

// exporter writes lines.
type exporter struct {
	w        io.Writer
	counts   Counts
	progress func()
}

func (e *exporter) line(kind string, record []byte) error {
	_, err := e.w.Write(slices.Concat([]byte(kind), []byte{' '}, record, []byte{'\n'}))
	return err
}

// put writes a record.
func put[R any](e *exporter, kind string, n *int, encode func(R) ([]byte, error), rec R) error {
	data, err := encode(rec)
	if err == nil {
		err = e.line(kind, data)
	}
	*n++
	if e.progress != nil {
		e.progress()
	}
	return err
}

// each writes the records there are of ids.
func each[R any](ids []string, e *exporter, kind string, n *int, encode func(R) ([]byte, error), read func(string) (R, error)) error {
	for _, id := range ids {
		rec, err := read(id)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err == nil {
			err = put(e, kind, n, encode, rec)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (e *exporter) authorizers(ctx context.Context, s store.Store) error {
	for after := ""; ; {
		page, err := s.Authorizers(ctx, after, pageSize)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, a := range page {
			if err := put(e, kindAuthorizer, &e.counts.Authorizers, store.EncodeAuthorizer, a); err != nil {
				return err
			}
		}
		after = page[len(page)-1].AppID
	}
}

func (e *exporter) pushes(ctx context.Context, s store.Store) error {
	for after := uint64(0); ; {
		// A push may have a megabyte.
		page, err := s.Pushes(ctx, after, 50)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, p := range page {
			if err := put(e, kindPush, &e.counts.Pushes, store.EncodePush, p); err != nil {
				return err
			}
		}
		after = page[len(page)-1].Seq
	}
}
