package config

import (
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"lingpai/tokens/msgcrypt"
	"lingpai/tokens/secret"
)

// validate reports what the decoded values cannot mean, one by one and
// together. Values that could not be decoded are their defaults here, and
// faults about them are dropped.
func (l *loader) validate(c *Config) {
	l.validateListen(c)
	l.validateAccounts(c)
	l.validateUpstream(&c.Upstream)
	l.validateRoutes(c.Routes)
	l.validateTokens(&c.Tokens)
	l.validateSizes(c)
	l.validateStore(&c.Store)
	l.validateCoexistence(c)
	l.validateCallback(&c.Callback)
	l.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	l.oneOf("log.format", c.Log.Format, "json", "text")
	l.duration24h("drain_timeout", c.DrainTimeout)
}

// resolve makes a valid configuration complete.
func (l *loader) resolve(c *Config) {
	for _, address := range []*string{&c.Listen.Proxy, &c.Listen.Admin} {
		if path, ok := strings.CutPrefix(*address, "unix:"); ok {
			*address = "unix:" + l.absolute(path)
		}
	}
	for i, name := range c.Listen.Names {
		c.Listen.Names[i] = normalName(name)
	}
	c.Upstream.CAFile = l.absolute(c.Upstream.CAFile)
	c.Store.Path = l.absolute(c.Store.Path)
	c.resolveReplay()
	c.resolveURLs()
	c.resolveHosts()
}

// appIDPattern is the shape of an app id. Those WeChat gives out today are wx
// and 16 hexadecimal digits.
var appIDPattern = regexp.MustCompile(`^wx[0-9a-zA-Z]{4,40}$`)

// appID reports whether the app id of key has the right shape. The value is not
// repeated: it may be a secret in the wrong line.
func (l *loader) appID(key, value string) bool {
	switch {
	case value == "":
		l.fault(key, "is missing: write the app id, such as wx0123456789abcdef")
	case !appIDPattern.MatchString(value):
		l.fault(key, "is no app id: write one such as wx0123456789abcdef")
	default:
		return !l.broken[key]
	}
	return false
}

// required reports a secret that is not there.
func (l *loader) required(key string, value secret.String, what string) {
	if value.Empty() {
		l.fault(key, "is missing: %s of %s", howToRefer, what)
	}
}

// secretOf is required for a sidecar that refreshes. A follower must not hold the
// secret.
func (l *loader) secretOf(c *Config, key string, value secret.String, what string) {
	if !c.Store.Follower() {
		l.required(key, value, what)
	} else if !value.Empty() {
		l.fault(key, "is given, but with store.role follower no secret is held: remove it")
	}
}

// validateAccounts is about component, accounts and default_app_id.
func (l *loader) validateAccounts(c *Config) {
	if c.Component == nil && len(c.Accounts) == 0 {
		if !l.brokenUnder("component") && !l.brokenUnder("accounts") {
			l.fault("component", "is missing, and so is accounts: write the platform's credentials below component, or direct accounts below accounts")
		}
		return
	}
	first := map[string]string{} // app id to the key that has it first
	if c.Component != nil {
		l.validateComponent(c, c.Component)
		first[c.Component.AppID] = "component.app_id"
	}
	for i, account := range c.Accounts {
		key := fmt.Sprintf("accounts[%d]", i)
		if l.broken[key] {
			continue
		}
		l.secretOf(c, key+".app_secret", account.AppSecret, "this account")
		if !l.appID(key+".app_id", account.AppID) {
			continue
		}
		if earlier, taken := first[account.AppID]; taken {
			l.fault(key+".app_id", "is the same as %s: remove one", earlier)
			continue
		}
		first[account.AppID] = key + ".app_id"
	}
	if c.DefaultAppID == "" || !l.appID("default_app_id", c.DefaultAppID) {
		return
	}
	switch _, known := first[c.DefaultAppID]; {
	case c.Component != nil && c.DefaultAppID == c.Component.AppID:
		l.fault("default_app_id", "is the component's own app id: write that of an authorizer or direct account")
	case c.Component == nil && !known && !l.brokenUnder("component") && !l.brokenUnder("accounts"):
		l.fault("default_app_id", "is none of accounts, and without component there are no others: write one of them")
	}
}

