package importer

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"strings"
	"time"

	"lingpai/tokens/secret"
)

// hashed is a cache whose keys are made of MD5 sums over secrets, such as those
// of EasyWeChat and PowerWeChat. It cannot be listed: it is read for the
// authorizers of another source, whose refresh tokens give the keys.
type hashed struct {
	redis  *redisReader
	table  source // gives the authorizers; its platform is not asked
	layout hashedLayout
	prefix string
	found  bool // a value was
}

// hashedLayout gives the keys, in the order in which they are tried.
type hashedLayout struct {
	tickets []hashedKey
	// tokens are the keys of the component's token for a ticket, which may be
	// empty.
	tokens func(ticket string) []string
	access func(appID, refreshToken string) []string
	decode decoder
	core   string
}

// hashedKey is the key of a ticket and the time to live it is given.
type hashedKey struct {
	key string
	ttl time.Duration
}

func md5Hex(text string) string {
	sum := md5.Sum([]byte(text))
	return hex.EncodeToString(sum[:])
}

// easyWeChatLayout has the keys of EasyWeChat 6, then those of 4 and 5.
func easyWeChatLayout(prefix, component string, appSecret secret.String) hashedLayout {
	const old = "easywechat.kernel.access_token."
	return hashedLayout{
		tickets: []hashedKey{
			{prefix + "open_platform.verify_ticket." + component, 6000 * time.Second},
			{prefix + "easywechat.open_platform.verify_ticket." + component, 3600 * time.Second},
		},
		tokens: func(ticket string) []string {
			return []string{
				prefix + "open_platform.component_access_token." + component,
				prefix + old + md5Hex(phpObject("component_appid", component, "component_appsecret", appSecret.Reveal(), "component_verify_ticket", ticket)),
			}
		},
		access: func(appID, refreshToken string) []string {
			return []string{
				prefix + "open-platform.authorizer_access_token." + appID + "." + md5Hex(refreshToken),
				prefix + old + md5Hex(phpObject("component_appid", component, "authorizer_appid", appID, "authorizer_refresh_token", refreshToken)),
			}
		},
		decode: phpToken,
		core:   "open_platform.verify_ticket." + component,
	}
}

// phpObject is what PHP's json_encode makes of names and values of ASCII, in
// turn.
func phpObject(namesAndValues ...string) string {
	quote := strings.NewReplacer(`\`, `\\`, `"`, `\"`, `/`, `\/`)
	var pairs []string
	for i := 0; i < len(namesAndValues); i += 2 {
		pairs = append(pairs, `"`+quote.Replace(namesAndValues[i])+`":"`+quote.Replace(namesAndValues[i+1])+`"`)
	}
	return "{" + strings.Join(pairs, ",") + "}"
}

// powerWeChatLayout: PowerWeChat v3.
func powerWeChatLayout(prefix, component string, appSecret secret.String) hashedLayout {
	const token = "powerwechat.access_token."
	return hashedLayout{
		tickets: []hashedKey{{prefix + "powerwechat.open_platform.verify_ticket." + component, 3600 * time.Second}},
		tokens: func(ticket string) []string {
			return []string{prefix + token + md5Hex(component+appSecret.Reveal()+ticket)}
		},
		access: func(appID, refreshToken string) []string {
			return []string{prefix + token + md5Hex(component+refreshToken+appID)}
		},
		decode: jsonToken,
		core:   "powerwechat.open_platform.verify_ticket." + component,
	}
}

func (h *hashed) close() {
	h.redis.close()
	h.table.close()
}

func (h *hashed) platform(ctx context.Context) (platform, error) {
	var p platform
	for _, k := range h.layout.tickets {
		entries, err := h.redis.get(ctx, k.key)
		if err != nil {
			return p, err
		}
		if entries[0].found {
			p = platformOf(entries[0], entry{}, h.layout.decode, k.ttl, time.Now())
			break
		}
	}
	entries, err := h.redis.get(ctx, h.layout.tokens(p.ticket.Reveal())...)
	if err != nil {
		return p, err
	}
	for _, e := range entries {
		if e.found {
			p.token, p.tokenFault = e.value(h.layout.decode)
			p.tokenExpiresAt = e.until
			break
		}
	}
	h.found = !p.ticket.Empty() || !p.token.Empty()
	return p, nil
}

func (h *hashed) authorizers(ctx context.Context, each func([]row) error) error {
	return h.table.authorizers(ctx, func(rows []row) error {
		var keys []string
		var of []int // index of the row of each key
		for i, r := range rows {
			if r.refreshToken.Empty() || r.fault != "" {
				continue
			}
			for _, key := range h.layout.access(r.appID, r.refreshToken.Reveal()) {
				keys, of = append(keys, key), append(of, i)
			}
		}
		entries, err := h.redis.get(ctx, keys...)
		if err != nil {
			return err
		}
		for i, e := range entries {
			r := &rows[of[i]]
			if e.found && r.accessToken.Empty() {
				h.found = true
				r.accessToken, r.accessFault = e.value(h.layout.decode)
				r.accessExpiresAt = e.until
			}
		}
		return each(rows)
	})
}

func (h *hashed) hint(ctx context.Context) string {
	if !h.found {
		return prefixHint(ctx, h.redis, h.layout.core, h.prefix)
	}
	return h.table.hint(ctx)
}
