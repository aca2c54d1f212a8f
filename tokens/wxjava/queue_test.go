package wxjava

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"lingpai/tokens/secret"
)

func appIDs(items []item) (ids []string) {
	for _, i := range items {
		ids = append(ids, i.appID+"="+i.value.Reveal())
	}
	return ids
}

func TestQueue(t *testing.T) {
	of := func(appID, value string) item {
		return item{key: key{Authorizer, appID}, value: secret.New(value)}
	}
	expect := func(what string, got []item, want ...string) {
		t.Helper()
		if !slices.Equal(appIDs(got), want) {
			t.Errorf("%s: %q, want %q", what, appIDs(got), want)
		}
	}
	q := newQueue(3)
	expect("empty", q.take(2))
	for _, id := range []string{"a", "b", "c"} {
		q.put(of(id, "1"))
	}
	q.put(of("a", "2"))
	expect("a newer value keeps the place of its key", q.take(2), "a=2", "b=1")
	q.put(of("a", "3"))
	if n := q.putBack([]item{of("a", "2"), of("b", "1")}); n != 0 {
		t.Errorf("%d dropped", n)
	}
	if n := q.put(of("d", "1")); n != 1 || q.len() != 3 {
		t.Errorf("%d dropped, %d wait", n, q.len())
	}
	taken := q.take(9)
	expect("what waits longest makes room, and what was put back does not replace a newer value", taken, "c=1", "a=3", "d=1")
	q.put(of("e", "1"))
	q.put(of("f", "1"))
	if n := q.putBack(taken); n != 2 {
		t.Errorf("%d dropped", n)
	}
	expect("no more than the bound is put back", q.take(9), "d=1", "e=1", "f=1")
}

// A queue that overflows says so once, and Publish does not fail.
func TestDroppedIsTold(t *testing.T) {
	f := newFixture(t, "redis://localhost")
	f.queue.max = 10
	for i := range 25 {
		f.Publish(Authorizer, fmt.Sprint("wx", i), secret.New("v"), inTwoHours())
	}
	if f.Pending() != 10 || f.count(ResultDropped) != 15 {
		t.Errorf("%d wait, %v", f.Pending(), f.results)
	}
	if log := f.log.String(); strings.Count(log, "level=WARN") != 1 || !strings.Contains(log, "dropped") {
		t.Errorf("log: %s", log)
	}
}

func TestKnownIsBounded(t *testing.T) {
	k := newKnown(5)
	for i := range 20 {
		of := key{Authorizer, fmt.Sprint("wx", i)}
		k.sending(of, secret.New("ours"))
		k.confirm(of)
		if k.foreign(of, secret.New("ours")) || !k.foreign(of, secret.New("theirs")) {
			t.Errorf("key %d is not known", i)
		}
	}
	if len(k.keys) != 5 {
		t.Errorf("%d keys", len(k.keys))
	}
	of := key{Authorizer, "wx-last"}
	k.sending(of, secret.New("unconfirmed"))
	if k.foreign(of, secret.New("from before")) {
		t.Error("what was there before our first value is called foreign")
	}
}
