package wechattest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Duration is a time.Duration that JSON shows as a Go duration string: "300s".
type Duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler. Negative values are
// refused.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil || v < 0 {
		return fmt.Errorf("%q is no duration: write it as 300s, 10m or 2h", text)
	}
	*d = Duration(v)
	return nil
}

func (d Duration) seconds() int { return int(time.Duration(d) / time.Second) }

// Values of [Knobs.OlderTokens].
const (
	OlderLive = "live" // each superseded token keeps its own overlap
	OlderDead = "dead" // only the newest and the one before it live
)

// Values of [Knobs.RefreshToken].
const (
	RefreshTokenSame    = "same"
	RefreshTokenRotated = "rotated" // the old one lives for RefreshTokenGrace
	RefreshTokenEmpty   = "empty"   // the field is "": the old one stays good
	RefreshTokenAbsent  = "absent"  // no such field: the old one stays good
)

// Values of [Knobs.ReauthorizedToken] and [Knobs.UnauthorizedToken].
const (
	TokenDead = "dead"
	TokenLive = "live"
)

// Values of [Knobs.RedirectCode].
const (
	CodeSame      = "same"      // redirect and event carry one code
	CodeDifferent = "different" // two codes; using one spends both
)

// Values of [Knobs.PushOrder].
const (
	OrderEventFirst    = "event_first"    // the event is answered before the redirect is known
	OrderRedirectFirst = "redirect_first" // the event follows after one second
	OrderEventLate     = "event_late"     // the event follows after EventDelay
	OrderEventTwice    = "event_twice"
	OrderEventLost     = "event_lost"
	OrderEventHeld     = "event_held"    // the event waits for ReleaseEvents
	OrderRedirectLost  = "redirect_lost" // the event is answered, the browser never returns
)

var pushOrders = []string{
	OrderEventFirst, OrderRedirectFirst, OrderEventLate, OrderEventTwice, OrderEventLost, OrderEventHeld, OrderRedirectLost,
}

// Values of [Knobs.ReauthorizeEvent].
const (
	ReauthorizeAsChanged = "as_changed" // updateauthorized if the permission sets changed, else none
	ReauthorizeNew       = "authorized"
	ReauthorizeUpdate    = "updateauthorized"
)

// Values of [Knobs.PreAuthCodeUse].
const (
	UseOnSubmit = "submit" // Confirm and Cancel use it up, the page may be loaded again
	UseOnVisit  = "visit"  // loading the page uses it up: only that one page goes on
)

// Values of [Knobs.Ticket].
const (
	TicketEverySecond = "new_each_second_push" // as seen in reality: each ticket is pushed twice
	TicketNew         = "new"
	TicketSame        = "same"
	TicketGarbage     = "garbage" // pushed, but api_component_token refuses it
	TicketNone        = "none"    // PushTicket pushes nothing
)

// Values of [Knobs.ComponentQueryName].
const (
	QueryNameBoth      = "both"
	QueryNameAccess    = "access_token"
	QueryNameComponent = "component_access_token"
)

// Values of [Knobs.ErrcodeType].
const (
	ErrcodeNumber = "number"
	ErrcodeString = "string"
)

// Values of [Knobs.ComponentErrcodes].
const (
	ErrcodesCommon    = "common"    // 40001, 42001
	ErrcodesComponent = "component" // 40094, 42006
)

// NoContentType as [Knobs.JSONContentType] sends JSON without a Content-Type.
const NoContentType = "none"

