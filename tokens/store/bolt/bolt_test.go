package bolt

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"lingpai/tokens/secret"
	"lingpai/tokens/store"
	"lingpai/tokens/store/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) (store.Store, func() store.Store) {
		path := filepath.Join(t.TempDir(), "lingpai.db")
		again := func() store.Store { return openAt(t, path) }
		return again(), again
	})
}

// openAt opens the file without closing it at the end.
func openAt(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func tempStore(t testing.TB) (*Store, string) {
	path := filepath.Join(t.TempDir(), "lingpai.db")
	s := openAt(t, path)
	t.Cleanup(func() { s.Close() })
	return s, path
}

func fill(appID, value string) func(*store.Authorizer) error {
	return func(a *store.Authorizer) error {
		a.State = store.StateActive
		a.RefreshToken = secret.New("refreshtoken@@@" + appID)
		a.Token = store.Token{Value: secret.New(value), ExpiresAt: time.Now(), RefreshedAt: time.Now(), Generation: a.Token.Generation + 1}
		a.AuthorizedAt = time.Now()
		a.Scopes = []int{1, 15, 4, 7, 2, 3, 11, 6, 5, 8}
		return nil
	}
}

func TestOpen(t *testing.T) {
	t.Run("only the owner may read the file", func(t *testing.T) {
		_, path := tempStore(t)
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
	})
	t.Run("the directory must exist", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "missing", "lingpai.db")
		_, err := Open(path, Options{})
		if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "its directory must exist") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a directory that is a file", func(t *testing.T) {
		_, path := tempStore(t)
		if _, err := Open(filepath.Join(path, "lingpai.db"), Options{}); err == nil {
			t.Error("no error")
		}
	})
	t.Run("a file in use is locked", func(t *testing.T) {
		_, path := tempStore(t)
		begun := time.Now()
		_, err := Open(path, Options{LockTimeout: 100 * time.Millisecond})
		if !errors.Is(err, store.ErrLocked) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "one process") {
			t.Errorf("got %v", err)
		}
		if waited := time.Since(begun); waited > 5*time.Second {
			t.Errorf("after %v", waited)
		}
	})
	t.Run("a file that is no database", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "lingpai.db")
		if err := os.WriteFile(path, []byte(strings.Repeat("not a database\n", 10_000)), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path, Options{}); !errors.Is(err, bolterrors.ErrInvalid) {
			t.Errorf("got %v", err)
		}
	})
}

// engine changes the file of a closed store behind its back.
func engine(t *testing.T, path string, fn func(*bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Update(fn); err != nil {
		t.Fatal(err)
	}
}

func TestCorruptRecordsAreNamedButNotShown(t *testing.T) {
	ctx := t.Context()
	s, path := tempStore(t)
	for _, id := range []string{"wxbad", "wxgood", "wxmisfiled", "wxnewer"} {
		if _, err := s.UpdateAuthorizer(ctx, id, fill(id, "access")); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := s.AddPush(ctx, store.Push{Digest: "d"}); err != nil {
		t.Fatal(err)
	}
	s.Close()
	engine(t, path, func(tx *bbolt.Tx) error {
		b := tx.Bucket(authorizersBucket)
		return errors.Join(
			b.Put([]byte("wxbad"), []byte(`{"v":1,"id":"wxbad","au":"hush`)),
			b.Put([]byte("wxmisfiled"), b.Get([]byte("wxgood"))),
			b.Put([]byte("wxnewer"), []byte(`{"v":99,"rt":"hush"}`)),
			tx.Bucket(pushesBucket).Put(seqKey(1), []byte("hush")),
		)
	})
	s = openAt(t, path)
	defer s.Close()

	f := func(err, want error, names ...string) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
			return
		}
		for _, name := range names {
			if !strings.Contains(err.Error(), name) {
				t.Errorf("%v: does not name %s", err, name)
			}
		}
		if strings.Contains(err.Error(), "hush") {
			t.Errorf("%v: shows the record", err)
		}
	}
	_, err := s.Authorizer(ctx, "wxbad")
	f(err, store.ErrCorrupt, "authorizers", "wxbad")
	_, err = s.UpdateAuthorizer(ctx, "wxbad", fill("wxbad", "access"))
	f(err, store.ErrCorrupt, "authorizers", "wxbad")
	f(s.DeleteAuthorizer(ctx, "wxbad"), store.ErrCorrupt, "authorizers", "wxbad")
	_, err = s.Authorizers(ctx, "", 10)
	f(err, store.ErrCorrupt, "authorizers", "wxbad")
	_, err = s.Authorizer(ctx, "wxmisfiled")
	f(err, store.ErrCorrupt, "authorizers", "wxmisfiled")
	_, err = s.Authorizer(ctx, "wxnewer")
	f(err, store.ErrNewer, "authorizers", "wxnewer")
	_, err = s.Pushes(ctx, 0, 10)
	f(err, store.ErrCorrupt, "pushes")
	_, _, err = s.AddPush(ctx, store.Push{Digest: "d"})
	f(err, store.ErrCorrupt, "pushes")
	f(s.DeletePush(ctx, 1), store.ErrCorrupt, "pushes")
	if _, err = s.Authorizer(ctx, "wxgood"); err != nil {
		t.Errorf("the good one: %v", err)
	}
}

