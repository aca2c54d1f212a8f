package bolt

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"

	"lingpai/tokens/secret"
	"lingpai/tokens/store"
	"lingpai/tokens/store/storetest"
)

func TestDeliveries(t *testing.T) {
	codec, err := store.NewCodec(store.NewKey())
	if err != nil {
		t.Fatal(err)
	}
	for name, opts := range map[string]Options{"plain": {}, "encrypted": {Codec: codec}} {
		t.Run(name, func(t *testing.T) {
			storetest.RunDeliveries(t, func(t *testing.T) (store.Store, func() store.Store) {
				path := filepath.Join(t.TempDir(), "lingpai.db")
				again := func() store.Store {
					s, err := Open(path, opts)
					if err != nil {
						t.Fatal(err)
					}
					return s
				}
				return again(), again
			})
		})
	}
}

// A file of schema 1, from before there were deliveries, gets room for them and
// keeps what it has.
func TestSchema1GetsDeliveries(t *testing.T) {
	s, path := tempStore(t)
	if _, err := s.UpdateAuthorizer(t.Context(), "wx1", fill("wx1", "access")); err != nil {
		t.Fatal(err)
	}
	s.Close()
	engine(t, path, func(tx *bbolt.Tx) error {
		for _, name := range deliveryBuckets {
			if err := tx.DeleteBucket(name); err != nil {
				return err
			}
		}
		return tx.Bucket(metaBucket).Put(schemaKey, seqKey(1))
	})
	s = openAt(t, path)
	defer s.Close()
	if n, err := s.AddDeliveries(t.Context(), []store.Delivery{{ID: "a", Target: "t"}}); n != 1 || err != nil {
		t.Errorf("%d added, %v", n, err)
	}
	if _, err := s.Authorizer(t.Context(), "wx1"); err != nil {
		t.Error(err)
	}
}

func TestRekeyRewritesDeliveries(t *testing.T) {
	old, next := store.NewKey(), store.NewKey()
	codec := func(keys ...secret.String) Options {
		c, err := store.NewCodec(keys...)
		if err != nil {
			t.Fatal(err)
		}
		return Options{Codec: c}
	}
	path := filepath.Join(t.TempDir(), "lingpai.db")
	s, err := Open(path, codec(old))
	if err != nil {
		t.Fatal(err)
	}
	ds := []store.Delivery{
		{ID: "a", Target: "t", Message: secret.New("message-hush")},
		{ID: "b", Target: "t", Message: secret.New("message-hush")},
	}
	if _, err := s.AddDeliveries(t.Context(), ds); err != nil {
		t.Fatal(err)
	}
	if _, err := s.UpdateDelivery(t.Context(), 2, func(d *store.Delivery) error { d.Dead = true; return nil }); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if n, err := Rekey(t.Context(), path, codec(next, old), nil); n != 2 || err != nil {
		t.Fatalf("%d records, %v", n, err)
	}
	data, err := os.ReadFile(path)
	if err != nil || bytes.Contains(data, []byte("bWVzc2FnZS1odXNo")) {
		t.Errorf("the message lies in the file, %v", err)
	}
	s, err = Open(path, codec(next))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	pending, err1 := s.Deliveries(t.Context(), "t", 0, 10)
	dead, err2 := s.DeadDeliveries(t.Context(), 0, 10)
	if err1 != nil || err2 != nil || len(pending) != 1 || len(dead) != 1 {
		t.Fatalf("%d pending, %v, %d dead, %v", len(pending), err1, len(dead), err2)
	}
	for _, d := range append(pending, dead...) {
		if d.Message.Reveal() != "message-hush" {
			t.Errorf("%s: another message", d.ID)
		}
	}
	if n, err := s.AddDeliveries(t.Context(), append(ds, store.Delivery{ID: "c", Target: "t"})); n != 1 || err != nil {
		t.Errorf("%d added, %v", n, err)
	}
	if pending, err := s.Deliveries(t.Context(), "t", 2, 10); err != nil || len(pending) != 1 || pending[0].Seq != 3 {
		t.Errorf("%+v, %v", pending, err)
	}
}