// Knobs are the points on which WeChat's behaviour is unknown or varies, and
// the numbers that tests want to change. [DefaultKnobs] has the values in use
// for zero Options; the zero Knobs is not valid.
type Knobs struct {
	ComponentTokenLifetime  Duration `json:"component_token_lifetime"`
	AuthorizerTokenLifetime Duration `json:"authorizer_token_lifetime"`
	AccountTokenLifetime    Duration `json:"account_token_lifetime"`
	JSTicketLifetime        Duration `json:"js_ticket_lifetime"`
	UserTokenLifetime       Duration `json:"user_token_lifetime"`
	TicketValidity          Duration `json:"ticket_validity"`
	PreAuthCodeLifetime     Duration `json:"pre_auth_code_lifetime"`
	AuthCodeLifetime        Duration `json:"auth_code_lifetime"`

	ComponentOverlap  Duration `json:"component_overlap"`  // life of the previous component token
	AuthorizerOverlap Duration `json:"authorizer_overlap"` // life of the previous authorizer token
	AccountOverlap    Duration `json:"account_overlap"`    // life of the previous token of /cgi-bin/token
	OlderTokens       string   `json:"older_tokens"`       // first of three within the overlap: live, dead

	RefreshToken              string   `json:"refresh_token"` // same, rotated, empty, absent
	RefreshTokenGrace         Duration `json:"refresh_token_grace"`
	UpdateChangesRefreshToken bool     `json:"update_changes_refresh_token"` // does updateauthorized alone change it
	ReauthorizedToken         string   `json:"reauthorized_token"`           // access token after re-authorisation: dead, live
	UnauthorizedToken         string   `json:"unauthorized_token"`           // access token after unauthorized: dead (61003), live
	UnauthorizedErrcode       int      `json:"unauthorized_errcode"`         // of a refresh after unauthorized: 61003, 61023
	RedirectCode              string   `json:"redirect_code"`                // same, different
	ReauthorizeEvent          string   `json:"reauthorize_event"`            // after a login page's Confirm for an account that is authorized

	LoginDomain    string `json:"login_domain"`      // 授权发起页域名; "": any, but entry page and redirect_uri must agree
	LoginReferer   bool   `json:"login_referer"`     // login pages look at the Referer
	RedirectHTTPS  bool   `json:"redirect_https"`    // login pages refuse a redirect_uri of http
	PreAuthCodeUse string `json:"pre_auth_code_use"` // submit, visit

	Ticket               string   `json:"ticket"` // see TicketEverySecond and the like
	OnlyNewestTicket     bool     `json:"only_newest_ticket"`
	TicketInterval       Duration `json:"ticket_interval"`
	TicketAttempts       int      `json:"ticket_attempts"`
	EventAttempts        int      `json:"event_attempts"`
	MessageAttempts      int      `json:"message_attempts"`
	PushRetryInterval    Duration `json:"push_retry_interval"`
	PushPauseAfterFailed Duration `json:"push_pause_after_failed"` // MarkFail: no pushes for so long after a failed one
	PushOrder            string   `json:"push_order"`
	EventDelay           Duration `json:"event_delay"` // of OrderEventLate
	XMLSlip              bool     `json:"xml_slip"`    // close events with <xml>, as two of the page's examples do

	TokenLatency       Duration `json:"token_latency"`     // of calls that bring a token or a code
	CallLatency        Duration `json:"call_latency"`      // of all other calls
	Spurious40001      int      `json:"spurious_40001"`    // so many calls with a live token are refused
	RefuseChunked      bool     `json:"refuse_chunked"`    // HTTP 412 for chunked request bodies
	IdleTimeout        Duration `json:"idle_timeout"`      // of connections; read once, by HTTPServer
	CloseAfterReply    bool     `json:"close_after_reply"` // says so in the reply; a short IdleTimeout closes without a word
	JSONContentType    string   `json:"json_content_type"`
	ErrcodeType        string   `json:"errcode_type"` // number, string
	ComponentQueryName string   `json:"component_query_name"`
	ComponentErrcodes  string   `json:"component_errcodes"` // for dead component tokens: common, component

	IPWhitelist  []string       `json:"ip_whitelist"`  // empty admits everyone; else 61004 and 40164
	Quotas       map[string]int `json:"quotas"`        // calls a day by path
	DefaultQuota int            `json:"default_quota"` // calls a day of paths not in Quotas; 0 is no limit
}

// DefaultKnobs returns the defaults: what WeChat documents, and the worse of
// two possibilities where the sources contradict each other.
func DefaultKnobs() Knobs {
	const hour, minute = Duration(time.Hour), Duration(time.Minute)
	return Knobs{
		ComponentTokenLifetime:  2 * hour,
		AuthorizerTokenLifetime: 2 * hour,
		AccountTokenLifetime:    2 * hour,
		JSTicketLifetime:        2 * hour,
		UserTokenLifetime:       2 * hour,
		TicketValidity:          12 * hour,
		PreAuthCodeLifetime:     30 * minute,
		AuthCodeLifetime:        hour,
		ComponentOverlap:        5 * minute,
		AccountOverlap:          5 * minute,
		OlderTokens:             OlderLive,
		RefreshToken:            RefreshTokenSame,
		RefreshTokenGrace:       5 * minute,
		ReauthorizedToken:       TokenDead,
		UnauthorizedToken:       TokenDead,
		UnauthorizedErrcode:     61003,
		RedirectCode:            CodeSame,
		ReauthorizeEvent:        ReauthorizeAsChanged,
		LoginReferer:            true,
		PreAuthCodeUse:          UseOnSubmit,
		Ticket:                  TicketEverySecond,
		TicketInterval:          10 * minute,
		TicketAttempts:          3,
		EventAttempts:           1,
		MessageAttempts:         3,
		PushRetryInterval:       Duration(time.Second),
		PushOrder:               OrderEventFirst,
		EventDelay:              Duration(30 * time.Second),
		TokenLatency:            Duration(100 * time.Millisecond),
		RefuseChunked:           true,
		IdleTimeout:             Duration(20 * time.Second),
		JSONContentType:         "application/json; encoding=utf-8",
		ErrcodeType:             ErrcodeNumber,
		ComponentQueryName:      QueryNameBoth,
		ComponentErrcodes:       ErrcodesCommon,
		Quotas: map[string]int{
			pathComponentToken: 10_000,
			pathToken:          2_000,
			pathStableToken:    500_000,
		},
	}
}

