package bolt

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"lingpai/tokens/secret"
	"lingpai/tokens/store"
	"lingpai/tokens/store/storetest"
)

func codecOf(t testing.TB, keys ...secret.String) store.Codec {
	t.Helper()
	c, err := store.NewCodec(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func openWith(t testing.TB, path string, keys ...secret.String) *Store {
	t.Helper()
	s, err := Open(path, Options{Codec: codecOf(t, keys...)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestEncryptedStore(t *testing.T) {
	codec := codecOf(t, store.NewKey())
	storetest.Run(t, func(t *testing.T) (store.Store, func() store.Store) {
		path := filepath.Join(t.TempDir(), "lingpai.db")
		again := func() store.Store {
			s, err := Open(path, Options{Codec: codec})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		return again(), again
	})
}

// secretsOf are the secrets that write puts into a store in one round.
func secretsOf(round string) []string {
	return []string{"ticket-of-" + round, "component-token-of-" + round, "account-token-of-" + round,
		"refresh-token-of-" + round, "access-token-of-" + round, "<xml>message-of-" + round + "</xml>"}
}

// write stores records of every kind.
func write(t *testing.T, s *Store, round string) {
	t.Helper()
	ctx, values := t.Context(), secretsOf(round)
	token := func(n int) store.Token { return store.Token{Value: secret.New(values[n]), Generation: 1} }
	_, err1 := s.UpdateComponent(ctx, "wxc", func(c *store.Component) error {
		c.Ticket, c.Token = secret.New(values[0]), token(1)
		return nil
	})
	_, err2 := s.UpdateAccount(ctx, "wxa", func(a *store.Account) error {
		a.Token = token(2)
		return nil
	})
	_, err3 := s.UpdateAuthorizer(ctx, "wx1", func(a *store.Authorizer) error {
		a.State, a.RefreshToken, a.Token = store.StateActive, secret.New(values[3]), token(4)
		return nil
	})
	_, _, err4 := s.AddPush(ctx, store.Push{Digest: round, Message: secret.New(values[5])})
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
}

// found returns those of values that the file holds, as they are or in Base64.
func found(t *testing.T, path string, values []string) []string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, value := range values {
		text := base64.StdEncoding.EncodeToString([]byte(value[:len(value)/3*3]))
		if bytes.Contains(data, []byte(value)) || bytes.Contains(data, []byte(text)) {
			all = append(all, value)
		}
	}
	return all
}

// everything reads all records.
func everything(t *testing.T, s *Store) []any {
	t.Helper()
	ctx := t.Context()
	c, err1 := s.Component(ctx, "wxc")
	a, err2 := s.Account(ctx, "wxa")
	z, err3 := s.Authorizers(ctx, "", 100_000)
	p, err4 := s.Pushes(ctx, 0, 1000)
	n, err5 := s.CountAuthorizers(ctx)
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		t.Fatal(err)
	}
	return []any{c, a, z, p, n}
}

func TestNoSecretIsInTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lingpai.db")
	key := store.NewKey()

	// The control: without keys all of them are found.
	s := openAt(t, path)
	write(t, s, "plain")
	s.Close()
	if got := found(t, path, secretsOf("plain")); len(got) != 6 {
		t.Fatalf("of plain secrets only %q are found: the test sees nothing", got)
	}

	s = openWith(t, path, key)
	write(t, s, "first")
	write(t, s, "second")
	before := everything(t, s)
	s.Close()
	values := append(secretsOf("first"), secretsOf("second")...)
	if got := found(t, path, values); len(got) > 0 {
		t.Errorf("%q are in the file", got)
	}
	// bolt leaves what was there: the message of the push, which is pending, and
	// what is in pages that are free.
	if got := found(t, path, secretsOf("plain")); len(got) == 0 {
		t.Error("nothing plain was left; this test needs that")
	}

	values = append(values, secretsOf("plain")...)
	n, err := Rekey(t.Context(), path, Options{Codec: codecOf(t, key)}, nil)
	if err != nil || n != 6 {
		t.Fatalf("%d records, %v", n, err)
	}
	if got := found(t, path, values); len(got) > 0 {
		t.Errorf("%q are in the file after the rekey", got)
	}
	s = openWith(t, path, key)
	if after := everything(t, s); !reflect.DeepEqual(after, before) {
		t.Error("records are not what they were")
	}
}

func TestKeysAreCheckedAtStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lingpai.db")
	one, two := store.NewKey(), store.NewKey()
	refused := func(what string, missing secret.String, keys ...secret.String) {
		t.Helper()
		_, err := Open(path, Options{Codec: codecOf(t, keys...)})
		if !errors.Is(err, store.ErrKey) || !strings.Contains(err.Error(), codecOf(t, missing).KeyID()) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", what, err)
		}
	}
	s := openWith(t, path, one)
	write(t, s, "x")
	want := everything(t, s)
	s.Close()
	refused("no keys", one)
	refused("another key", one, two)
	openWith(t, path, one, two).Close()
	openWith(t, path, one).Close() // two is known, but nothing is encrypted with it

	s = openWith(t, path, two, one)
	if !reflect.DeepEqual(everything(t, s), want) {
		t.Error("records are not what they were")
	}
	s.Close()
	refused("the former key removed too early", one, two)
	refused("the new key removed again", two, one)

	if _, err := Rekey(t.Context(), path, Options{Codec: codecOf(t, two)}, nil); !errors.Is(err, store.ErrKey) {
		t.Errorf("rekey without the former key: %v", err)
	}
	if _, err := Rekey(t.Context(), path, Options{Codec: codecOf(t, two, one)}, nil); err != nil {
		t.Fatal(err)
	}
	s = openWith(t, path, two)
	if !reflect.DeepEqual(everything(t, s), want) {
		t.Error("records are not what they were")
	}
	// The sequence went along: a Seq is never given twice.
	p, _, err := s.AddPush(t.Context(), store.Push{Digest: "next"})
	if err != nil || p.Seq != 2 {
		t.Errorf("Seq %d, %v", p.Seq, err)
	}
	s.Close()
	refused("the key from before the rekey", two, one)
}

// Without the mark, a record of an unknown key is an error where it is read,
// and is never overwritten or deleted.
func TestRecordOfAnUnknownKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lingpai.db")
	s := openWith(t, path, store.NewKey())
	write(t, s, "x")
	s.Close()
	engine(t, path, func(tx *bbolt.Tx) error { return tx.Bucket(metaBucket).Delete(keysKey) })
	for _, keys := range [][]secret.String{nil, {store.NewKey()}} {
		s = openWith(t, path, keys...)
		ctx := t.Context()
		f := func(err error) {
			t.Helper()
			if !errors.Is(err, store.ErrKey) {
				t.Error(err)
			}
		}
		_, err := s.Authorizer(ctx, "wx1")
		f(err)
		_, err = s.UpdateAuthorizer(ctx, "wx1", fill("wx1", "access"))
		f(err)
		f(s.DeleteAuthorizer(ctx, "wx1"))
		_, err = s.Pushes(ctx, 0, 10)
		f(err)
		f(s.DeletePush(ctx, 1))
		s.Close()
		engine(t, path, func(tx *bbolt.Tx) error { return tx.Bucket(metaBucket).Delete(keysKey) })
	}
}

