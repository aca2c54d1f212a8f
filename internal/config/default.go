package config

import (
	"slices"
	"time"
)

const (
	kib = 1 << 10
	mib = 1 << 20
	gib = 1 << 30
)

// replayUnset is replay.max_body in a file that does not say it: no size that
// can be written.
const replayUnset = -1

// replayDefault is its default; where limits.max_body is less, that is.
const replayDefault = 1 * mib

// Default returns the configuration of an empty file: every default, no
// credentials. It is not valid as it stands, since it names neither a
// component nor an account, and Store.Path is still relative.
func Default() Config {
	config := defaults()
	config.resolveReplay()
	config.resolveHosts()
	return config
}

// defaults is Default with hosts that do not name their URL yet, because
// upstream.url may change it, and without replay.max_body, whose default
// limits.max_body may lower.
func defaults() Config {
	return Config{
		Listen: Listen{
			Proxy:    "127.0.0.1:9060",
			Callback: "0.0.0.0:9061",
			Metrics:  "0.0.0.0:9062",
			Admin:    "127.0.0.1:9063",
		},
		Upstream: Upstream{
			URL: "https://api.weixin.qq.com",
			Hosts: []Host{
				{Name: "api.weixin.qq.com"},
				{Name: "api2.weixin.qq.com"},
				{Name: "sh.api.weixin.qq.com"},
				{Name: "sz.api.weixin.qq.com"},
				{Name: "hk.api.weixin.qq.com"},
				{Name: "mp.weixin.qq.com", URL: "https://mp.weixin.qq.com"},
			},
			ConnectTimeout: 5 * time.Second,
			Timeout:        30 * time.Second,
			IdleTimeout:    15 * time.Second,
			MaxConnections: 512,
		},
		Tokens: Tokens{
			RefreshAhead:       10 * time.Minute,
			RefreshTimeout:     10 * time.Second,
			WaitTimeout:        5 * time.Second,
			MinRefreshInterval: 30 * time.Second,
		},
		Cache:  Cache{MaxBytes: 64 * mib},
		Replay: Replay{MaxBody: replayUnset},
		Limits: Limits{
			MaxBody:       32 * mib,
			MaxInFlight:   4096,
			MaxHeader:     16 * kib,
			HeaderTimeout: 10 * time.Second,
			IdleTimeout:   60 * time.Second,
		},
		Store:        Store{Kind: "bolt", Role: RoleRefresher, Path: "lingpai.db", KeyPrefix: "lingpai:"},
		Coexistence:  Coexistence{WxJavaKeyPrefix: "wx:open"},
		Log:          Log{Level: "info", Format: "json"},
		DrainTimeout: 30 * time.Second,
	}
}

// setDefaults gives a new entry of callback.forward its defaults.
func (f *Forward) setDefaults() {
	f.Events = []string{"*"}
	f.AppIDs = []string{"*"}
	f.Format = "xml"
}

// resolveReplay gives replay.max_body its default: a file that lowers
// limits.max_body need not speak of replays too.
func (c *Config) resolveReplay() {
	if c.Replay.MaxBody == replayUnset {
		c.Replay.MaxBody = min(replayDefault, c.Limits.MaxBody)
	}
}

// resolveHosts gives every host without a URL of its own upstream.url.
func (c *Config) resolveHosts() {
	c.Upstream.Hosts = slices.Clone(c.Upstream.Hosts)
	for i := range c.Upstream.Hosts {
		if c.Upstream.Hosts[i].URL == "" {
			c.Upstream.Hosts[i].URL = c.Upstream.URL
		}
	}
}
