package storecmd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lingpai/tokens/secret"
	"lingpai/tokens/store"
	"lingpai/tokens/store/backup"
	"lingpai/tokens/store/redis"
	"lingpai/tokens/store/redis/redistest"
)

// redisConfig writes config.yaml with the store at srv and the key files keys.
func (w *world) redisConfig(srv *redistest.Server, prefix string, keys ...string) {
	w.t.Helper()
	w.write("secret", strings.Repeat("5", 32))
	w.write("config.yaml", "accounts: [{app_id: wx00000000000000aa, app_secret: 'file:secret'}]\n"+redisSection(srv, prefix, "refresher", keys...))
}

func redisSection(srv *redistest.Server, prefix, role string, keys ...string) string {
	text := "store: {kind: redis, role: " + role + ", redis_url: '" + srv.URL() + "', key_prefix: '" + prefix + "', encryption_keys: ["
	for _, key := range keys {
		text += "'file:" + key + "', "
	}
	return text + "]}\n"
}

// openRedis opens the store at srv as a sidecar does.
func (w *world) openRedis(srv *redistest.Server, prefix string, keys ...string) (*redis.Store, error) {
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
	return redis.Open(w.t.Context(), redis.Options{URL: secret.New(srv.URL()), KeyPrefix: prefix, Codec: codec})
}

func (w *world) mustOpenRedis(srv *redistest.Server, prefix string, keys ...string) *redis.Store {
	w.t.Helper()
	s, err := w.openRedis(srv, prefix, keys...)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { s.Close() })
	return s
}

// records is everything but the Seqs of pushes, which each store gives itself.
func records(t *testing.T, s store.Store) []any {
	t.Helper()
	all := everything(t, s)
	pushes := all[3].([]store.Push)
	for i := range pushes {
		pushes[i].Seq = 0
	}
	return all
}

