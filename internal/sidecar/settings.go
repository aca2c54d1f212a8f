package sidecar

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"

	"lingpai/internal/config"
	"lingpai/proxy"
	"lingpai/proxy/authorize"
	"lingpai/proxy/callback"
	"lingpai/proxy/route"
	"lingpai/tokens"
	"lingpai/tokens/msgcrypt"
	"lingpai/tokens/secret"
	"lingpai/tokens/wechat"
)

// settings is a configuration taken apart for the packages that live by it.
type settings struct {
	proxy    proxy.Config
	server   proxy.ServerConfig
	tokens   tokens.Config
	callback *callback.Config  // nil without component
	pages    *authorize.Config // nil without component
}

func newSettings(c config.Config) (settings, error) {
	roots, err := rootsOf(c.Upstream.CAFile)
	if err != nil {
		return settings{}, err
	}
	client, err := transport(c.Upstream, roots)
	if err != nil {
		return settings{}, err
	}
	s := settings{
		proxy: proxy.Config{
			Upstream: proxy.UpstreamConfig{
				URL:            c.Upstream.URL,
				Hosts:          map[string]string{},
				Roots:          roots,
				EgressProxy:    c.Upstream.EgressProxy,
				ConnectTimeout: c.Upstream.ConnectTimeout,
				Timeout:        c.Upstream.Timeout,
				IdleTimeout:    c.Upstream.IdleTimeout,
				MaxConnections: c.Upstream.MaxConnections,
			},
			Routes:        routesOf(c.Routes),
			Names:         c.Listen.Names,
			DefaultAppID:  c.DefaultAppID,
			ReplayMaxBody: c.Replay.MaxBody,
			MaxBody:       c.Limits.MaxBody,
			MaxInFlight:   c.Limits.MaxInFlight,
			Credentials:   proxy.Credentials{Accounts: map[string]secret.String{}},
			Follower:      c.Store.Follower(),
			PublicURL:     c.Callback.PublicURL,
			LoginURL:      c.Callback.LoginURL,
			CacheBytes:    answerBytes(c.Cache),
		},
		server: proxy.ServerConfig{
			MaxHeader:     int(c.Limits.MaxHeader),
			HeaderTimeout: c.Limits.HeaderTimeout,
			IdleTimeout:   c.Limits.IdleTimeout,
			MaxBody:       c.Limits.MaxBody,
		},
		tokens: tokens.Config{
			Accounts:           map[string]secret.String{},
			RefreshAhead:       c.Tokens.RefreshAhead,
			RefreshTimeout:     c.Tokens.RefreshTimeout,
			WaitTimeout:        c.Tokens.WaitTimeout,
			MinRefreshInterval: c.Tokens.MinRefreshInterval,
			Client:             wechat.NewClient(client, c.Upstream.URL, c.Tokens.RefreshTimeout),
			Follower:           c.Store.Follower(),
		},
	}
	for _, host := range c.Upstream.Hosts {
		s.proxy.Upstream.Hosts[host.Name] = host.URL
	}
	for _, account := range c.Accounts {
		s.tokens.Accounts[account.AppID] = account.AppSecret
		s.proxy.Credentials.Accounts[account.AppID] = account.AppSecret
	}
	if c.Component != nil {
		s.proxy.Credentials.ComponentAppSecret = c.Component.AppSecret
		s.tokens.Component = &tokens.ComponentConfig{AppID: c.Component.AppID, AppSecret: c.Component.AppSecret}
		if !c.Store.Follower() { // which has no key to read a push with
			s.callback, err = callbackOf(*c.Component)
			if err == nil {
				s.callback.ReleaseTest = c.Callback.ReleaseTest
			}
		}
	}
	if err == nil {
		s.pages, err = pagesOf(c)
	}
	return s, err
}

func callbackOf(c config.Component) (*callback.Config, error) {
	s := &callback.Config{AppID: c.AppID, Token: c.Token}
	for _, text := range []secret.String{c.EncodingAESKey, c.PreviousEncodingAESKey} {
		if text.Empty() {
			continue
		}
		key, err := msgcrypt.ParseKey(text.Reveal())
		if err != nil {
			return nil, err
		}
		s.Keys = append(s.Keys, key)
	}
	return s, nil
}

func routesOf(rules []config.Route) *route.Table {
	overrides := map[string]route.Rule{}
	for _, r := range rules {
		token, _ := route.ParseToken(r.Token) // checked with the file
		rule := route.Rule{Token: token, Param: route.DefaultParam(r.Path, token)}
		switch r.Param {
		case route.AccessToken.String():
			rule.Param = route.AccessToken
		case route.ComponentAccessToken.String():
			rule.Param = route.ComponentAccessToken
		}
		overrides[r.Path] = rule
	}
	return route.Builtin().With(overrides)
}

// rootsOf returns the system's certificates and those of a file; nil, which
// means the system's, if there is no file.
func rootsOf(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("upstream.ca_file: %w", err)
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("upstream.ca_file %s holds no certificate", file)
	}
	return roots, nil
}

// Transport reaches WeChat as a sidecar of that configuration does. The error is
// an ErrConfig.
func Transport(c config.Upstream) (*http.Transport, error) {
	roots, err := rootsOf(c.CAFile)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	t, err := transport(c, roots)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return t, nil
}

// transport reaches WeChat for lingpai's own calls as the proxy does for the
// apps'. It asks no environment variable for a proxy: they are the apps'.
func transport(c config.Upstream, roots *x509.CertPool) (*http.Transport, error) {
	t := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: c.ConnectTimeout}).DialContext,
		TLSClientConfig:     &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(256)},
		TLSHandshakeTimeout: c.ConnectTimeout,
		IdleConnTimeout:     c.IdleTimeout,
		// Many tokens may lapse at once, and a handshake costs more than a refresh.
		MaxIdleConnsPerHost: 256,
		DisableCompression:  true,
	}
	if c.EgressProxy != "" {
		egress, err := url.Parse(c.EgressProxy)
		if err != nil {
			return nil, errors.New("upstream.egress_proxy is not a URL") // the error would quote a password
		}
		t.Proxy = http.ProxyURL(egress)
	}
	return t, nil
}

// answerBytes is the part of cache.max_bytes that kept answers may take; the
// rest is for tokens.
func answerBytes(c config.Cache) int64 { return c.MaxBytes / 8 }

func tokenBytes(c config.Cache) int64 { return c.MaxBytes - answerBytes(c) }