func (l *loader) validateComponent(config *Config, c *Component) {
	l.appID("component.app_id", c.AppID)
	l.secretOf(config, "component.app_secret", c.AppSecret, "the component's AppSecret")
	l.secretOf(config, "component.token", c.Token, "the message verification token (消息校验Token)")
	l.secretOf(config, "component.encoding_aes_key", c.EncodingAESKey, "the message encryption key (消息加解密Key)")
	for key, value := range map[string]secret.String{
		"component.encoding_aes_key":          c.EncodingAESKey,
		"component.previous_encoding_aes_key": c.PreviousEncodingAESKey,
	} {
		if _, err := msgcrypt.ParseKey(value.Reveal()); err != nil && !value.Empty() {
			l.fault(key, "%s: copy it from WeChat's console", err)
		}
	}
	if !c.PreviousEncodingAESKey.Empty() && c.PreviousEncodingAESKey.Equal(c.EncodingAESKey) {
		l.fault("component.previous_encoding_aes_key", `is the same as encoding_aes_key: write the key used before, or ""`)
	}
}

var (
	routeTokens = []string{"component", "authorizer", "either", "user", "none"}
	routeParams = []string{"access_token", "component_access_token"}
)

func (l *loader) validateRoutes(routes []Route) {
	first := map[string]int{}
	for i, route := range routes {
		key := fmt.Sprintf("routes[%d]", i)
		if l.broken[key] {
			continue
		}
		switch {
		case route.Path == "":
			l.fault(key+".path", "is missing: write a path such as /cgi-bin/user/info")
		case route.Path[0] != '/':
			l.fault(key+".path", "does not begin with /: write a path such as /cgi-bin/user/info")
		case strings.ContainsAny(route.Path, "?# "):
			l.fault(key+".path", "holds more than a path: write it without query, fragment and spaces")
		default:
			if earlier, taken := first[route.Path]; taken {
				l.fault(key+".path", "is the same as routes[%d].path: remove one", earlier)
			} else {
				first[route.Path] = i
			}
		}
		l.oneOf(key+".token", route.Token, routeTokens...)
		if route.Param == "" {
			continue
		}
		if route.Token == "none" || route.Token == "user" {
			l.fault(key+".param", "means nothing where token is %s: remove it", route.Token)
		}
		l.oneOf(key+".param", route.Param, routeParams...)
	}
}

func (l *loader) validateTokens(t *Tokens) {
	l.duration24h("tokens.refresh_ahead", t.RefreshAhead)
	l.duration24h("tokens.refresh_timeout", t.RefreshTimeout)
	l.duration24h("tokens.wait_timeout", t.WaitTimeout)
	l.duration24h("tokens.min_refresh_interval", t.MinRefreshInterval)
}

// validateSizes is about cache, replay and limits.
func (l *loader) validateSizes(c *Config) {
	l.sizeBetween("cache.max_bytes", c.Cache.MaxBytes, 1*mib, 1024*gib)
	l.sizeBetween("limits.max_body", c.Limits.MaxBody, 1*kib, 16*gib)
	l.sizeBetween("limits.max_header", c.Limits.MaxHeader, 1*kib, 1*mib)
	l.numberBetween("limits.max_in_flight", c.Limits.MaxInFlight, 1, 1_000_000)
	l.duration24h("limits.header_timeout", c.Limits.HeaderTimeout)
	l.duration24h("limits.idle_timeout", c.Limits.IdleTimeout)
	if c.Replay.MaxBody > c.Limits.MaxBody && !l.broken["replay.max_body"] && !l.broken["limits.max_body"] {
		l.fault("replay.max_body", "is %s, more than limits.max_body: write at most %s",
			formatSize(c.Replay.MaxBody), formatSize(c.Limits.MaxBody))
	}
}

