package importer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// layout is how an SDK names its keys in Redis, and writes their values. An
// authorizer's keys are before + app id + after.
type layout struct {
	ticket, token   string
	refresh, access affix
	decode          decoder
	// ticketTTL is the time to live that the SDK gives a ticket, so that the rest
	// of it tells when the ticket came; 0: none.
	ticketTTL time.Duration
	// binary is what to do if values are binary.
	binary string
	// core is the part of a key that no prefix changes, to find the prefix by.
	core string
}

type affix struct{ before, after string }

func (a affix) key(appID string) string { return a.before + appID + a.after }

func (a affix) appID(key string) (string, bool) {
	rest, ok := strings.CutPrefix(key, a.before)
	if !ok {
		return "", false
	}
	appID, ok := strings.CutSuffix(rest, a.after)
	return appID, ok && appID != ""
}

func (a affix) pattern() string { return literal(a.before) + "*" + literal(a.after) }

// withColon puts a colon behind a prefix that has none.
func withColon(prefix string) string {
	if prefix == "" || strings.HasSuffix(prefix, ":") {
		return prefix
	}
	return prefix + ":"
}

const redissonHint = "binary values are those of Redisson with its default codec, which only Java can read. " +
	"Have WxJava write plain text (a RedissonClient with StringCodec) and let it refresh once, " +
	"or import your own table with -from csv, or WeChat's list with -from wechat"

// wxJavaLayout: AbstractWxOpenInRedisConfigStorage of WxJava 4.x.
func wxJavaLayout(prefix, component string) layout {
	p := withColon(prefix)
	return layout{
		ticket:    p + "wechat_component_verify_ticket:" + component,
		token:     p + "wechat_component_access_token:" + component,
		refresh:   affix{p + "wechat_authorizer_refresh_token:" + component + ":", ""},
		access:    affix{p + "wechat_authorizer_access_token:" + component + ":", ""},
		decode:    plain,
		ticketTTL: 2147483647 * time.Second,
		binary:    redissonHint,
		core:      "wechat_authorizer_refresh_token:" + component + ":",
	}
}

// silenceperLayout: silenceper/wechat v2, which does not store the ticket.
func silenceperLayout(prefix, component string) layout {
	return layout{
		token:   prefix + "component_access_token_" + component,
		refresh: affix{prefix + "authorizer_refresh_token_", ""},
		access:  affix{prefix + "authorizer_access_token_", ""},
		decode:  plain,
		core:    "authorizer_refresh_token_",
	}
}

// wechatpyLayout: wechatpy 2.x with its RedisStorage.
func wechatpyLayout(prefix, component string) layout {
	p := withColon(prefix)
	return layout{
		ticket:  p + component + "_component_verify_ticket",
		token:   p + component + "_component_access_token",
		refresh: affix{p, "_refresh_token"},
		access:  affix{p, "_access_token"},
		decode:  jsonText,
		core:    component + "_component_",
	}
}

// fastwegoLayout: fastwego/wxopen with a Redis behind cachego. Its access tokens
// have no time to live, so they are not taken.
func fastwegoLayout(prefix, component string) layout {
	return layout{
		ticket:  prefix + "component_verify_ticket:" + component,
		token:   prefix + component,
		refresh: affix{prefix + "authorizer_refresh_token:", ""},
		access:  affix{prefix + "authorizer_access_token:", ""},
		decode:  plain,
		core:    "component_verify_ticket:" + component,
	}
}

// keyed is a source of one key for each value.
type keyed struct {
	redis     *redisReader
	layout    layout
	prefix    string
	component string // its app id, which is no authorizer's
	binary    bool   // a value was
	found     bool   // there are keys
}

func (k *keyed) close() { k.redis.close() }

func (k *keyed) platform(ctx context.Context) (platform, error) {
	entries, err := k.redis.get(ctx, orNone(k.layout.ticket), orNone(k.layout.token))
	if err != nil {
		return platform{}, err
	}
	k.found = entries[0].found || entries[1].found
	p := platformOf(entries[0], entries[1], k.layout.decode, k.layout.ticketTTL, time.Now())
	k.binary = p.ticketFault == faultBinary || p.tokenFault == faultBinary
	return p, nil
}

// orNone stands for a key that a layout does not have.
func orNone(key string) string {
	if key == "" {
		return "lingpai:no-such-key"
	}
	return key
}

// platformOf reads the component's values.
func platformOf(ticket, token entry, decode decoder, ticketTTL time.Duration, now time.Time) platform {
	var p platform
	p.ticket, p.ticketFault = ticket.value(decode)
	if ticketTTL > 0 && !ticket.until.IsZero() {
		if at := ticket.until.Add(-ticketTTL); !at.After(now) {
			p.ticketAt = at
		}
	}
	p.token, p.tokenFault = token.value(decode)
	p.tokenExpiresAt = token.until
	return p
}

func (k *keyed) authorizers(ctx context.Context, each func([]row) error) error {
	// The keys first: a batch needs both keys of an authorizer.
	seen := map[string]struct{}{}
	var ids []string
	for _, a := range []affix{k.layout.refresh, k.layout.access} {
		err := k.redis.scan(ctx, a.pattern(), func(key string) error {
			appID, ok := a.appID(key)
			if !ok || appID == k.component || strings.HasSuffix(appID, "_component") {
				return nil
			}
			if _, known := seen[appID]; !known {
				seen[appID] = struct{}{}
				ids = append(ids, appID)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	seen, k.found = nil, k.found || len(ids) > 0
	slices.Sort(ids)
	for batch := range slices.Chunk(ids, batchRows) {
		rows, err := k.read(ctx, batch)
		if err != nil {
			return err
		}
		if err := each(rows); err != nil {
			return err
		}
	}
	return nil
}

func (k *keyed) read(ctx context.Context, ids []string) ([]row, error) {
	keys := make([]string, 0, 2*len(ids))
	for _, id := range ids {
		keys = append(keys, k.layout.refresh.key(id), k.layout.access.key(id))
	}
	entries, err := k.redis.get(ctx, keys...)
	if err != nil {
		return nil, err
	}
	rows := make([]row, len(ids))
	for i, id := range ids {
		r := row{appID: id, accessExpiresAt: entries[2*i+1].until}
		r.refreshToken, r.refreshFault = entries[2*i].value(k.layout.decode)
		r.accessToken, r.accessFault = entries[2*i+1].value(k.layout.decode)
		k.binary = k.binary || r.refreshFault == faultBinary || r.accessFault == faultBinary
		rows[i] = r
	}
	return rows, nil
}

// errEnough ends a scan.
var errEnough = errors.New("enough")

func (k *keyed) hint(ctx context.Context) string {
	switch {
	case k.binary:
		return k.layout.binary
	case k.found:
		return ""
	}
	return prefixHint(ctx, k.redis, k.layout.core, k.prefix)
}

// prefixHint looks for keys of the SDK under another prefix.
func prefixHint(ctx context.Context, redis *redisReader, core, prefix string) string {
	found, ok := "", false
	err := redis.scan(ctx, "*"+literal(core)+"*", func(key string) error {
		found, _, ok = strings.Cut(key, core)
		return errEnough
	})
	if !ok || err != nil && !errors.Is(err, errEnough) || found == prefix || found == withColon(prefix) {
		return fmt.Sprintf("no key of this SDK begins with %q: are -redis-url, its database number, and -prefix those of the old system?", prefix)
	}
	return fmt.Sprintf("there are keys of this SDK that begin with %q: write -prefix %q", found, found)
}
