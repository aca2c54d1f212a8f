package bolt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"lingpai/tokens/store"
)

func TestNewerSchemaIsRefused(t *testing.T) {
	s, path := tempStore(t)
	s.Close()
	engine(t, path, func(tx *bbolt.Tx) error {
		return tx.Bucket(metaBucket).Put(schemaKey, binary.BigEndian.AppendUint64(nil, schema()+1))
	})
	_, err := Open(path, Options{})
	if !errors.Is(err, store.ErrNewer) || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v", err)
	}
	// The lock is free again after the refusal.
	engine(t, path, func(tx *bbolt.Tx) error {
		return tx.Bucket(metaBucket).Put(schemaKey, binary.BigEndian.AppendUint64(nil, schema()))
	})
	openAt(t, path).Close()
}

func TestForeignDatabaseIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "other.db")
	engine(t, path, func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket([]byte("theirs"))
		return err
	})
	if _, err := Open(path, Options{}); !errors.Is(err, errForeign) {
		t.Errorf("got %v", err)
	}
}

func TestCountersThatCannotBeReadAreMadeAnew(t *testing.T) {
	s, path := tempStore(t)
	for n := range 5 {
		id := fmt.Sprint("wx", n)
		if _, err := s.UpdateAuthorizer(t.Context(), id, fill(id, "access")); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	engine(t, path, func(tx *bbolt.Tx) error { return tx.Bucket(metaBucket).Delete(countsKey) })
	s = openAt(t, path)
	defer s.Close()
	if n, err := s.CountAuthorizers(t.Context()); err != nil || n != (store.Counts{Active: 5}) {
		t.Errorf("got %+v, %v", n, err)
	}
}

func TestMigrations(t *testing.T) {
	s, path := tempStore(t)
	s.Close()
	first := schema()
	var ran []string
	fail := errors.New("no migration today")
	defer func(was []func(*bbolt.Tx) error) { migrations = was }(migrations)
	migrate := func(name string, err error) func(*bbolt.Tx) error {
		return func(tx *bbolt.Tx) error {
			ran = append(ran, name)
			return errors.Join(err, tx.Bucket(metaBucket).Put([]byte(name), []byte("done")))
		}
	}
	migrations = append(migrations, migrate("a", nil), migrate("b", fail))
	if _, err := Open(path, Options{}); !errors.Is(err, fail) {
		t.Errorf("got %v", err)
	}
	engine(t, path, func(tx *bbolt.Tx) error {
		meta := tx.Bucket(metaBucket)
		if meta.Get([]byte("a")) != nil || binary.BigEndian.Uint64(meta.Get(schemaKey)) != first {
			t.Error("half a migration was kept")
		}
		return nil
	})
	ran = nil
	migrations[len(migrations)-1] = migrate("b", nil)
	openAt(t, path).Close()
	openAt(t, path).Close()
	if got := strings.Join(ran, ""); got != "ab" {
		t.Errorf("ran %q, want each once, in order", got)
	}
}