func (l *loader) validateStore(s *Store) {
	l.oneOf("store.kind", s.Kind, "bolt", "redis", "memory")
	l.oneOf("store.role", s.Role, RoleRefresher, RoleFollower)
	if s.Follower() && s.Kind != "redis" && !l.broken["store.kind"] {
		l.fault("store.role", "is follower, but nobody else writes into a store of kind %s: write kind: redis, or role: refresher", s.Kind)
	}
	switch {
	case s.Kind == "bolt" && s.Path == "":
		l.fault("store.path", "is missing: write the file for bolt, such as lingpai.db")
	case s.Kind == "redis" && s.RedisURL.Empty():
		l.fault("store.redis_url", "is missing: write redis://host:6379, or env:NAME or file:/path where it holds a password")
	}
	if !s.RedisURL.Empty() && !redisURL.MatchString(s.RedisURL.Reveal()) {
		l.fault("store.redis_url", "is no Redis URL: it begins with redis://, rediss:// or unix://")
	}
	for i, encryptionKey := range s.EncryptionKeys {
		key := fmt.Sprintf("store.encryption_keys[%d]", i)
		raw, err := base64.StdEncoding.DecodeString(encryptionKey.Reveal())
		switch {
		case err != nil || len(raw) != 32:
			l.fault(key, "is not 32 bytes in Base64: make one with lingpai keygen")
		case slices.ContainsFunc(s.EncryptionKeys[:i], encryptionKey.Equal):
			l.fault(key, "is the same key as an earlier one: remove one")
		}
	}
}

func (l *loader) validateCoexistence(c *Config) {
	url := c.Coexistence.WxJavaRedisURL
	switch {
	case url.Empty():
	case !redisURL.MatchString(url.Reveal()):
		l.fault("coexistence.wxjava_redis_url", "is no Redis URL: it begins with redis://, rediss:// or unix://")
	case c.Component == nil && !l.brokenUnder("component"):
		l.fault("coexistence.wxjava_redis_url", "means nothing without component: remove it")
	case c.Store.Follower():
		l.fault("coexistence.wxjava_redis_url", "means nothing with store.role follower: a sidecar that refreshes publishes the tokens; remove it")
	}
}

// caFile reports a file that is not there or holds no certificate.
func (l *loader) caFile(key, path string) {
	if path == "" {
		return
	}
	data, problem := readRegular(l.absolute(path), 8*mib)
	switch {
	case problem != "":
		l.fault(key, "%s: %s", l.absolute(path), problem)
	case !x509.NewCertPool().AppendCertsFromPEM(data):
		l.fault(key, "%s holds no certificate in PEM: name a file with -----BEGIN CERTIFICATE-----", l.absolute(path))
	}
}

func (l *loader) oneOf(key, value string, allowed ...string) {
	list := strings.Join(allowed, ", ")
	switch {
	case value == "":
		l.fault(key, "is missing: write one of %s", list)
	case !slices.Contains(allowed, value):
		l.fault(key, "%s is unknown: write one of %s", show(value), list)
	}
}

// duration24h holds durations to what a wait can sensibly be: all of them are
// waits, and 0 would mean both never and for ever.
func (l *loader) duration24h(key string, d time.Duration) {
	if d < time.Millisecond || d > 24*time.Hour {
		l.fault(key, "is %s: write a duration from 1ms to 24h", d)
	}
}

func (l *loader) sizeBetween(key string, n, least, most int64) {
	if n < least || n > most {
		l.fault(key, "is %s: write a size from %s to %s", formatSize(n), formatSize(least), formatSize(most))
	}
}

func (l *loader) numberBetween(key string, n, least, most int) {
	if n < least || n > most {
		l.fault(key, "is %d: write a number from %d to %d", n, least, most)
	}
}
