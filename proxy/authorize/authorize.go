// Package authorize serves the pages on which the administrator of a WeChat
// account lets the platform act for it: one with the button that leads to WeChat,
// and the one that WeChat sends the browser back to. They are open to the
// internet, need no script, set no cookie and show no code or token.
//
// # What a visit costs
//
// Each visitor needs a pre_auth_code of their own, which is good once, and the
// button has to be a link on this page, since WeChat looks at the Referer. So the
// code is fetched when the page is shown: then a human clicks once. What is no
// human's visit gets no code: HEAD, prefetching, frames, images and scripts say
// so by their Sec-Fetch fields, which every current browser sends; what does not
// send them (programs, previews of links in chats, browsers of before 2023, pages
// on plain http) gets a page with a button that asks for the code, and that
// counts only with a Referer of this site, without which WeChat would refuse the
// visitor anyway. Beyond that, both calls that a visit makes are limited for each
// client address and in all.
//
// # What an app gets
//
// An app sends the merchant to
//
//	/authorize?return_to=https://app.example.com/wechat&state=…
//
// with type (1 official accounts, 2 mini programs, 3 both, 4, 5, 6 all, 8; 3 if
// absent), biz_appid and category_id_list as it needs them. return_to must begin
// with one of callback.return_urls. state is the app's own, of at most 512 bytes;
// it should be bound to the merchant's session, so that nobody else's result can
// be slipped in. In the end the browser comes to return_to with
//
//	app_id     the account that authorizes the platform, empty if none does
//	result     authorized, other_account (than biz_appid), cancelled or failed
//	state      as given
//	timestamp  seconds since 1970
//	signature  hex(HMAC-SHA256(callback.return_secret,
//	           timestamp + "\n" + app_id + "\n" + result + "\n" + state))
//
// where the values are signed as they are before URL encoding. An app accepts
// them if the signature is right, the timestamp at most 5 min old, and state its
// own; in Python, with q the query's values:
//
//	signed = "\n".join(q[k] for k in ("timestamp", "app_id", "result", "state"))
//	right = hmac.new(secret, signed.encode(), "sha256").hexdigest()
//	if not hmac.compare_digest(right, q["signature"]): abort(403)
//	if abs(time.time() - int(q["timestamp"])) > 300: abort(403)
//	if q["state"] != session.pop("wechat_state"): abort(403)
package authorize

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"lingpai/proxy/link"
	"lingpai/tokens"
	"lingpai/tokens/secret"
)

// Paths of the pages.
const (
	Path     = "/authorize"
	PathDone = "/authorize/done"
)

// visitTimeout bounds the work for one visit.
const visitTimeout = 20 * time.Second

// Config is how the pages work. It can be replaced while they are served.
type Config struct {
	// PublicURL is where browsers reach the pages: https://wx.example.com, on the
	// domain registered with WeChat. "": a page says that it has to be set.
	PublicURL string
	// ReturnURLs are what a return_to must begin with: scheme and host as they
	// are, the path up to the end of a segment. One with a query is matched whole.
	ReturnURLs []string
	// ReturnSecret signs what return_to is called with. Without it no return_to
	// is accepted.
	ReturnSecret secret.String
	// StateSecret protects what travels through WeChat. Sidecars with the same one
	// accept each other's visitors. Required.
	StateSecret secret.String
	// LoginURL is the origin of WeChat's login pages; "": WeChat's own.
	LoginURL string
	// TrustedProxies are the reverse proxies whose X-Forwarded-For is believed.
	// Without them all visitors that come through a proxy are limited as one.
	TrustedProxies []netip.Prefix
}

// Platform is the third-party platform that is authorized. tokens.Service is one.
type Platform interface {
	// ComponentKey names it; false if none is configured.
	ComponentKey() (tokens.Key, bool)
	// PreAuthCode obtains a code for one visitor.
	PreAuthCode(ctx context.Context) (code secret.String, expiresIn time.Duration, err error)
	// Authorize exchanges a code, once. One that was exchanged before for this
	// platform is a success too.
	Authorize(ctx context.Context, code secret.String, link tokens.Link) (tokens.Authorized, error)
}

