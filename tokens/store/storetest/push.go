package storetest

import (
	"math"
	"slices"
	"testing"

	"lingpai/tokens/secret"
	"lingpai/tokens/store"
)

var pushTests = map[string]func(*testing.T, Open){
	"pushes come in the order of arrival":       pushOrder,
	"a pending digest is not stored twice":      pushDigest,
	"a Seq is never given again":                pushSeq,
	"pushes outlive the store, with every byte": pushBytes,
}

// push adds a push of this digest and returns its Seq.
func push(t *testing.T, s store.Store, digest string) uint64 {
	t.Helper()
	p, added, err := s.AddPush(t.Context(), store.Push{Digest: digest, ReceivedAt: instant, Message: secret.New("m-" + digest)})
	must(t, err)
	if !added {
		t.Errorf("push %s was not added", digest)
	}
	return p.Seq
}

// pending reads the digests of one page.
func pending(t *testing.T, s store.Store, after uint64, limit int) []string {
	t.Helper()
	page, err := s.Pushes(t.Context(), after, limit)
	must(t, err)
	digests := make([]string, 0, len(page))
	for _, p := range page {
		if p.Seq <= after {
			t.Errorf("push %d in the page after %d", p.Seq, after)
		}
		wantSame(t, "push in a page", p, store.Push{
			Seq: p.Seq, Digest: p.Digest, ReceivedAt: instant, Message: secret.New("m-" + p.Digest),
		})
		after = p.Seq
		digests = append(digests, p.Digest)
	}
	return digests
}

func pushOrder(t *testing.T, open Open) {
	s := start(t, open)
	f := func(after uint64, limit int, want ...string) {
		t.Helper()
		if got := pending(t, s, after, limit); !slices.Equal(got, want) {
			t.Errorf("Pushes(%d, %d) = %q, want %q", after, limit, got, want)
		}
	}
	f(0, 10)
	seqs := map[string]uint64{}
	for _, digest := range []string{"z", "y", "x", "w", "v"} {
		seqs[digest] = push(t, s, digest)
	}
	f(0, 10, "z", "y", "x", "w", "v")
	f(0, 2, "z", "y")
	f(seqs["y"], 2, "x", "w")
	f(seqs["v"], 2)
	f(math.MaxUint64, 2)
	f(0, 0)
	f(0, -1)
	must(t, s.DeletePush(t.Context(), seqs["x"]))
	must(t, s.DeletePush(t.Context(), seqs["z"]))
	must(t, s.DeletePush(t.Context(), seqs["z"]))
	f(0, 10, "y", "w", "v")
	f(seqs["x"], 10, "w", "v")
	for n := range 300 { // more than a page of the engine
		push(t, s, string(rune('一'+n)))
	}
	if got := len(pending(t, s, seqs["v"], 1000)); got != 300 {
		t.Errorf("%d pushes, want 300", got)
	}
}

func pushDigest(t *testing.T, open Open) {
	s := start(t, open)
	ctx := t.Context()
	first, added, err := s.AddPush(ctx, store.Push{Seq: 77, Digest: "d", ReceivedAt: instant, Message: secret.New("m-d")})
	must(t, err)
	if !added || first.Seq == 0 {
		t.Errorf("first: added %t, Seq %d", added, first.Seq)
	}
	again, added, err := s.AddPush(ctx, store.Push{Digest: "d", ReceivedAt: instant.Add(1), Message: secret.New("other")})
	must(t, err)
	if added {
		t.Error("a second push of a pending digest was added")
	}
	wantSame(t, "the push returned for it", again, first)
	second := push(t, s, "e")
	if got := pending(t, s, 0, 10); !slices.Equal(got, []string{"d", "e"}) {
		t.Errorf("pending %q", got)
	}
	must(t, s.DeletePush(ctx, first.Seq))
	if seq := push(t, s, "d"); second <= first.Seq || seq <= second {
		t.Errorf("Seq %d, %d, then %d", first.Seq, second, seq)
	}
	if got := pending(t, s, 0, 10); !slices.Equal(got, []string{"e", "d"}) {
		t.Errorf("pending %q", got)
	}
	// The deletion of the first one must not touch the digest of the second.
	must(t, s.DeletePush(ctx, first.Seq))
	if _, added, err = s.AddPush(ctx, store.Push{Digest: "d"}); err != nil || added {
		t.Errorf("added %t, %v", added, err)
	}
}

func pushSeq(t *testing.T, open Open) {
	s, reopen := startAgain(t, open)
	last := uint64(0)
	round := func(n int) {
		t.Helper()
		for range n {
			seq := push(t, s, "d")
			if seq <= last {
				t.Fatalf("Seq %d after %d", seq, last)
			}
			last = seq
			must(t, s.DeletePush(t.Context(), seq))
		}
	}
	round(3)
	for range 3 {
		s = reopen()
		round(2)
	}
}

func pushBytes(t *testing.T, open Open) {
	s, reopen := startAgain(t, open)
	big := make([]byte, 1<<20)
	for i := range big {
		big[i] = byte(i * 7)
	}
	want := []store.Push{
		{Digest: "big", ReceivedAt: instant, Message: secret.New(string(big))},
		{Digest: "摘要", Message: secret.New("<xml>\x00\xff</xml>")},
		{Digest: "empty"},
	}
	for i := range want {
		got, _, err := s.AddPush(t.Context(), want[i])
		must(t, err)
		want[i].Seq = got.Seq
		wantSame(t, "AddPush", got, want[i])
	}
	s = reopen()
	got, err := s.Pushes(t.Context(), 0, 10)
	must(t, err)
	wantSame(t, "Pushes after reopening", got, want)
	for _, p := range want {
		_, added, err := s.AddPush(t.Context(), p)
		must(t, err)
		if added {
			t.Errorf("push %s was added twice", p.Digest)
		}
	}
}
