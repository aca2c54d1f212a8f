package importer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"lingpai/tokens/secret"
)

// senparc is the cache of Senparc.Weixin: a JSON object ("bag") for each account,
// either under a key of its own or in a hash whose fields are the app ids.
type senparc struct {
	redis             *redisReader
	component         string
	prefix, namespace string // "": find out

	componentBags, authorizerBags []string // keys, of either form
}

// The types of the bags, which end the name of a hash and precede the app id in
// a key. Their namespaces differ between versions.
const (
	componentBag  = ".ComponentBag"
	authorizerBag = ".AuthorizerBag"
)

func (s *senparc) close() { s.redis.close() }

func (s *senparc) pattern(bag string) string {
	prefix, namespace := "Senparc*", "*"
	if s.prefix != "" {
		prefix = literal(strings.TrimSuffix(s.prefix, ":"))
	}
	if s.namespace != "" {
		namespace = literal(s.namespace)
	}
	return prefix + ":" + namespace + ":Container:Senparc.*" + literal(bag) + "*"
}

// find looks for the bags' keys.
func (s *senparc) find(ctx context.Context) error {
	spaces := map[string]bool{}
	for bag, keys := range map[string]*[]string{componentBag: &s.componentBags, authorizerBag: &s.authorizerBags} {
		err := s.redis.scan(ctx, s.pattern(bag), func(key string) error {
			space, _, _ := strings.Cut(key, ":Container:")
			_, rest, _ := strings.Cut(key, bag)
			if rest == "" || rest[0] == ':' { // else it is another type
				spaces[space] = true
				*keys = append(*keys, key)
			}
			return nil
		})
		if err != nil {
			return err
		}
		slices.Sort(*keys)
		*keys = slices.Compact(*keys)
	}
	if len(spaces) > 1 {
		return usagef("this Redis has keys of several namespaces: %s; choose one with -namespace (what follows the first colon), or with -prefix (what precedes it)",
			strings.Join(slices.Sorted(maps.Keys(spaces)), ", "))
	}
	return nil
}

// bagWrapper is the form that some versions write around a bag.
type bagWrapper struct {
	Object json.RawMessage
}

// bag is what is read of both types of bags.
type bag struct {
	ComponentAppID string `json:"ComponentAppId"`

	ComponentVerifyTicket           string
	ComponentVerifyTicketExpireTime netTime
	ComponentAccessTokenResult      struct {
		Token string `json:"component_access_token"`
	}
	ComponentAccessTokenExpireTime netTime

	AuthorizerAppID   string `json:"AuthorizerAppId"`
	AuthorizationInfo struct {
		AppID        string `json:"authorizer_appid"`
		AccessToken  string `json:"authorizer_access_token"`
		RefreshToken string `json:"authorizer_refresh_token"`
	}
	AuthorizationInfoExpireTime netTime
}

func parseBag(raw string) (bag, error) {
	var wrapper bagWrapper
	var b bag
	if json.Unmarshal([]byte(raw), &wrapper) == nil && len(wrapper.Object) > 0 {
		raw = string(wrapper.Object)
	}
	if json.Unmarshal([]byte(raw), &b) != nil {
		if !printableText(raw) {
			return bag{}, errors.New("is binary, as versions before CO2NET and the MessagePack serializer write it")
		}
		return bag{}, errForm
	}
	return b, nil
}

// printableText reports whether there are no control characters.
func printableText(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\n' && r != '\r' && r != '\t' || r == '\ufffd' })
}

// netTime is a DateTime or DateTimeOffset as .NET writes it. One without an
// offset could be any hour of the day, and .NET's MinValue is no time: both are
// zero.
type netTime struct{ time.Time }

func (t *netTime) UnmarshalJSON(raw []byte) error {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		if parsed, err := time.Parse(time.RFC3339Nano, text); err == nil && parsed.Year() > 2000 {
			t.Time = parsed
		}
	}
	return nil
}