// Handler serves the pages. Make one with New. Safe for concurrent use.
type Handler struct {
	settings atomic.Pointer[settings]
	platform Platform
	log      *slog.Logger

	// What WeChat is asked for, each with a limit and a pause of its own.
	codes     asking
	exchanges asking
}

// settings is a Config made ready.
type settings struct {
	Config
	base     string // path of PublicURL, without the slash at its end
	host     string // of PublicURL, in lower case
	stateKey []byte
	returnTo []*url.URL
	login    link.Config
}

// New returns a Handler. It fails if a URL in config is none, or StateSecret is
// missing.
func New(config Config, platform Platform, log *slog.Logger) (*Handler, error) {
	h := &Handler{platform: platform, log: log}
	if err := h.Reconfigure(config); err != nil {
		return nil, err
	}
	return h, nil
}

// Reconfigure takes over another configuration; if it fails, the present one
// stays. Visitors on their way keep their links, unless StateSecret changes.
func (h *Handler) Reconfigure(config Config) error {
	s := &settings{Config: config, login: link.Config{PublicURL: config.PublicURL, LoginURL: config.LoginURL}}
	if config.StateSecret.Empty() {
		return errors.New("the secret of the authorization pages is empty")
	}
	s.stateKey = deriveKey(config.StateSecret)
	if config.PublicURL != "" {
		u, err := parseOrigin(config.PublicURL)
		if err != nil {
			return fmt.Errorf("public_url: %w", err)
		}
		s.PublicURL = strings.TrimRight(config.PublicURL, "/")
		s.base, s.host = strings.TrimRight(u.EscapedPath(), "/"), canonicalHost(u)
	}
	for _, prefix := range config.ReturnURLs {
		u, err := parseReturnURL(prefix)
		if err != nil {
			return fmt.Errorf("return_urls: %w", err)
		}
		s.returnTo = append(s.returnTo, u)
	}
	if config.LoginURL != "" {
		if _, err := parseOrigin(config.LoginURL); err != nil {
			return fmt.Errorf("login URL: %w", err)
		}
	}
	h.settings.Store(s)
	return nil
}

// errNotAbsolute means that a URL of the configuration is no http or https URL.
var errNotAbsolute = errors.New("must be a whole http or https URL without query")

func parseOrigin(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errNotAbsolute
	}
	return u, nil
}

// ServeHTTP implements http.Handler for Path and PathDone.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("X-Frame-Options", "DENY")
	header.Set("X-Robots-Tag", "noindex, nofollow")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cross-Origin-Opener-Policy", "same-origin")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	header.Set("Vary", "Accept-Language, User-Agent, Sec-CH-UA-Mobile, Sec-Fetch-Mode, Sec-Fetch-Dest, Sec-Purpose, Referer")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		header.Set("Allow", "GET, HEAD")
		http.Error(w, http.StatusText(http.StatusMethodNotAllowed), http.StatusMethodNotAllowed)
		return
	}
	v := visit{Handler: h, settings: h.settings.Load(), w: w, r: r, lang: languageOf(r.Header.Get("Accept-Language"))}
	_, configured := h.platform.ComponentKey()
	switch {
	case r.URL.Path != Path && r.URL.Path != PathDone:
		http.NotFound(w, r)
	case !configured || v.settings.PublicURL == "":
		v.show(http.StatusServiceUnavailable, v.notice(pageUnconfigured))
	case r.URL.Path == Path:
		v.begin()
	default:
		v.done()
	}
}

// visit is one request for a page.
type visit struct {
	*Handler
	settings *settings
	w        http.ResponseWriter
	r        *http.Request
	lang     language
}
