// Package wxjava publishes the current access tokens in the Redis of services
// that use WxJava, so that these find a good token there whenever they look and
// never refresh one themselves, while they are moved to lingpai one at a time.
//
// # Layout
//
// It is WxJava's own, of its storages with Jedis and RedisTemplate. PREFIX is the
// one configured there (wx:open in its starters) with a colon, which WxJava adds
// if it is missing; nothing if there is none.
//
//	PREFIX wechat_component_access_token:PLATFORM            string
//	PREFIX wechat_authorizer_access_token:PLATFORM:MERCHANT  string
//
// The value is the token as plain text; the time to live is what is left of the
// token's lifetime less 200 s, as WxJava writes expires_in less 200. WxJava takes
// a key with less than 2 s, with no time to live or that is missing for an
// expired token, and refreshes. Its storage with Redisson reads the same keys,
// but with the codec of that client: plain text only if that is StringCodec.
//
// Nothing but access tokens is published: no refresh token, no ticket, no secret.
// A service that had them would refresh by itself as soon as WeChat refuses a
// call or Redis has lost a key, and each such refresh of the component's token
// kills the one that lingpai uses, within minutes for all services. A service
// that has no way to refresh cannot. What WxJava has left there of these
// (wechat_component_verify_ticket, wechat_authorizer_refresh_token) is not
// touched.
//
// # Rights
//
// What a user of Redis needs at least, for the prefix wx:open (cluster|slots and
// cluster|shards for a cluster, select for a database other than 0):
//
//	ACL SETUSER lingpai on >PASSWORD resetkeys
//	  ~wx:open:wechat_component_access_token:* ~wx:open:wechat_authorizer_access_token:*
//	  -@all +ping +eval +get +pttl +set +del
package wxjava

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/redis/rueidis"

	"lingpai/tokens/secret"
	"lingpai/tokens/store/redis"
)

// The kinds of tokens that are published. Others, as those of direct accounts,
// have no key in this layout.
const (
	Component  = "component"
	Authorizer = "authorizer"
)

// What becomes of a value, as Options.Observe is told.
const (
	ResultWritten   = "written"   // it is in Redis now
	ResultUnchanged = "unchanged" // it was there already
	ResultForeign   = "foreign"   // it is there now in place of somebody else's, see Options.Foreign
	ResultDeleted   = "deleted"   // its key is gone
	ResultExpired   = "expired"   // it waited for Redis until it was good no more
	ResultDropped   = "dropped"   // too many waited
	ResultError     = "error"     // an attempt to write any number of values failed, they wait for the next
)

// Results returns all results.
func Results() []string {
	return []string{ResultWritten, ResultUnchanged, ResultForeign, ResultDeleted, ResultExpired, ResultDropped, ResultError}
}

const (
	// margin is what WxJava takes off the lifetime of a token.
	margin = 200 * time.Second
	// maxPending is how many keys wait to be written, some 40 MB of tokens.
	maxPending = 1 << 16
	// operationTimeout bounds a connection attempt and the writing of a batch.
	operationTimeout = 3 * time.Second
)

// Options of New.
type Options struct {
	// URL is that of the services' Redis, as redis.Options.URL.
	URL secret.String
	// KeyPrefix is the one that WxJava is configured with, "" for none.
	KeyPrefix string
	// Component is the app id of the platform.
	Component string
	// Log is told when publishing begins to fail and when it works again, and of
	// dropped values; nil is nobody.
	Log *slog.Logger
	// Observe, if not nil, is told what becomes of values: one of the constants
	// above. It must be safe for concurrent use.
	Observe func(result string)
	// Foreign, if not nil, is called when a key has held a value that this
	// Publisher never published, though it had published another one before:
	// somebody else refreshed the token. It was overwritten all the same, since
	// ours is the token that lingpai uses; if it is dead, WeChat will say so. A
	// held that equals the current token in the store is no foreign refresh: a
	// fellow sidecar that publishes too was faster. Foreign is called one at a
	// time by Run, which waits for it; it may call the Publisher.
	Foreign func(kind, appID string, held secret.String)
}

// Publisher keeps the tokens it is told in Redis. Make one with New; Run does the
// writing. Its methods are safe for concurrent use.
type Publisher struct {
	dialer    *redis.Dialer
	prefix    string
	component string
	log       *slog.Logger
	observe   func(result string)
	foreign   func(kind, appID string, held secret.String)

	queue    *queue
	dropping atomic.Bool // said since the queue was last empty

	// Of Run alone.
	client  rueidis.Client // nil until Redis was reached
	known   known
	failing bool
}

