// Package config owns config.yaml: its keys, their defaults and bounds, and the
// faults a file can have. Load gives a Config in which everything is resolved:
// secrets are read and paths absolute, so that nothing after it looks at files
// or environment again.
package config

import (
	"time"

	"lingpai/tokens/secret"
)

// Config is one configuration, complete and valid when Load returned it
// without faults. It is plain data: copy it, but treat its slices as
// read-only.
type Config struct {
	Listen Listen `yaml:"listen"`
	// Component is the third-party platform; nil means direct accounts only.
	Component *Component `yaml:"component"`
	// Accounts are the direct accounts.
	Accounts []Account `yaml:"accounts"`
	// DefaultAppID is the account meant when a call names none; "" is none.
	DefaultAppID string   `yaml:"default_app_id"`
	Upstream     Upstream `yaml:"upstream"`
	// Routes override the route table that comes with the program.
	Routes []Route `yaml:"routes"`
	Tokens Tokens  `yaml:"tokens"`
	Cache  Cache   `yaml:"cache"`
	Replay Replay  `yaml:"replay"`
	Limits Limits  `yaml:"limits"`
	Store  Store   `yaml:"store"`
	// Coexistence is for services with an SDK of their own that move over.
	Coexistence Coexistence `yaml:"coexistence"`
	Callback    Callback    `yaml:"callback"`
	Log         Log         `yaml:"log"`
	// DrainTimeout is how long calls may still run after SIGTERM.
	DrainTimeout time.Duration `yaml:"drain_timeout"`
}

// Listen holds the addresses of the listeners, host:port or unix:/path; ""
// switches a listener off.
type Listen struct {
	// Proxy is what apps call instead of api.weixin.qq.com; never "".
	Proxy string `yaml:"proxy"`
	// Callback takes WeChat's pushes and serves the authorization pages.
	Callback string `yaml:"callback"`
	// Metrics serves /metrics and the probes.
	Metrics string `yaml:"metrics"`
	// Admin serves the operator API and the console.
	Admin string `yaml:"admin"`
	// Names are further names by which callers reach lingpai itself.
	Names []string `yaml:"names"`
}

// Component is the third-party platform and its credentials.
type Component struct {
	AppID string `yaml:"app_id"`
	// AppSecret, Token and EncodingAESKey are empty for a follower.
	AppSecret secret.String `yaml:"app_secret"`
	// Token is 消息校验Token.
	Token secret.String `yaml:"token"`
	// EncodingAESKey is 消息加解密Key, 43 characters that msgcrypt.ParseKey
	// takes.
	EncodingAESKey secret.String `yaml:"encoding_aes_key"`
	// PreviousEncodingAESKey is empty unless the key is being changed.
	PreviousEncodingAESKey secret.String `yaml:"previous_encoding_aes_key,optional"`
}

// Account is a direct account, served by stable_token.
type Account struct {
	AppID     string        `yaml:"app_id"`
	AppSecret secret.String `yaml:"app_secret"`
}

// Upstream is how WeChat is reached.
type Upstream struct {
	// URL has a scheme and a host and nothing else, not even a final slash.
	URL string `yaml:"url"`
	// Hosts are the names calls may carry.
	Hosts []Host `yaml:"hosts"`
	// CAFile is an absolute path of PEM certificates trusted beside the
	// system's; "" is none.
	CAFile string `yaml:"ca_file"`
	// EgressProxy is http://host:port; "" is none.
	EgressProxy    string        `yaml:"egress_proxy"`
	ConnectTimeout time.Duration `yaml:"connect_timeout"`
	// Timeout is until the first byte of the answer.
	Timeout time.Duration `yaml:"timeout"`
	// IdleTimeout closes a connection that waits for its next call.
	IdleTimeout    time.Duration `yaml:"idle_timeout"`
	MaxConnections int           `yaml:"max_connections"`
}

// Host is a name that calls may carry and where it is served. In YAML it is
// one string, name or name=url.
type Host struct {
	// Name is in lower case and may have a port.
	Name string
	// URL is Upstream.URL unless the entry gives another.
	URL string
}

// Route overrides which token a path takes.
type Route struct {
	Path string `yaml:"path"`
	// Token is component, authorizer, either, user or none.
	Token string `yaml:"token"`
	// Param is access_token or component_access_token; "" goes by Token.
	Param string `yaml:"param"`
}