// Updates at the same time share transactions, also beside ones that fail; and
// every transaction is fsynced.
func TestUpdatesShareTransactions(t *testing.T) {
	s, _ := tempStore(t)
	if s.db.NoSync || s.db.NoGrowSync {
		t.Error("the file is not fsynced")
	}
	last := func() (id int) {
		s.db.View(func(tx *bbolt.Tx) error { id = tx.ID(); return nil })
		return id
	}
	before := last()
	const updates = 400
	refused := errors.New("refused")
	var wg sync.WaitGroup
	for n := range updates {
		wg.Go(func() {
			id := fmt.Sprint("wx", n)
			_, err := s.UpdateAuthorizer(t.Context(), id, func(a *store.Authorizer) error {
				if n%2 == 0 {
					return refused
				}
				return fill(id, "access")(a)
			})
			if (n%2 == 0) != errors.Is(err, refused) {
				t.Errorf("update %d: %v", n, err)
			}
		})
	}
	wg.Wait()
	if took := last() - before; took > updates/4 {
		t.Errorf("%d updates took %d transactions", updates, took)
	} else {
		t.Logf("%d updates took %d transactions", updates, took)
	}
}

func TestCloseWaitsForAWriteUnderWay(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lingpai.db")
	synctest.Test(t, func(t *testing.T) {
		s := openAt(t, path)
		done := make(chan error, 1)
		go func() {
			_, err := s.UpdateAuthorizer(t.Context(), "wx1", fill("wx1", "access"))
			done <- err
		}()
		synctest.Wait() // the write waits for others to share its transaction
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		s = openAt(t, path)
		defer s.Close()
		if _, err := s.Authorizer(t.Context(), "wx1"); err != nil {
			t.Error(err)
		}
	})
}

// A write that fails must leave everything as it was, in the file and for the
// readers beside it.
func TestFullDisk(t *testing.T) {
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "lingpai.db")
	s, err := open(path, Options{}, func(o *bbolt.Options) { o.MaxSize = 256 << 10 })
	if err != nil {
		t.Fatal(err)
	}
	defer func() { s.Close() }()

	big := strings.Repeat("a", 4096)
	written := 0
	for ; written < 1000; written++ {
		id := fmt.Sprintf("wx%04d", written)
		if _, err = s.UpdateAuthorizer(ctx, id, fill(id, big)); err != nil {
			break
		}
	}
	if !errors.Is(err, bolterrors.ErrMaxSizeReached) || strings.Contains(err.Error(), "aaa") || written == 0 {
		t.Fatalf("after %d writes: %v", written, err)
	}
	check := func(when string, want int) {
		t.Helper()
		page, err := s.Authorizers(ctx, "", 2000)
		if err != nil || len(page) != want {
			t.Errorf("%s: %d authorizers, want %d, %v", when, len(page), want, err)
		}
		n, err := s.CountAuthorizers(ctx)
		if err != nil || n.Active != want {
			t.Errorf("%s: %d counted, want %d, %v", when, n.Active, want, err)
		}
	}
	check("after the failure", written)
	a, err := s.UpdateAuthorizer(ctx, "wx0000", fill("wx0000", strings.Repeat(big, 64)))
	if err == nil || a.AppID != "" {
		t.Errorf("a record was returned by a failed write, %v", err)
	}
	if a, err := s.Authorizer(ctx, "wx0000"); err != nil || a.Token.Generation != 1 {
		t.Errorf("generation %d, %v", a.Token.Generation, err)
	}
	s.Close()
	s = openAt(t, path)
	check("after reopening", written)
	id := fmt.Sprintf("wx%04d", written)
	if _, err := s.UpdateAuthorizer(ctx, id, fill(id, big)); err != nil {
		t.Error(err)
	}
	check("with room again", written+1)
}