// each calls use with every bag under keys: its app id, and it or what is wrong.
func (s *senparc) each(ctx context.Context, keys []string, name string, use func(appID string, b bag, err error) error) error {
	for batch := range slices.Chunk(keys, batchRows) {
		var plain, hashes []string
		for _, key := range batch {
			if strings.HasSuffix(key, name) {
				hashes = append(hashes, key)
			} else {
				plain = append(plain, key)
			}
		}
		entries, err := s.redis.get(ctx, plain...)
		if err != nil {
			return err
		}
		for i, e := range entries {
			_, appID, _ := strings.Cut(plain[i], name+":")
			if e.fault != "" {
				if err := use(appID, bag{}, errors.New(e.fault)); err != nil {
					return err
				}
			} else if e.found {
				b, err := parseBag(e.raw)
				if err := use(appID, b, err); err != nil {
					return err
				}
			}
		}
		for _, key := range hashes {
			err := s.redis.scanHash(ctx, key, func(field, value string) error {
				b, err := parseBag(value)
				return use(field, b, err)
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// scanHash calls each with the fields of a hash; a field may come twice.
func (r *redisReader) scanHash(ctx context.Context, key string, each func(field, value string) error) error {
	for cursor := uint64(0); ; {
		page, err := r.client.Do(ctx, r.client.B().Hscan().Key(key).Cursor(cursor).Count(batchRows).Build()).AsScanEntry()
		if wrongType(err) {
			return nil
		}
		if err != nil && !rueidis.IsRedisNil(err) {
			return fmt.Errorf("redis: HSCAN: %w", r.clean(err))
		}
		for i := 0; i+1 < len(page.Elements); i += 2 {
			if err := each(page.Elements[i], page.Elements[i+1]); err != nil {
				return err
			}
		}
		if cursor = page.Cursor; cursor == 0 {
			return nil
		}
	}
}

// ticketPeriod is what Senparc adds to the time at which it was given a ticket.
const ticketPeriod = 10 * time.Minute

func (s *senparc) platform(ctx context.Context) (platform, error) {
	if err := s.find(ctx); err != nil {
		return platform{}, err
	}
	var p platform
	now := time.Now()
	err := s.each(ctx, s.componentBags, componentBag, func(appID string, b bag, err error) error {
		if appID != s.component {
			return nil
		}
		if err != nil {
			p = platform{ticketFault: err.Error(), tokenFault: err.Error()}
			return nil
		}
		p.ticket = secret.New(b.ComponentVerifyTicket)
		// A ticket that was pushed does not change this time: it may be an old one.
		if at := b.ComponentVerifyTicketExpireTime.Time.Add(-ticketPeriod); !at.After(now) && now.Sub(at) < unknownTicketAge {
			p.ticketAt = at
		}
		p.token = secret.New(b.ComponentAccessTokenResult.Token)
		p.tokenExpiresAt = b.ComponentAccessTokenExpireTime.Time
		return nil
	})
	return p, err
}

func (s *senparc) authorizers(ctx context.Context, each func([]row) error) error {
	out := batcher{each: each}
	err := s.each(ctx, s.authorizerBags, authorizerBag, func(appID string, b bag, err error) error {
		switch {
		case err != nil:
			return out.add(row{appID: appID, fault: err.Error()})
		case b.ComponentAppID != "" && b.ComponentAppID != s.component:
			return nil // of another platform
		}
		info := b.AuthorizationInfo
		if info.AppID != "" && info.AppID != appID {
			return out.add(row{appID: appID, fault: "holds the tokens of another app id"})
		}
		return out.add(row{
			appID:           appID,
			refreshToken:    secret.New(info.RefreshToken),
			accessToken:     secret.New(info.AccessToken),
			accessExpiresAt: b.AuthorizationInfoExpireTime.Time,
		})
	})
	if err != nil {
		return err
	}
	return out.flush()
}

func (s *senparc) hint(context.Context) string {
	if len(s.authorizerBags)+len(s.componentBags) > 0 {
		return ""
	}
	return "no key of Senparc.Weixin was found: are -redis-url, its database number, -namespace (DefaultCacheNamespace) and -prefix (Senparc; SenparcWeixin in old versions) those of the old system?"
}