// Tokens is when tokens are refreshed and how long anyone waits for that.
type Tokens struct {
	// RefreshAhead is how long before expiry a token is renewed.
	RefreshAhead time.Duration `yaml:"refresh_ahead"`
	// RefreshTimeout bounds one call to a token endpoint.
	RefreshTimeout time.Duration `yaml:"refresh_timeout"`
	// WaitTimeout is how long a call waits for a token.
	WaitTimeout time.Duration `yaml:"wait_timeout"`
	// MinRefreshInterval lies between two refreshes of one key that WeChat's
	// refusals forced.
	MinRefreshInterval time.Duration `yaml:"min_refresh_interval"`
}

// Cache bounds the memory for tokens and cached answers.
type Cache struct {
	MaxBytes int64 `yaml:"max_bytes"`
}

// Replay bounds what is kept for sending a call again.
type Replay struct {
	// MaxBody is in bytes; a larger body is streamed and not replayed.
	MaxBody int64 `yaml:"max_body"`
}

// Limits bounds what callers may send. Sizes are in bytes.
type Limits struct {
	MaxBody int64 `yaml:"max_body"`
	// MaxInFlight is the number of calls at one time.
	MaxInFlight int `yaml:"max_in_flight"`
	// MaxHeader is of request line and fields together.
	MaxHeader int64 `yaml:"max_header"`
	// HeaderTimeout is until the fields of a request are complete.
	HeaderTimeout time.Duration `yaml:"header_timeout"`
	// IdleTimeout is of a client connection.
	IdleTimeout time.Duration `yaml:"idle_timeout"`
}

// Store is where tickets and tokens are kept.
type Store struct {
	// Kind is bolt, redis or memory.
	Kind string `yaml:"kind"`
	// Role is refresher or follower: a follower only reads the tokens that others
	// keep in Redis, and holds no secret of the platform.
	Role string `yaml:"role"`
	// Path is the absolute path of bolt's file.
	Path string `yaml:"path"`
	// RedisURL is secret because it may hold a password.
	RedisURL  secret.String `yaml:"redis_url,optional,url"`
	KeyPrefix string        `yaml:"key_prefix"`
	// EncryptionKeys are 32 bytes in Base64 each: the first encrypts, all
	// decrypt.
	EncryptionKeys []secret.String `yaml:"encryption_keys"`
}

// Roles of a sidecar, Store.Role.
const (
	RoleRefresher = "refresher"
	RoleFollower  = "follower"
)

// Follower reports whether the sidecar only reads tokens.
func (s Store) Follower() bool { return s.Role == RoleFollower }

// Coexistence is where the current tokens are published for services that still
// look for them where their SDK keeps them.
type Coexistence struct {
	// WxJavaRedisURL is the Redis of services with WxJava; empty is none.
	WxJavaRedisURL secret.String `yaml:"wxjava_redis_url,optional,url"`
	// WxJavaKeyPrefix is WxJava's key prefix, without the colon behind it; "" is
	// none.
	WxJavaKeyPrefix string `yaml:"wxjava_key_prefix"`
}

// Callback is what WeChat's pushes and the authorization pages need.
type Callback struct {
	// PublicURL is where WeChat and browsers reach Listen.Callback, without a
	// final slash; "" is unknown.
	PublicURL string `yaml:"public_url"`
	// ReturnURLs are prefixes of pages that an authorization may go on to.
	ReturnURLs []string `yaml:"return_urls"`
	// ReturnSecret signs what such a page is called with.
	ReturnSecret secret.String `yaml:"return_secret,optional"`
	// LoginURL is the origin of WeChat's login pages, for tests with a simulator;
	// "" is WeChat.
	LoginURL string `yaml:"login_url"`
	// TrustedProxies are addresses and networks (CIDR) of reverse proxies whose
	// X-Forwarded-For is believed.
	TrustedProxies []string `yaml:"trusted_proxies"`
	// ReleaseTest answers WeChat's release test (全网发布检测).
	ReleaseTest bool `yaml:"release_test"`
	// Forward are the apps that get copies of pushes.
	Forward []Forward `yaml:"forward"`
}

// Forward is one app that gets copies of pushes.
type Forward struct {
	Name string `yaml:"name"`
	URL  string `yaml:"url"`
	// Secret signs what is forwarded.
	Secret secret.String `yaml:"secret"`
	// Events and AppIDs choose the pushes; "*" is all of them.
	Events []string `yaml:"events"`
	AppIDs []string `yaml:"app_ids"`
	// Format is xml or json.
	Format string `yaml:"format"`
	// Reply means that this app's answer is the reply to WeChat; at most one
	// has it.
	Reply bool `yaml:"reply"`
}

// Log is what is logged and how.
type Log struct {
	// Level is debug, info, warn or error.
	Level string `yaml:"level"`
	// Format is json or text.
	Format string `yaml:"format"`
}