// clone returns a copy that shares nothing.
func (k Knobs) clone() Knobs {
	k.IPWhitelist = slices.Clone(k.IPWhitelist)
	k.Quotas = maps.Clone(k.Quotas)
	return k
}

// Validate returns an error that names the first knob without a usable value.
func (k Knobs) Validate() error {
	for _, c := range []struct {
		name, value string
		allowed     []string
	}{
		{"older_tokens", k.OlderTokens, []string{OlderLive, OlderDead}},
		{"refresh_token", k.RefreshToken, []string{RefreshTokenSame, RefreshTokenRotated, RefreshTokenEmpty, RefreshTokenAbsent}},
		{"reauthorized_token", k.ReauthorizedToken, []string{TokenDead, TokenLive}},
		{"unauthorized_token", k.UnauthorizedToken, []string{TokenDead, TokenLive}},
		{"redirect_code", k.RedirectCode, []string{CodeSame, CodeDifferent}},
		{"ticket", k.Ticket, []string{TicketEverySecond, TicketNew, TicketSame, TicketGarbage, TicketNone}},
		{"push_order", k.PushOrder, pushOrders},
		{"reauthorize_event", k.ReauthorizeEvent, []string{ReauthorizeAsChanged, ReauthorizeNew, ReauthorizeUpdate}},
		{"pre_auth_code_use", k.PreAuthCodeUse, []string{UseOnSubmit, UseOnVisit}},
		{"errcode_type", k.ErrcodeType, []string{ErrcodeNumber, ErrcodeString}},
		{"component_query_name", k.ComponentQueryName, []string{QueryNameBoth, QueryNameAccess, QueryNameComponent}},
		{"component_errcodes", k.ComponentErrcodes, []string{ErrcodesCommon, ErrcodesComponent}},
	} {
		if !slices.Contains(c.allowed, c.value) {
			return fmt.Errorf("knob %s: %q is not one of %q", c.name, c.value, c.allowed)
		}
	}
	for _, c := range []struct {
		name  string
		value Duration
	}{
		{"component_token_lifetime", k.ComponentTokenLifetime},
		{"authorizer_token_lifetime", k.AuthorizerTokenLifetime},
		{"account_token_lifetime", k.AccountTokenLifetime},
		{"js_ticket_lifetime", k.JSTicketLifetime},
		{"user_token_lifetime", k.UserTokenLifetime},
		{"ticket_validity", k.TicketValidity},
		{"pre_auth_code_lifetime", k.PreAuthCodeLifetime},
		{"auth_code_lifetime", k.AuthCodeLifetime},
		{"ticket_interval", k.TicketInterval},
	} {
		if c.value < Duration(time.Second) {
			return fmt.Errorf("knob %s: must be at least 1s", c.name)
		}
	}
	if strings.ContainsAny(k.LoginDomain, "/:@ ") {
		return fmt.Errorf("knob login_domain: must be a host name alone, like wx.example.com")
	}
	if k.UnauthorizedErrcode != 61003 && k.UnauthorizedErrcode != 61023 {
		return fmt.Errorf("knob unauthorized_errcode: must be 61003 or 61023")
	}
	for _, c := range []struct {
		name  string
		value int
	}{
		{"ticket_attempts", k.TicketAttempts},
		{"event_attempts", k.EventAttempts},
		{"message_attempts", k.MessageAttempts},
		{"spurious_40001", k.Spurious40001},
		{"default_quota", k.DefaultQuota},
	} {
		if c.value < 0 {
			return fmt.Errorf("knob %s: must not be negative", c.name)
		}
	}
	return nil
}