// A failed rekey changes nothing and leaves nothing behind.
func TestFailedRekey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lingpai.db")
	opts := Options{Codec: codecOf(t, store.NewKey()), LockTimeout: 50 * time.Millisecond}
	s := openAt(t, path)
	for n := range 50 {
		id := fmt.Sprintf("wx%02d", n)
		if _, err := s.UpdateAuthorizer(t.Context(), id, fill(id, "access")); err != nil {
			t.Fatal(err)
		}
	}
	unchanged := func(what string, ctx context.Context, opts Options, want error) {
		t.Helper()
		was, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Rekey(ctx, path, opts, nil); err == nil || want != nil && !errors.Is(err, want) {
			t.Errorf("%s: %v", what, err)
		}
		is, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(was, is) {
			t.Errorf("%s: the file changed, %v", what, err)
		}
		if _, err := os.Lstat(path + rekeySuffix); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: a file is left: %v", what, err)
		}
	}
	unchanged("in use", t.Context(), opts, store.ErrLocked)
	s.Close()
	unchanged("no keys", t.Context(), Options{}, nil)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	unchanged("interrupted", ended, opts, context.Canceled)
	engine(t, path, func(tx *bbolt.Tx) error {
		return tx.Bucket(authorizersBucket).Put([]byte("wx49"), []byte(`{"v":1,"id":"wx49","rt":"hush`))
	})
	unchanged("corrupt record", t.Context(), opts, store.ErrCorrupt)
	if _, err := Rekey(t.Context(), filepath.Join(t.TempDir(), "none.db"), opts, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	engine(t, path, func(tx *bbolt.Tx) error {
		return tx.Bucket(metaBucket).Put(schemaKey, []byte{0, 0, 0, 0, 0, 0, 0, 99})
	})
	unchanged("newer schema", t.Context(), opts, store.ErrNewer)
}

