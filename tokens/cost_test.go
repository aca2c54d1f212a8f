package tokens

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"
	"unsafe"

	"lingpai/tokens/secret"
	"lingpai/tokens/store"
)

// TestTokenSize fails when a Token grows out of its size class: the next one has
// 96 bytes, which a million tokens take too.
func TestTokenSize(t *testing.T) {
	if size := unsafe.Sizeof(Token{}); size > 80 {
		t.Errorf("a Token takes %d bytes", size)
	}
}

func TestTokenKeepsOneStringOfItsOwn(t *testing.T) {
	request := "/cgi-bin/x?appid=" + alice
	key := of(request[len(request)-len(alice):])
	stored := store.Token{Value: secret.New(strings.Repeat("t", 157))}
	token := newToken(key, stored, time.Now())
	value := token.Value().Reveal()
	if token.AppID() != alice || value != stored.Value.Reveal() || string(token.AppendQuery([]byte("q="))) != "q="+value {
		t.Fatalf("%s %d", token.Key(), len(value))
	}
	if unsafe.StringData(value) == unsafe.StringData(stored.Value.Reveal()) || unsafe.StringData(token.AppID()) == unsafe.StringData(key.AppID) {
		t.Error("it shares memory with a record or a request")
	}
	if unsafe.Add(unsafe.Pointer(unsafe.StringData(value)), len(value)) != unsafe.Pointer(unsafe.StringData(token.AppID())) {
		t.Error("value and app id are two strings")
	}
}

func TestOddTokensAreEscaped(t *testing.T) {
	token := newToken(of(alice), store.Token{Value: secret.New("a+b/c=令&")}, time.Now())
	if got := string(token.AppendQuery(nil)); got != "a%2Bb%2Fc%3D%E4%BB%A4%26" {
		t.Error(got)
	}
	if !token.firstUse() || token.firstUse() || string(token.AppendQuery(nil)) != "a%2Bb%2Fc%3D%E4%BB%A4%26" {
		t.Error("use and escaping get in each other's way")
	}
}

// filled is a memory with n tokens in use whose values have size bytes, and the
// live bytes that each takes, with all that there is because of it.
func filled(tb testing.TB, n, size int) (m *memory, each float64) {
	tb.Helper()
	before := liveBytes()
	s := newSchedule()
	m, err := newMemory(int64(n)*int64(cost(size+18)), s)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(m.close)
	value, now := strings.Repeat("t", size), time.Now()
	for i := range n {
		key := of(fmt.Sprintf("wx%016x", i))
		token := newToken(key, store.Token{Value: secret.New(value), ExpiresAt: now.Add(2 * time.Hour), RefreshedAt: now, Generation: 1}, now.Add(time.Hour))
		m.put(key, token)
		s.add(token)
	}
	each = (float64(liveBytes()) - float64(before)) / float64(n)
	runtime.KeepAlive(m)
	return m, each
}

func liveBytes() uint64 {
	var stats runtime.MemStats
	for range 2 { // the second frees what the first finalized
		runtime.GC()
	}
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// cache.max_bytes means what it says if a token takes no more than is counted for
// it: also when ristretto's maps, of 256 parts which grow together, have just been
// doubled.
func TestTokensTakeNoMoreThanTheyCost(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector takes memory too")
	}
	for _, c := range []struct{ n, size int }{{60_000, 157}, {60_000, 200}, {60_000, 520}, {100_000, 200}} {
		m, each := filled(t, c.n, c.size)
		t.Logf("%d tokens of %d bytes: %.0f bytes each, counted as %d", c.n, c.size, each, cost(c.size+18))
		if each > float64(cost(c.size+18)) {
			t.Errorf("%d tokens of %d bytes take %.0f bytes each, more than the %d counted", c.n, c.size, each, cost(c.size+18))
		}
		if m.cache.RemainingCost() != 0 {
			t.Error("not all of them are in memory")
		}
		m.close()
	}
}
