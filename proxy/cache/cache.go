// Package cache keeps the few answers of WeChat that may be given twice: what
// may be kept and for how long, as pure functions, and the ristretto store.
package cache

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dgraph-io/ristretto/v2"
)

const (
	// margin is taken off a ticket's lifetime, so that the next one is fetched
	// before the present one lapses. What lives no longer is not kept.
	margin = 5 * time.Minute
	// listLifetime is how long lists of WeChat's addresses are kept.
	listLifetime = time.Hour
	// MaxAnswer is how long an answer may be to be kept, in bytes.
	MaxAnswer = 64 << 10
	// entryCost is what an entry takes beside its bytes.
	entryCost = 500
)

// paths are those whose answers are kept. true: for as long as the answer's
// expires_in says; false: for listLifetime.
var paths = map[string]bool{
	// https://developers.weixin.qq.com/doc/service/en/api/webdev/jssdk/api_getticket.html
	"/cgi-bin/ticket/getticket":  true,
	"/cgi-bin/get_api_domain_ip": false,
	"/cgi-bin/getcallbackip":     false,
}

// Cacheable reports whether the answer to a call may be kept.
func Cacheable(method, path string) bool {
	_, ok := paths[path]
	return ok && method == http.MethodGet
}

// Lifetime is how long an answer may be given again; 0 if not at all. An error
// answer of WeChat never is.
func Lifetime(path string, status int, body []byte) time.Duration {
	byAnswer, ok := paths[path]
	if !ok || status != http.StatusOK || len(body) > MaxAnswer {
		return 0
	}
	var answer struct {
		Errcode   json.Number `json:"errcode"`
		ExpiresIn json.Number `json:"expires_in"`
	}
	if json.Unmarshal(body, &answer) != nil {
		return 0
	}
	if code := answer.Errcode.String(); code != "" && code != "0" {
		return 0
	}
	if !byAnswer {
		return listLifetime
	}
	seconds, err := strconv.ParseInt(answer.ExpiresIn.String(), 10, 32)
	if err != nil {
		return 0
	}
	return max(time.Duration(seconds)*time.Second-margin, 0)
}

// Key names an answer: account, path and the query that remains without token,
// its parts sorted.
func Key(account, path, query string) string {
	parts := strings.Split(query, "&")
	slices.Sort(parts)
	return account + "\n" + path + "\n" + strings.Join(parts, "&")
}

// Bypass reports whether a call's Cache-Control asks for WeChat's own word.
func Bypass(cacheControl string) bool {
	for directive := range strings.SplitSeq(cacheControl, ",") {
		name, _, _ := strings.Cut(strings.TrimSpace(directive), "=")
		if strings.EqualFold(name, "no-cache") || strings.EqualFold(name, "no-store") {
			return true
		}
	}
	return false
}

// Answer is an answer that is kept. It is never changed.
type Answer struct {
	Key         string
	Body        []byte
	ContentType string
	StoredAt    time.Time
	ExpiresAt   time.Time
	// AuthorizedAt is the authorization of the account that the answer was given
	// under: an account's answers end with it.
	AuthorizedAt time.Time
}

// Cache keeps answers in bounded memory. Any of them may be dropped. Make one
// with New. Safe for concurrent use.
type Cache struct {
	answers *ristretto.Cache[string, *Answer]
}

// leastBytes is the least a Cache may hold.
const leastBytes = 1 << 20

// New returns a Cache that holds at most maxBytes, or 1 MiB if that is more.
func New(maxBytes int64) (*Cache, error) {
	maxBytes = max(maxBytes, leastBytes)
	answers, err := ristretto.NewCache(&ristretto.Config[string, *Answer]{
		NumCounters:        min(max(maxBytes/1000*10, 1000), 1<<20),
		MaxCost:            maxBytes,
		BufferItems:        64,
		IgnoreInternalCost: true,
	})
	if err != nil {
		return nil, fmt.Errorf("make the cache of answers: %w", err)
	}
	return &Cache{answers}, nil
}

// Get returns the answer of a key if it may be given at now under the
// authorization made at authorizedAt, else nil.
func (c *Cache) Get(key string, now, authorizedAt time.Time) *Answer {
	a, ok := c.answers.Get(key)
	if !ok || a == nil || a.Key != key || !now.Before(a.ExpiresAt) || !a.AuthorizedAt.Equal(authorizedAt) {
		return nil
	}
	return a
}

// lifetimeMember finds the lifetime in an answer.
var lifetimeMember = regexp.MustCompile(`"expires_in"\s*:\s*"?(\d{1,9})`)

// BodyAt is the answer as it is to be given at now: with the lifetime that is
// left, since apps keep a ticket for as long as expires_in says and know no Age.
func (a *Answer) BodyAt(now time.Time) []byte {
	at := lifetimeMember.FindSubmatchIndex(a.Body)
	if at == nil {
		return a.Body
	}
	told, err := strconv.ParseInt(string(a.Body[at[2]:at[3]]), 10, 64)
	if err != nil {
		return a.Body
	}
	left := max(told-a.age(now), 1)
	body := append(make([]byte, 0, len(a.Body)), a.Body[:at[2]]...)
	body = strconv.AppendInt(body, left, 10)
	return append(body, a.Body[at[3]:]...)
}

// Put keeps an answer.
func (c *Cache) Put(a *Answer) {
	c.answers.Set(a.Key, a, int64(entryCost+len(a.Key)+len(a.Body)))
	c.answers.Wait() // or the next call would miss
}

// Resize changes how many bytes may be held, as New has it.
func (c *Cache) Resize(maxBytes int64) { c.answers.UpdateMaxCost(max(maxBytes, leastBytes)) }

// Close ends the cache's goroutines.
func (c *Cache) Close() { c.answers.Close() }

// Status is the Cache-Status field of an answer that was kept (RFC 9211).
func (a *Answer) Status(now time.Time) string {
	return "lingpai; hit; ttl=" + strconv.FormatInt(int64(a.ExpiresAt.Sub(now)/time.Second), 10)
}

// Age is the Age field of an answer that was kept.
func (a *Answer) Age(now time.Time) string { return strconv.FormatInt(a.age(now), 10) }

// age is how long ago the answer came, in whole seconds.
func (a *Answer) age(now time.Time) int64 { return max(int64(now.Sub(a.StoredAt)/time.Second), 0) }