func TestRekeyKeepsModeAndLinkAndRemovesLeftovers(t *testing.T) {
	dir := t.TempDir()
	path, link := filepath.Join(dir, "real.db"), filepath.Join(dir, "link.db")
	s := openAt(t, path)
	write(t, s, "x")
	s.Close()
	if err := errors.Join(os.Chmod(path, 0o640), os.Symlink("real.db", link), os.WriteFile(path+rekeySuffix, []byte("half"), 0o600)); err != nil {
		t.Fatal(err)
	}
	key := store.NewKey()
	if _, err := Rekey(t.Context(), link, Options{Codec: codecOf(t, key)}, nil); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is gone: %v", err)
	}
	everything(t, openWith(t, link, key))
}

// Who waits for the lock while a rekey runs gets the new file, not the one that
// has lost its name.
func TestOpenBesideRekey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lingpai.db")
	key := store.NewKey()
	s := openWith(t, path, key)
	write(t, s, "x")
	s.Close()
	opts := Options{Codec: codecOf(t, key), LockTimeout: 20 * time.Second}
	opened := make(chan *Store, 1)
	var once sync.Once
	_, err := Rekey(t.Context(), path, opts, func(int) {
		once.Do(func() {
			go func() {
				s, err := Open(path, opts)
				if err != nil {
					t.Error(err)
				}
				opened <- s
			}()
			// Until it has opened the old file and waits for its lock.
			time.Sleep(300 * time.Millisecond)
			if len(opened) > 0 {
				t.Error("the file was opened during the rekey")
			}
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	if s = <-opened; s == nil {
		return
	}
	if _, err := s.UpdateAuthorizer(t.Context(), "wx2", fill("wx2", "access")); err != nil {
		t.Error(err)
	}
	s.Close()
	s = openWith(t, path, key)
	if n, err := s.CountAuthorizers(t.Context()); err != nil || n.Active != 2 {
		t.Errorf("%d authorizers, want 2: %v", n.Active, err)
	}
}

func TestRekeyOfManyRecords(t *testing.T) {
	const n = 20_000
	path := filepath.Join(t.TempDir(), "lingpai.db")
	s := openAt(t, path)
	for from := 0; from < n; from += 10_000 {
		err := s.db.Update(func(tx *bbolt.Tx) error {
			for i := from; i < from+10_000; i++ {
				a := store.Authorizer{AppID: fmt.Sprintf("wx%016x", i)}
				fill(a.AppID, accessToken)(&a)
				data, err := store.EncodeAuthorizer(a)
				if err != nil {
					return err
				}
				if err := tx.Bucket(authorizersBucket).Put([]byte(a.AppID), data); err != nil {
					return err
				}
			}
			return putCounts(tx, store.Counts{Active: n})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	write(t, s, "x")
	want := everything(t, s)
	s.Close()
	var steps []int
	key := store.NewKey()
	begun := time.Now()
	records, err := Rekey(t.Context(), path, Options{Codec: codecOf(t, key)}, func(n int) { steps = append(steps, n) })
	if err != nil || records != n+4 {
		t.Fatalf("%d records, %v", records, err)
	}
	t.Logf("%d records in %v", records, time.Since(begun).Round(time.Millisecond))
	if len(steps) < 3 || steps[len(steps)-1] != records {
		t.Errorf("progress %v", steps)
	}
	s = openWith(t, path, key)
	if !reflect.DeepEqual(everything(t, s), want) {
		t.Error("records are not what they were")
	}
	if err := s.db.View(func(tx *bbolt.Tx) error {
		for err := range tx.Check() {
			t.Error(err)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}