// New returns a Publisher. It does not connect, so a Redis that is down is no
// error; a URL or prefix that cannot be right is one, and shows no password.
func New(opts Options) (*Publisher, error) {
	prefix, err := keyPrefix(opts.KeyPrefix)
	if err != nil {
		return nil, fmt.Errorf("wxjava: key prefix: %w", err)
	}
	if opts.Component == "" {
		return nil, errors.New("wxjava: no app id of a platform")
	}
	dialer, err := redis.NewDialer(redis.Options{URL: opts.URL, DialTimeout: operationTimeout, OperationTimeout: operationTimeout})
	if err != nil {
		return nil, fmt.Errorf("wxjava: %w", err)
	}
	p := &Publisher{
		dialer:    dialer,
		prefix:    prefix,
		component: opts.Component,
		log:       opts.Log,
		observe:   opts.Observe,
		foreign:   opts.Foreign,
		queue:     newQueue(maxPending),
		known:     newKnown(maxKnown),
	}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	if p.observe == nil {
		p.observe = func(string) {}
	}
	if p.foreign == nil {
		p.foreign = func(string, string, secret.String) {}
	}
	return p, nil
}

// Publish has the key of a token hold value until 200 s before expiresAt, and has
// it deleted if that has passed or value is empty. It returns at once and only
// notes what Run is to write; of two values for one key that wait the later one
// is written. At most 65,536 keys wait: beyond that the one that waits longest is
// dropped, for a later Publish to bring again, and a sweep over more keys than
// that should look at Pending. Publishing what is there already writes nothing,
// and restores it if it has been deleted. Kinds other than Component and
// Authorizer and platforms other than Options.Component are left out.
func (p *Publisher) Publish(kind, appID string, value secret.String, expiresAt time.Time) {
	i := item{key: key{kind, appID}, value: value, expiresAt: expiresAt}
	if value.Empty() || lifetime(expiresAt, time.Now()) <= 0 {
		i.value, i.delete = secret.String{}, true
	}
	p.put(i)
}

// Remove has the key of a token deleted, whoever put its value there: the
// authorization has ended. Like Publish it returns at once; a deletion that is
// dropped is made up for by the key's time to live.
func (p *Publisher) Remove(kind, appID string) {
	p.put(item{key: key{kind, appID}, delete: true, forget: true})
}

// Pending is how many keys wait to be written.
func (p *Publisher) Pending() int { return p.queue.len() }

func (p *Publisher) put(i item) {
	if i.appID == "" || i.kind != Authorizer && (i.kind != Component || i.appID != p.component) {
		return
	}
	p.dropped(p.queue.put(i))
}

// dropped tells of n values that found no room.
func (p *Publisher) dropped(n int) {
	if n > 0 && !p.dropping.Swap(true) {
		p.log.Warn("too many tokens wait for the Redis of WxJava services: those that wait longest are dropped until they are published again",
			"redis", p.dialer.String(), "bound", p.queue.max)
	}
	for range n {
		p.observe(ResultDropped)
	}
}

// lifetime is how long a token may lie in Redis at now; rounded down to what
// Redis can tell.
func lifetime(expiresAt, now time.Time) time.Duration {
	return expiresAt.Add(-margin).Sub(now).Truncate(time.Millisecond)
}

// name is WxJava's for a key.
func (p *Publisher) name(k key) string {
	if k.kind == Component {
		return p.prefix + "wechat_component_access_token:" + p.component
	}
	return p.prefix + "wechat_authorizer_access_token:" + p.component + ":" + k.appID
}

// keyPrefix is what WxJava makes of the prefix it is configured with.
func keyPrefix(configured string) (string, error) {
	odd := func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }
	switch {
	case configured == "":
		return "", nil
	case !utf8.ValidString(configured) || strings.ContainsFunc(configured, odd):
		return "", errors.New("it holds a space or a character that cannot be printed")
	case strings.Contains(configured, "wechat_component_") || strings.Contains(configured, "wechat_authorizer_"):
		return "", errors.New("it is a whole key: write only what comes before wechat_, such as wx:open")
	case strings.HasSuffix(configured, ":"):
		return configured, nil
	}
	return configured + ":", nil
}
