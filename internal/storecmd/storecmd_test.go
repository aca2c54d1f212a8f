package storecmd

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

	"lingpai/tokens/secret"
	"lingpai/tokens/store"
	"lingpai/tokens/store/backup"
	"lingpai/tokens/store/bolt"
	"lingpai/tokens/store/memory"
)

// world is a directory with a configuration, its keys and its store.
type world struct {
	t   *testing.T
	dir string
}

func newWorld(t *testing.T) *world { return &world{t: t, dir: t.TempDir()} }

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

// write makes the file name.
func (w *world) write(name, text string) {
	w.t.Helper()
	if err := os.WriteFile(w.path(name), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// key makes the key file name, of the command keygen.
func (w *world) key(name string) string {
	w.t.Helper()
	code, out, _ := w.run("keygen")
	if raw, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(out, "\n")); code != 0 || err != nil || len(raw) != 32 {
		w.t.Fatalf("keygen: %d, %v", code, err)
	}
	w.write(name, out)
	return name
}

// config writes config.yaml with the store db and the key files keys.
func (w *world) config(db string, keys ...string) {
	w.t.Helper()
	w.write("secret", strings.Repeat("5", 32))
	text := "accounts: [{app_id: wx00000000000000aa, app_secret: 'file:secret'}]\n" +
		"store: {kind: bolt, path: " + db + ", encryption_keys: ["
	for _, key := range keys {
		text += "'file:" + key + "', "
	}
	w.write("config.yaml", text+"]}\n")
}

func (w *world) run(name string, args ...string) (code int, stdout, stderr string) {
	w.t.Helper()
	return w.runContext(w.t.Context(), name, args...)
}

func (w *world) runContext(ctx context.Context, name string, args ...string) (code int, stdout, stderr string) {
	w.t.Helper()
	if name != "keygen" {
		args = append([]string{"-config", w.path("config.yaml")}, args...)
	}
	var out, err bytes.Buffer
	code = Main(ctx, name, args, &out, &err)
	return code, out.String(), err.String()
}

// ok runs a command that is to succeed.
func (w *world) ok(name string, args ...string) string {
	w.t.Helper()
	code, _, stderr := w.run(name, args...)
	if code != 0 {
		w.t.Fatalf("%s %q: %d %s", name, args, code, stderr)
	}
	return stderr
}

// fails runs a command that is to fail with code, and to say all of texts.
func (w *world) fails(code int, texts []string, name string, args ...string) {
	w.t.Helper()
	got, stdout, stderr := w.run(name, args...)
	if got != code || stdout != "" {
		w.t.Errorf("%s %q: %d, want %d: %s%s", name, args, got, code, stdout, stderr)
	}
	for _, text := range texts {
		if !strings.Contains(stderr, text) {
			w.t.Errorf("%s %q does not say %q: %s", name, args, text, stderr)
		}
	}
}

// open opens the bolt store db.
func (w *world) open(db string, keys ...string) *bolt.Store {
	w.t.Helper()
	var all []secret.String
	for _, key := range keys {
		text, err := os.ReadFile(w.path(key))
		if err != nil {
			w.t.Fatal(err)
		}
		all = append(all, secret.New(strings.TrimSpace(string(text))))
	}
	codec, err := store.NewCodec(all...)
	if err != nil {
		w.t.Fatal(err)
	}
	s, err := bolt.Open(w.path(db), bolt.Options{Codec: codec})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { s.Close() })
	return s
}

