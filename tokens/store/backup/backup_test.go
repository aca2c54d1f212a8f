package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"lingpai/tokens/secret"
	"lingpai/tokens/store"
	"lingpai/tokens/store/memory"
)

func newCodec(t testing.TB, keys ...secret.String) store.Codec {
	t.Helper()
	c, err := store.NewCodec(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var instant = time.Date(2026, 3, 1, 23, 59, 59, 123456789, time.UTC)

func token(value string) store.Token {
	return store.Token{Value: secret.New(value), ExpiresAt: instant.Add(time.Hour), RefreshedAt: instant, Generation: 7}
}

// filled is a store with records of every kind.
func filled(t testing.TB, authorizers int) *memory.Store {
	t.Helper()
	s := memory.New()
	ctx := t.Context()
	_, err1 := s.UpdateComponent(ctx, "wxc", func(c *store.Component) error {
		c.Ticket, c.TicketReceivedAt, c.Token = secret.New("ticket-hush"), instant, token("component-hush")
		return nil
	})
	_, err2 := s.UpdateAccount(ctx, "wxa", func(a *store.Account) error { a.Token = token("account-hush"); return nil })
	_, err3 := s.UpdateAccount(ctx, "wxb", func(a *store.Account) error { return nil })
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	for n := range authorizers {
		_, err := s.UpdateAuthorizer(ctx, fmt.Sprintf("wx%06d", n), func(a *store.Authorizer) error {
			if n == 3 {
				return nil // a record of nothing but its app id
			}
			a.State = []store.State{store.StateActive, store.StateReauthorize, store.StateUnauthorized}[n%3]
			a.RefreshToken, a.Token = secret.New("refresh-hush-"+a.AppID), token("access-hush-"+a.AppID)
			a.AuthorizedAt, a.EventAt, a.EventDigest, a.Scopes = instant, instant, "d", []int{1, n}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for n := range 5 {
		p := store.Push{Digest: fmt.Sprint("d", n), ReceivedAt: instant, Message: secret.New("<xml>hush\n\xff</xml>")}
		if _, _, err := s.AddPush(ctx, p); err != nil {
			t.Fatal(err)
		}
	}
	fillDeliveries(t, s)
	return s
}

// everything reads all records of s.
func everything(t testing.TB, s store.Store) []any {
	t.Helper()
	ctx := t.Context()
	ids, err := IDs{}.Complete(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	var all []any
	add := func(rec any, err error) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, rec)
	}
	for _, id := range ids.Components {
		rec, err := s.Component(ctx, id)
		add(rec, err)
	}
	for _, id := range ids.Accounts {
		rec, err := s.Account(ctx, id)
		add(rec, err)
	}
	authorizers, err := s.Authorizers(ctx, "", 1_000_000)
	add(authorizers, err)
	pushes, err := s.Pushes(ctx, 0, 1_000_000)
	add(pushes, err)
	counts, err := s.CountAuthorizers(ctx)
	add(counts, err)
	return append(all, deliveries(t, s)...)
}

func export(t testing.TB, codec store.Codec, s store.Store) []byte {
	t.Helper()
	var out bytes.Buffer
	if _, err := Write(t.Context(), &out, codec, s, IDs{}, nil); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestRestoreGivesWhatWasExported(t *testing.T) {
	codec := newCodec(t, store.NewKey())
	for _, authorizers := range []int{0, 7, 2500} {
		s := filled(t, authorizers)
		file := export(t, codec, s)
		want := Counts{1, 2, authorizers, 5, 4}
		if got, err := Verify(t.Context(), bytes.NewReader(file), codec); err != nil || got != want {
			t.Errorf("verify: %+v, %v", got, err)
		}
		into := memory.New()
		done := 0
		var mu sync.Mutex
		got, err := Restore(t.Context(), bytes.NewReader(file), codec, into, false, func() { mu.Lock(); done++; mu.Unlock() })
		if err != nil || got != want || done != want.Total() {
			t.Fatalf("restore: %+v, %d, %v", got, done, err)
		}
		if !reflect.DeepEqual(everything(t, into), everything(t, s)) {
			t.Errorf("%d authorizers: the records are not the same", authorizers)
		}
		for _, open := range []string{"hush", "wx0000", "authorizer", "active"} {
			if bytes.Contains(file, []byte(open)) {
				t.Errorf("%q is in the file", open)
			}
		}
	}
}

// plainStore hides what memory.Store has beyond store.Store.
type plainStore struct{ store.Store }

func TestAppIDsOfTheConfiguration(t *testing.T) {
	codec := newCodec(t, store.NewKey())
	s := plainStore{filled(t, 1)}
	var out bytes.Buffer
	n, err := Write(t.Context(), &out, codec, s, IDs{Components: []string{"wxc", "none"}, Accounts: []string{"wxa", "wxa"}}, nil)
	if err != nil || n != (Counts{1, 1, 1, 5, 0}) {
		t.Errorf("%+v, %v", n, err)
	}
	empty := plainStore{memory.New()}
	if ok, err := Empty(t.Context(), empty, IDs{Components: []string{"wxc"}, Accounts: []string{"wxa"}}); !ok || err != nil {
		t.Errorf("empty: %v, %v", ok, err)
	}
	if _, err := empty.UpdateAccount(t.Context(), "wxa", func(*store.Account) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if ok, err := Empty(t.Context(), empty, IDs{Accounts: []string{"wxa"}}); ok || err != nil {
		t.Errorf("not empty: %v, %v", ok, err)
	}
}

func TestNeverPlain(t *testing.T) {
	var out bytes.Buffer
	if _, err := Write(t.Context(), &out, store.Codec{}, memory.New(), IDs{}, nil); err == nil || out.Len() > 0 {
		t.Errorf("%d bytes, %v", out.Len(), err)
	}
}

func TestRestoreOverRecords(t *testing.T) {
	codec := newCodec(t, store.NewKey())
	file := export(t, codec, filled(t, 10))
	into := memory.New()
	ctx := t.Context()
	set := func(id, value string, generation uint64) {
		t.Helper()
		_, err := into.UpdateAuthorizer(ctx, id, func(a *store.Authorizer) error {
			a.State, a.RefreshToken = store.StateActive, secret.New(value)
			a.Token = store.Token{Value: secret.New(value), Generation: generation}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	set("wx000001", "later", 20)
	set("wx000002", "earlier", 2)
	set("wx999999", "another", 1)
	_, err := Restore(ctx, bytes.NewReader(file), codec, into, false, nil)
	if !errors.Is(err, ErrNotEmpty) {
		t.Errorf("without overwrite: %v", err)
	}
	for range 2 { // the second time changes nothing
		if _, err = Restore(ctx, bytes.NewReader(file), codec, into, true, nil); err != nil {
			t.Fatal(err)
		}
		f := func(id, refreshToken string, generation uint64) {
			t.Helper()
			a, err := into.Authorizer(ctx, id)
			if err != nil || a.RefreshToken.Reveal() != refreshToken || a.Token.Generation != generation {
				t.Errorf("%s: generation %d, %v", id, a.Token.Generation, err)
			}
		}
		f("wx000000", "refresh-hush-wx000000", 7)
		f("wx000001", "refresh-hush-wx000001", 21) // which never goes back
		f("wx000002", "refresh-hush-wx000002", 7)
		f("wx999999", "another", 1)
		if pushes, err := into.Pushes(ctx, 0, 100); err != nil || len(pushes) != 5 {
			t.Errorf("%d pushes, %v", len(pushes), err)
		}
	}
}

func TestWrongKey(t *testing.T) {
	one, two := store.NewKey(), store.NewKey()
	file := export(t, newCodec(t, one), filled(t, 3))
	for _, codec := range []store.Codec{{}, newCodec(t, two)} {
		_, err := Verify(t.Context(), bytes.NewReader(file), codec)
		if !errors.Is(err, store.ErrKey) || !strings.Contains(err.Error(), newCodec(t, one).KeyID()) {
			t.Error(err)
		}
	}
	if _, err := Verify(t.Context(), bytes.NewReader(file), newCodec(t, two, one)); err != nil {
		t.Errorf("the second of two keys: %v", err)
	}
}

// chunksOf takes a file apart.
func chunksOf(t *testing.T, file []byte) (head []byte, chunks [][]byte) {
	t.Helper()
	head, rest := file[:headBytes], file[headBytes:]
	for len(rest) > 0 {
		n := 5 + int(rest[1])<<24 + int(rest[2])<<16 + int(rest[3])<<8 + int(rest[4])
		chunks = append(chunks, rest[:n])
		rest = rest[n:]
	}
	return head, chunks
}

func TestDamage(t *testing.T) {
	codec := newCodec(t, store.NewKey())
	refused := func(what string, file []byte) {
		t.Helper()
		_, err := Verify(t.Context(), bytes.NewReader(file), codec)
		if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrFormat) && !errors.Is(err, store.ErrKey) && !errors.Is(err, store.ErrNewer) {
			t.Errorf("%s: %v", what, err)
		}
	}
	small := export(t, codec, filled(t, 2))
	for n := range small {
		refused(fmt.Sprint("cut after ", n), small[:n])
		for _, bit := range []byte{1, 2, 16, 128} {
			changed := bytes.Clone(small)
			changed[n] ^= bit
			refused(fmt.Sprintf("byte %d of %d", n, len(small)), changed)
		}
	}
	refused("something behind it", append(bytes.Clone(small), 0))

	head, chunks := chunksOf(t, export(t, codec, filled(t, 1000)))
	if len(chunks) < 4 {
		t.Fatalf("%d chunks", len(chunks))
	}
	put := func(chunks ...[]byte) []byte { return append(bytes.Clone(head), bytes.Join(chunks, nil)...) }
	if _, err := Verify(t.Context(), bytes.NewReader(put(chunks...)), codec); err != nil {
		t.Fatal(err)
	}
	refused("cut between chunks", put(chunks[:2]...))
	refused("a chunk left out", put(append([][]byte{chunks[0]}, chunks[2:]...)...))
	refused("chunks in another order", put(append([][]byte{chunks[1], chunks[0]}, chunks[2:]...)...))
	refused("a chunk twice", put(append([][]byte{chunks[0], chunks[0]}, chunks[1:]...)...))
	refused("no chunks", head)
	last := bytes.Clone(chunks[1])
	last[0] = 1
	refused("a chunk called the last", put(chunks[0], last))
	_, others := chunksOf(t, export(t, codec, filled(t, 1000)))
	refused("a chunk of another file", put(append([][]byte{others[0]}, chunks[1:]...)...))
}

func TestUnknownLinesAreRefused(t *testing.T) {
	codec := newCodec(t, store.NewKey())
	f := func(text string, want error) {
		t.Helper()
		var out bytes.Buffer
		w, err := newChunkWriter(&out, codec)
		if err != nil {
			t.Fatal(err)
		}
		w.Write([]byte(text))
		w.Close()
		if _, err := Verify(t.Context(), &out, codec); !errors.Is(err, want) {
			t.Errorf("%q: %v", text, err)
		}
	}
	const end = `end {"components":0,"accounts":0,"authorizers":0,"pushes":0}` + "\n"
	f(end, nil)
	f("", ErrDamaged)
	f("end {}", ErrDamaged)
	f(end+end, ErrDamaged)
	f("account {\"v\":1,\"id\":\"wx1\"}\n"+end, ErrDamaged)
	f("later {}\n"+end, store.ErrNewer)
	f("account {\"v\":9}\n"+end, store.ErrNewer)
	f("account hush\n"+end, store.ErrCorrupt)
}

func TestInterrupted(t *testing.T) {
	codec := newCodec(t, store.NewKey())
	s := filled(t, 10)
	file := export(t, codec, s)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Write(ended, &bytes.Buffer{}, codec, s, IDs{}, nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := Restore(ended, bytes.NewReader(file), codec, memory.New(), false, nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func FuzzVerify(f *testing.F) {
	codec := newCodec(f, secret.New("AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="))
	f.Add(export(f, codec, filled(f, 2)))
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, err := Verify(t.Context(), bytes.NewReader(data), codec)
		if err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrFormat) && !errors.Is(err, store.ErrKey) && !errors.Is(err, store.ErrNewer) {
			t.Errorf("error without a class: %v", err)
		}
	})
}