// plainOnDisk reports whether what a server has written holds a secret in clear.
func plainOnDisk(t *testing.T, srv *redistest.Server) (found bool) {
	t.Helper()
	err := filepath.WalkDir(srv.Dir(), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		found = found || holdsSecret(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// fillMore adds what fill lacks: several records of the kinds that are few.
func fillMore(t *testing.T, s store.Store) {
	t.Helper()
	fill(t, s, 1200)
	ctx := t.Context()
	var errs []error
	for i := range 3 {
		_, err1 := s.UpdateAccount(ctx, fmt.Sprintf("wxa%d", i), func(a *store.Account) error {
			a.Token = store.Token{Value: secret.New("access-token-hush"), Generation: uint64(i)}
			return nil
		})
		_, _, err2 := s.AddPush(ctx, store.Push{
			Digest: fmt.Sprint("more", i), Message: secret.New("<xml>\n令牌 message-hush</xml>"), ReceivedAt: time.Now().UTC(),
		})
		_, err3 := s.UpdateAuthorizer(ctx, fmt.Sprintf("wx%016x", i), func(a *store.Authorizer) error {
			a.State, a.Scopes, a.EventDigest = []store.State{store.StateReauthorize, store.StateUnauthorized, ""}[i], []int{1, 2}, "e"
			return nil
		})
		errs = append(errs, err1, err2, err3)
	}
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func TestFromBoltToRedisAndBack(t *testing.T) {
	w := newWorld(t)
	srv := redistest.Start(t, "--appendonly", "yes")
	k1, k2 := w.key("k1"), w.key("k2")
	s := w.open("a.db", k1)
	fillMore(t, s)
	want := records(t, s)
	s.Close()

	w.config("a.db", k1)
	w.ok("export", "-o", w.path("bolt.enc"))
	w.redisConfig(srv, "p:", k2, k1)
	if out := w.ok("restore", "-i", w.path("bolt.enc")); !strings.Contains(out, "1200 authorizers, 1 components, 4 accounts, 4 pushes") {
		t.Error(out)
	}
	if plainOnDisk(t, srv) {
		t.Error("Redis holds a secret in clear")
	}
	there := w.mustOpenRedis(srv, "p:", k2)
	if !reflect.DeepEqual(records(t, there), want) {
		t.Error("in Redis records are not what they were")
	}
	// With sidecars at work: nothing has to stop for an export from Redis.
	out := w.ok("export", "-key", "file:"+w.path(k1), "-o", w.path("redis.enc"))
	if !strings.Contains(out, "1200 authorizers, 1 components, 4 accounts, 4 pushes") {
		t.Error(out)
	}
	w.fails(1, []string{"not empty", "-overwrite"}, "restore", "-i", w.path("bolt.enc"))
	w.ok("restore", "-overwrite", "-i", w.path("bolt.enc"))
	if !reflect.DeepEqual(records(t, there), want) {
		t.Error("after -overwrite records are not what they were")
	}

	w.config("b.db", k1)
	w.ok("restore", "-i", w.path("redis.enc"))
	if !reflect.DeepEqual(records(t, w.open("b.db", k1)), want) {
		t.Error("back in bolt records are not what they were")
	}

	// Other records in the same server are no concern of a restore.
	w.redisConfig(srv, "q:", k1)
	w.ok("restore", "-i", w.path("bolt.enc"))
	w.redisConfig(srv, "plain:")
	w.ok("restore", "-key", "file:"+w.path(k1), "-i", w.path("bolt.enc"))
	if !plainOnDisk(t, srv) {
		t.Error("without keys nothing is found in clear: the test sees nothing")
	}
}

// Sidecars write while the store is rekeyed. No write is lost, and no value is
// left that needs the former key.
func TestRekeyOfRedisInUse(t *testing.T) {
	w := newWorld(t)
	srv := redistest.Start(t)
	k1, k2 := w.key("k1"), w.key("k2")
	fillMore(t, w.mustOpenRedis(srv, "p:", k1))
	w.redisConfig(srv, "p:", k2)
	w.fails(2, []string{"store.encryption_keys does not hold"}, "rekey")
	w.redisConfig(srv, "p:", k2, k1)
	w.fails(1, []string{"still being worked on"}, "rekey")
	w.redisConfig(srv, "p:", k1)
	w.fails(2, []string{"store.encryption_keys does not hold"}, "rekey")
	w.redisConfig(srv, "p:", k2, k1)

	sidecars := []*redis.Store{w.mustOpenRedis(srv, "p:", k2, k1), w.mustOpenRedis(srv, "p:", k2, k1)}
	pending, err := sidecars[0].Pushes(t.Context(), 0, 100)
	if err != nil || len(pending) != 4 {
		t.Fatalf("%d pushes, %v", len(pending), err)
	}
	for _, p := range pending {
		if err := sidecars[0].DeletePush(t.Context(), p.Seq); err != nil {
			t.Fatal(err)
		}
	}
	const busy = 20
	stop := make(chan struct{})
	var writes [busy]atomic.Uint64
	var writing sync.WaitGroup
	for n, s := range sidecars {
		writing.Go(func() {
			for i := n; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				id := i % busy
				_, err := s.UpdateAuthorizer(t.Context(), fmt.Sprintf("wx%016x", 50*id), func(a *store.Authorizer) error {
					a.Token.Generation++
					return nil
				})
				if err != nil {
					t.Error(err)
					return
				}
				writes[id].Add(1)
			}
		})
	}
	// A push may be encrypted with either key, as long as it is there.
	if _, _, err := sidecars[1].AddPush(t.Context(), store.Push{Digest: "new", Message: secret.New("m")}); err != nil {
		t.Fatal(err)
	}
	pending, err = sidecars[0].Pushes(t.Context(), 0, 100)
	if err != nil || len(pending) != 1 {
		t.Fatalf("%d pushes, %v", len(pending), err)
	}
	w.fails(1, []string{"still being worked on"}, "rekey")
	if err := sidecars[0].DeletePush(t.Context(), pending[0].Seq); err != nil {
		t.Fatal(err)
	}
	out := w.ok("rekey")
	close(stop)
	writing.Wait()
	if !strings.Contains(out, "1205 records") {
		t.Error(out)
	}
	if s, err := w.openRedis(srv, "p:", k1); !errors.Is(err, store.ErrKey) {
		t.Errorf("with the former key alone: %v", err)
		if err == nil {
			s.Close()
		}
	}
	s := w.mustOpenRedis(srv, "p:", k2)
	page, err := s.Authorizers(t.Context(), "", 10_000)
	if err != nil || len(page) != 1200 {
		t.Fatalf("%d authorizers, %v", len(page), err)
	}
	for id := range busy {
		a := page[50*id]
		if want := 3 + writes[id].Load(); a.Token.Generation != want || a.AppID != fmt.Sprintf("wx%016x", 50*id) {
			t.Errorf("%s: generation %d, want %d", a.AppID, a.Token.Generation, want)
		}
	}
	w.redisConfig(srv, "p:", k2)
	w.ok("rekey") // again is no harm
	w.ok("export", "-o", w.path("redis.enc"))
}

func TestRedisRefusals(t *testing.T) {
	w := newWorld(t)
	srv := redistest.Start(t, "--requirepass", "pa55w0rd")
	k1 := w.key("k1")
	commands := [][]string{{"rekey"}, {"export", "-o", w.path("x")}, {"restore", "-i", w.path("backup.enc")}}
	w.open("a.db", k1).Close()
	w.config("a.db", k1)
	w.ok("export", "-o", w.path("backup.enc"))
	failed := func(code int, texts ...string) {
		t.Helper()
		for _, command := range commands {
			w.fails(code, texts, command[0], command[1:]...)
		}
		if files, _ := filepath.Glob(w.path("x*")); len(files) > 0 {
			t.Errorf("left: %q", files)
		}
	}
	w.redisConfig(srv, "p:", k1)
	failed(1, "NOAUTH")
	w.redisConfig(srv, "{", k1)
	failed(1, "key prefix")
	t.Setenv("WRONG", "unix://:other-pa55@"+srv.Socket())
	w.write("config.yaml", "accounts: [{app_id: wx00000000000000aa, app_secret: 'file:secret'}]\n"+
		"store: {kind: redis, redis_url: 'env:WRONG', encryption_keys: ['file:k1']}\n")
	failed(1, "WRONGPASS")
	for _, command := range commands {
		if _, _, stderr := w.run(command[0], command[1:]...); strings.Contains(stderr, "pa55") {
			t.Errorf("%s shows a password: %s", command[0], stderr)
		}
	}
	srv.Kill()
	w.redisConfig(srv, "p:", k1)
	failed(1, "connect to "+srv.Socket())

	w.write("config.yaml", "accounts: [{app_id: wx00000000000000aa}]\n"+redisSection(srv, "p:", "follower", k1))
	w.fails(2, []string{"store.role is follower"}, "rekey")
	w.fails(2, []string{"store.role is follower"}, "restore", "-i", w.path("backup.enc"))
}

// A follower may do what only reads.
func TestExportByAFollower(t *testing.T) {
	w := newWorld(t)
	srv := redistest.Start(t)
	k1 := w.key("k1")
	s := w.mustOpenRedis(srv, "p:", k1)
	fillMore(t, s)
	want := records(t, s)
	w.write("config.yaml", "accounts: [{app_id: wx00000000000000aa}]\n"+redisSection(srv, "p:", "follower", k1))
	w.ok("export", "-o", w.path("backup.enc"))
	w.config("b.db", k1)
	w.ok("restore", "-i", w.path("backup.enc"))
	if !reflect.DeepEqual(records(t, w.open("b.db", k1)), want) {
		t.Error("records are not what they were")
	}
}

func TestRedisInterrupted(t *testing.T) {
	w := newWorld(t)
	srv := redistest.Start(t)
	k1, k2 := w.key("k1"), w.key("k2")
	s := w.mustOpenRedis(srv, "p:", k1)
	fillMore(t, s)
	pending, err := s.Pushes(t.Context(), 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pending {
		if err := s.DeletePush(t.Context(), p.Seq); err != nil {
			t.Fatal(err)
		}
	}
	want := records(t, s)
	w.redisConfig(srv, "p:", k2, k1)
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
	// Half way: both keys are still asked for, and nothing is lost.
	amid, cancel := context.WithCancel(t.Context())
	both := w.mustOpenRedis(srv, "p:", k2, k1)
	n, err := rewrite(amid, both, backup.IDs{}, cancel)
	if err == nil || n >= 1200 {
		t.Errorf("%d records, %v", n, err)
	}
	for _, key := range []string{k1, k2} {
		if half, err := w.openRedis(srv, "p:", key); !errors.Is(err, store.ErrKey) {
			t.Errorf("half way with %s alone: %v", key, err)
			if err == nil {
				half.Close()
			}
		}
	}
	if !reflect.DeepEqual(records(t, both), want) {
		t.Error("half way records are not what they were")
	}
	w.ok("rekey")
	if !reflect.DeepEqual(records(t, w.mustOpenRedis(srv, "p:", k2)), want) {
		t.Error("records are not what they were")
	}
}