// fill stores n authorizers and some other records.
func fill(t *testing.T, s store.Store, n int) {
	t.Helper()
	ctx := t.Context()
	token := store.Token{Value: secret.New("access-token-hush"), ExpiresAt: time.Now().UTC(), Generation: 3}
	_, err1 := s.UpdateComponent(ctx, "wxc", func(c *store.Component) error { c.Ticket = secret.New("ticket-hush"); return nil })
	_, err2 := s.UpdateAccount(ctx, "wx00000000000000aa", func(a *store.Account) error { a.Token = token; return nil })
	_, _, err3 := s.AddPush(ctx, store.Push{Digest: "d", Message: secret.New("message-hush")})
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for w := range min(n, 500) {
		group.Go(func() {
			for i := w; i < n; i += 500 {
				_, err := s.UpdateAuthorizer(ctx, fmt.Sprintf("wx%016x", i), func(a *store.Authorizer) error {
					a.State, a.RefreshToken, a.Token = store.StateActive, secret.New("refresh-token-hush-"+a.AppID), token
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
}

// everything reads all records of s.
func everything(t *testing.T, s store.Store) []any {
	t.Helper()
	ctx := t.Context()
	c, err1 := s.Component(ctx, "wxc")
	a, err2 := s.Account(ctx, "wx00000000000000aa")
	z, err3 := s.Authorizers(ctx, "", 1_000_000)
	p, err4 := s.Pushes(ctx, 0, 1000)
	n, err5 := s.CountAuthorizers(ctx)
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		t.Fatal(err)
	}
	return []any{c, a, z, p, n}
}

// plain reports whether the file holds a secret in clear.
func (w *world) plain(name string) bool {
	w.t.Helper()
	data, err := os.ReadFile(w.path(name))
	if err != nil {
		w.t.Fatal(err)
	}
	return holdsSecret(data)
}

// holdsSecret reports whether data holds a secret of fill in clear.
func holdsSecret(data []byte) bool {
	for _, value := range []string{"access-token-hush", "refresh-token-hush", "ticket-hush", "message-hush"} {
		if bytes.Contains(data, []byte(value)) || bytes.Contains(data, []byte(base64.StdEncoding.EncodeToString([]byte(value))[:12])) {
			return true
		}
	}
	return false
}

// From no encryption to a key, to another key, and to another store.
func TestLifeOfAStore(t *testing.T) {
	w := newWorld(t)
	s := w.open("a.db")
	fill(t, s, 100)
	want := everything(t, s)
	s.Close()
	if !w.plain("a.db") {
		t.Fatal("nothing is found in the plain file: the test sees nothing")
	}

	k1 := w.key("k1")
	w.config("a.db", k1)
	if out := w.ok("rekey"); !strings.Contains(out, "103 records") {
		t.Error(out)
	}
	if w.plain("a.db") {
		t.Error("a secret is in the file after the rekey")
	}
	k2 := w.key("k2")
	w.config("a.db", k2)
	w.fails(2, []string{"store.encryption_keys does not hold"}, "rekey")
	w.fails(2, []string{"store.encryption_keys does not hold"}, "export", "-o", w.path("x.enc"))
	w.config("a.db", k2, k1)
	w.ok("rekey")
	w.config("a.db", k2)
	w.ok("export", "-o", w.path("backup.enc"))
	if w.plain("backup.enc") {
		t.Error("a secret is in the backup")
	}
	if info, err := os.Stat(w.path("backup.enc")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	w.fails(2, []string{"is there already"}, "export", "-o", w.path("backup.enc"))

	w.config("b.db", k2)
	if out := w.ok("restore", "-i", w.path("backup.enc")); !strings.Contains(out, "100 authorizers, 1 components, 1 accounts, 1 pushes") {
		t.Error(out)
	}
	if w.plain("b.db") {
		t.Error("a secret is in the restored file")
	}
	for db, key := range map[string]string{"a.db": k2, "b.db": k2} {
		s := w.open(db, key)
		if !reflect.DeepEqual(everything(t, s), want) {
			t.Errorf("%s: records are not what they were", db)
		}
		s.Close()
	}
	w.fails(1, []string{"not empty", "-overwrite"}, "restore", "-i", w.path("backup.enc"))
	w.ok("restore", "-overwrite", "-i", w.path("backup.enc"))
	left, err := filepath.Glob(w.path("*.part"))
	if err != nil || len(left) > 0 {
		t.Errorf("files are left: %q", left)
	}
}

func TestRefusals(t *testing.T) {
	w := newWorld(t)
	w.config("a.db")
	w.fails(2, []string{"store.encryption_keys is empty"}, "rekey")
	w.fails(2, []string{"always encrypted", "keygen"}, "export", "-o", w.path("x"))
	w.fails(2, []string{"always encrypted"}, "restore", "-i", w.path("x"))
	w.fails(2, []string{"-o FILE"}, "export")
	w.fails(2, []string{"-i FILE"}, "restore")
	w.fails(2, []string{"no flag"}, "rekey", "x")
	w.fails(2, []string{"not defined"}, "rekey", "-o", "x")
	w.fails(2, []string{"does not exist"}, "rekey", "-config", "none.yaml")

	k1 := w.key("k1")
	w.config("a.db", k1)
	w.fails(2, []string{"there is no file", "a.db"}, "rekey")
	w.fails(2, []string{"there is no file", "a.db"}, "export", "-o", w.path("x"))
	if _, err := os.Stat(w.path("a.db")); !errors.Is(err, os.ErrNotExist) {
		t.Error("a store was made")
	}
	s := w.open("a.db", k1)
	fill(t, s, 5)
	w.fails(1, []string{"in use by another process", "stop"}, "rekey")
	w.fails(1, []string{"in use by another process", "stop"}, "export", "-o", w.path("x"))
	s.Close()
	w.fails(2, []string{"no such file"}, "export", "-o", w.path("none/x"))
	w.fails(2, []string{"no such file"}, "restore", "-i", w.path("x"))
	w.fails(2, []string{"not a backup"}, "restore", "-i", w.path("config.yaml"))

	w.write("config.yaml", "accounts: [{app_id: wx00000000000000aa, app_secret: 'file:secret'}]\nstore: {kind: memory, encryption_keys: ['file:k1']}\n")
	for _, command := range [][]string{{"rekey"}, {"export", "-o", w.path("x")}, {"restore", "-i", w.path("x")}} {
		w.fails(2, []string{"store.kind is memory"}, command[0], command[1:]...)
	}
	if files, _ := filepath.Glob(w.path("x*")); len(files) > 0 {
		t.Errorf("left: %q", files)
	}
}

func TestKeyFlag(t *testing.T) {
	w := newWorld(t)
	w.config("a.db")
	fill(t, w.open("a.db"), 5)
	k1, k2 := w.key("k1"), w.key("k2")
	text, err := os.ReadFile(w.path(k1))
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("BACKUP_KEY", strings.TrimSpace(string(text)))
	w.open("none.db").Close()
	w.config("none.db")
	w.ok("export", "-key", "env:BACKUP_KEY", "-o", w.path("none.enc"))

	for _, reference := range []string{strings.TrimSpace(string(text)), "env:NOT_SET_HERE", "file:" + w.path("none"), "file:" + w.path("config.yaml"), ""} {
		code, _, stderr := w.run("export", "-key", reference, "-o", w.path("x"))
		if code != 2 || strings.Contains(stderr, strings.TrimSpace(string(text))) {
			t.Errorf("%q: %d %s", reference, code, stderr)
		}
	}
	w.fails(2, []string{"another key than that of -key"}, "restore", "-key", "file:"+w.path(k2), "-i", w.path("none.enc"))
	w.config("new.db")
	w.ok("restore", "-key", "file:"+w.path(k1), "-i", w.path("none.enc"))
}

// A backup that is not whole leaves the store as it was.
func TestDamagedBackupRestoresNothing(t *testing.T) {
	w := newWorld(t)
	k1 := w.key("k1")
	w.config("a.db", k1)
	s := w.open("a.db", k1)
	fill(t, s, 2000)
	s.Close()
	w.ok("export", "-o", w.path("backup.enc"))
	data, err := os.ReadFile(w.path("backup.enc"))
	if err != nil {
		t.Fatal(err)
	}
	w.config("b.db", k1)
	for name, damaged := range map[string][]byte{
		"cut":     data[:len(data)-1],
		"half":    data[:len(data)/2],
		"changed": append(append(bytes.Clone(data[:len(data)-100]), data[len(data)-100]^1), data[len(data)-99:]...),
	} {
		w.write("damaged.enc", string(damaged))
		w.fails(1, []string{"damaged"}, "restore", "-i", w.path("damaged.enc"))
		if _, err := os.Stat(w.path("b.db")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: a store was made", name)
		}
	}
}

func TestInterrupted(t *testing.T) {
	w := newWorld(t)
	k1 := w.key("k1")
	w.config("a.db", k1)
	fillAndClose(t, w.open("a.db", k1), 10)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, command := range [][]string{{"rekey"}, {"export", "-o", w.path("x")}} {
		if code, _, stderr := w.runContext(ended, command[0], command[1:]...); code != 1 {
			t.Errorf("%s: %d %s", command[0], code, stderr)
		}
	}
	if files, _ := filepath.Glob(w.path("x*")); len(files) > 0 {
		t.Errorf("left: %q", files)
	}
	w.ok("rekey")
}

func fillAndClose(t *testing.T, s store.Store, n int) {
	t.Helper()
	fill(t, s, n)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestBigStore(t *testing.T) {
	const n = 20_000
	w := newWorld(t)
	k1, k2 := w.key("k1"), w.key("k2")
	w.config("a.db", k1)
	s := w.open("a.db", k1)
	fill(t, s, n)
	want := everything(t, s)
	s.Close()
	took := func(what string, f func()) {
		begun := time.Now()
		f()
		t.Logf("%s of %d authorizers: %v", what, n, time.Since(begun).Round(time.Millisecond))
	}
	took("export", func() { w.ok("export", "-o", w.path("backup.enc")) })
	w.config("b.db", k2, k1)
	took("restore", func() { w.ok("restore", "-i", w.path("backup.enc")) })
	took("rekey", func() { w.ok("rekey") })
	if !reflect.DeepEqual(everything(t, w.open("b.db", k2)), want) {
		t.Error("records are not what they were")
	}
}

// rekeyed counts the writes of a store of another kind than bolt.
type rekeyed struct {
	*memory.Store
	mu     sync.Mutex
	writes map[string]int
	forgot bool
}

func (r *rekeyed) wrote(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.writes[what]++
}

func (r *rekeyed) UpdateComponent(ctx context.Context, id string, fn func(*store.Component) error) (store.Component, error) {
	r.wrote("component " + id)
	return r.Store.UpdateComponent(ctx, id, fn)
}

func (r *rekeyed) UpdateAccount(ctx context.Context, id string, fn func(*store.Account) error) (store.Account, error) {
	r.wrote("account " + id)
	return r.Store.UpdateAccount(ctx, id, fn)
}

func (r *rekeyed) UpdateAuthorizer(ctx context.Context, id string, fn func(*store.Authorizer) error) (store.Authorizer, error) {
	if id == "wx0000000000000003" {
		r.DeleteAuthorizer(ctx, id) // another process is faster
	}
	r.wrote(id)
	return r.Store.UpdateAuthorizer(ctx, id, fn)
}

func (r *rekeyed) ForgetKeys(context.Context) error { r.forgot = true; return nil }

func TestRekeyOfAStoreInUse(t *testing.T) {
	r := &rekeyed{Store: memory.New(), writes: map[string]int{}}
	fill(t, r.Store, 1500)
	ids := backup.IDs{Accounts: []string{"wx00000000000000aa", "wxnone"}}
	_, err := rewrite(t.Context(), r, ids, func() {})
	if !errors.Is(err, errPending) || r.forgot {
		t.Errorf("with a pending push: %v", err)
	}
	if err := r.DeletePush(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	records := 0
	n, err := rewrite(t.Context(), r, ids, func() { records++ })
	if err != nil || n != 1501 || records != n || !r.forgot || len(r.writes) != 1503 {
		t.Errorf("%d records, %d told, %d written, %v", n, records, len(r.writes), err)
	}
	// Nothing is brought back or made by being written anew.
	if _, err := r.Authorizer(t.Context(), "wx0000000000000003"); !errors.Is(err, store.ErrNotFound) {
		t.Error(err)
	}
	if _, err := r.Account(t.Context(), "wxnone"); !errors.Is(err, store.ErrNotFound) {
		t.Error(err)
	}
}

func TestProgress(t *testing.T) {
	var out bytes.Buffer
	p := progress{w: &out, what: "restored", of: 100_001}
	for range 100_001 {
		p.one()
	}
	if out.String() != "50000 of 100001 records restored\n100000 of 100001 records restored\n" {
		t.Error(out.String())
	}
	out.Reset()
	p = progress{w: &out, what: "rewritten"}
	for _, n := range []int{10_000, 49_999, 60_000, 160_000} {
		p.reached(n)
	}
	if out.String() != "60000 records rewritten\n160000 records rewritten\n" {
		t.Error(out.String())
	}
}

func TestHelp(t *testing.T) {
	w := newWorld(t)
	for name, texts := range map[string][]string{
		"keygen":  {"Base64"},
		"rekey":   {"-config", "first"},
		"export":  {"-config", "-key", "  -o "},
		"restore": {"-config", "-key", "  -i ", "-overwrite"},
	} {
		code, _, stderr := w.run(name, "-help")
		for _, text := range texts {
			if code != 0 || !strings.Contains(stderr, text) {
				t.Errorf("%s: %d %s", name, code, stderr)
			}
		}
	}
}
