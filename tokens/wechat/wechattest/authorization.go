package wechattest

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// Authorization is what an administrator's consent leads to.
type Authorization struct {
	AppID         string    `json:"app_id"`
	UserName      string    `json:"user_name"`
	Code          string    `json:"code"`       // in the redirect
	EventCode     string    `json:"event_code"` // in the event; the same unless Knobs.RedirectCode differs
	PreAuthCode   string    `json:"pre_auth_code"`
	ExpiresAt     time.Time `json:"expires_at"`
	RedirectQuery string    `json:"redirect_query"` // auth_code=…&expires_in=…; "" with OrderRedirectLost
	Pushed        bool      `json:"pushed"`         // the event was acknowledged before this was returned
	PushError     string    `json:"push_error,omitempty"`
	HeldEvent     int       `json:"held_event,omitempty"` // with OrderEventHeld: what ReleaseEvent wants
}

// AuthorizeOption changes an authorization.
type AuthorizeOption func(*consent)

type consent struct {
	preAuthCode, userName, nickName string
	scopes                          []int
	noAPI, noPush                   bool
	pushDelay                       time.Duration
	login                           string // the login page it was given on
	kind                            int    // of the account, as in auth_type; 0: not known
}

// WithPreAuthCode names the pre_auth_code of the link that was followed; it has
// to be an unused, live one. Without it the simulator makes one.
func WithPreAuthCode(code string) AuthorizeOption { return func(c *consent) { c.preAuthCode = code } }

// WithScopes sets the permission sets. Without it they are 1 to 15.
func WithScopes(ids ...int) AuthorizeOption { return func(c *consent) { c.scopes = ids } }

// WithUserName sets the account's gh_ id.
func WithUserName(name string) AuthorizeOption { return func(c *consent) { c.userName = name } }

// WithNickName sets the account's name.
func WithNickName(name string) AuthorizeOption { return func(c *consent) { c.nickName = name } }

// WithoutAPI grants no API permission, so the exchange brings no tokens.
func WithoutAPI() AuthorizeOption { return func(c *consent) { c.noAPI = true } }

// WithoutPush loses the event.
func WithoutPush() AuthorizeOption { return func(c *consent) { c.noPush = true } }

// WithPushDelay pushes the event so long after the redirect.
func WithPushDelay(d time.Duration) AuthorizeOption { return func(c *consent) { c.pushDelay = d } }

// Authorize lets an account authorize the platform, for the first time or
// again: its earlier refresh token dies, its access tokens as
// Knobs.ReauthorizedToken says, and `authorized` is pushed in the order of
// Knobs.PushOrder, unless no event URL is set. A failed push is told in the
// result and is no error.
//
// https://developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/api/Before_Develop/Authorization_Process_Technical_Description.html
func (s *Server) Authorize(ctx context.Context, appID string, options ...AuthorizeOption) (Authorization, error) {
	return s.authorize(ctx, appID, "authorized", true, options)
}

// Reauthorize is Authorize of an account that authorized before.
func (s *Server) Reauthorize(ctx context.Context, appID string, options ...AuthorizeOption) (Authorization, error) {
	return s.authorizeKnown(ctx, appID, "authorized", true, options)
}

// UpdateAuthorize changes the permission sets of an account and pushes
// `updateauthorized` with a new code. The refresh token stays, unless
// Knobs.UpdateChangesRefreshToken.
func (s *Server) UpdateAuthorize(ctx context.Context, appID string, options ...AuthorizeOption) (Authorization, error) {
	return s.authorizeKnown(ctx, appID, "updateauthorized", s.Knobs().UpdateChangesRefreshToken, options)
}

func (s *Server) authorizeKnown(ctx context.Context, appID, event string, renew bool, options []AuthorizeOption) (Authorization, error) {
	s.mu.Lock()
	a := s.authorizers[appID]
	known := a != nil && (event == "authorized" || a.authorized)
	s.mu.Unlock()
	if !known {
		return Authorization{}, fmt.Errorf("%s is not authorized", appID)
	}
	return s.authorize(ctx, appID, event, renew, options)
}

func (s *Server) authorize(ctx context.Context, appID, event string, renew bool, options []AuthorizeOption) (Authorization, error) {
	var c consent
	for _, option := range options {
		option(&c)
	}
	s.mu.Lock()
	if s.done {
		s.mu.Unlock()
		return Authorization{}, fmt.Errorf("simulator is closed")
	}
	out, err := s.consent(appID, renew, c)
	if err != nil {
		s.mu.Unlock()
		return Authorization{}, err
	}
	d := s.planEvent(event, &out, c)
	s.mu.Unlock()
	s.carryOut(ctx, d, &out)
	return out, nil
}

// defaultScopes are the permission sets granted if none are named.
var defaultScopes = []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}

// consent notes an administrator's consent and makes its codes.
func (s *Server) consent(appID string, renew bool, c consent) (Authorization, error) {
	if !appIDForm.MatchString(appID) || appID == s.componentAppID {
		return Authorization{}, fmt.Errorf("appid %q: must be wx and 16 hexadecimal digits, and not the component's", appID)
	}
	now := time.Now()
	if c.preAuthCode == "" {
		c.preAuthCode = s.newPreAuthCode()
	}
	pre := s.preAuthCodes[c.preAuthCode]
	switch {
	case pre == nil:
		return Authorization{}, fmt.Errorf("pre_auth_code is unknown")
	case pre.used && (c.login == "" || pre.by != c.login):
		return Authorization{}, fmt.Errorf("pre_auth_code was used before")
	case !now.Before(pre.expires):
		return Authorization{}, fmt.Errorf("pre_auth_code is expired")
	}
	pre.used, pre.by = true, c.login

	a := s.admit(appID, c)
	if renew || a.refreshToken == "" {
		s.replaceRefreshToken(a, 0)
		a.exchanged = false
		if s.knobs.ReauthorizedToken == TokenDead {
			s.kill(KindAuthorizer, appID, 40001)
		}
	}
	g := &grant{appID: appID, expires: now.Add(time.Duration(s.knobs.AuthCodeLifetime))}
	if a.code != nil {
		a.code.used = true // codes of an earlier consent are worth nothing now
	}
	a.code = g
	out := Authorization{
		AppID: appID, UserName: a.userName, PreAuthCode: c.preAuthCode,
		Code: s.newAuthCode(g), ExpiresAt: g.expires,
	}
	out.EventCode = out.Code
	if s.knobs.RedirectCode == CodeDifferent {
		out.EventCode = s.newAuthCode(g)
	}
	if s.knobs.PushOrder == OrderRedirectLost {
		return out, nil
	}
	out.RedirectQuery = "auth_code=" + url.QueryEscape(out.Code) + "&expires_in=" + strconv.Itoa(s.knobs.AuthCodeLifetime.seconds())
	return out, nil
}

// admit makes or renews an authorizer.
func (s *Server) admit(appID string, c consent) *authorizer {
	a := s.authorizers[appID]
	if a == nil {
		a = &authorizer{appID: appID, userName: s.values.userName(), nickName: "账号 " + appID, scopes: defaultScopes}
		s.authorizers[appID] = a
		s.authOrder = append(s.authOrder, appID)
	}
	if c.userName != "" {
		a.userName = c.userName
	}
	if c.nickName != "" {
		a.nickName = c.nickName
	}
	if c.scopes != nil {
		a.scopes = slices.Clone(c.scopes)
	}
	if c.kind != 0 {
		a.kind = c.kind
	}
	a.noAPI, a.authorized, a.tester, a.authTime = c.noAPI, true, false, time.Now()
	return a
}

func (s *Server) newAuthCode(g *grant) string {
	code := s.values.authCode()
	s.addSecret(code)
	s.authCodes[code] = &authCode{g}
	return code
}

// AddAuthorizer makes an account that authorized the platform in the past and
// whose code was exchanged, without any push, and returns its refresh token. It
// panics if the appid is no valid one.
func (s *Server) AddAuthorizer(appID string, options ...AuthorizeOption) (refreshToken string) {
	refreshToken, err := s.addAuthorizer(appID, options)
	if err != nil {
		panic("wechattest: " + err.Error())
	}
	return refreshToken
}

func (s *Server) addAuthorizer(appID string, options []AuthorizeOption) (string, error) {
	var c consent
	for _, option := range options {
		option(&c)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.consent(appID, true, c); err != nil {
		return "", err
	}
	a := s.authorizers[appID]
	a.code.used, a.exchanged = true, true
	return a.refreshToken, nil
}

// Unauthorize lets an account end its authorization: its tokens and refresh
// token die as the knobs say, and `unauthorized` is pushed, unless no event URL
// is set. It returns the last attempt.
//
// https://developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/api/Before_Develop/authorize_event.html
func (s *Server) Unauthorize(ctx context.Context, appID string, options ...AuthorizeOption) (PushRecord, error) {
	var c consent
	for _, option := range options {
		option(&c)
	}
	s.mu.Lock()
	a := s.authorizers[appID]
	if a == nil || !a.authorized {
		s.mu.Unlock()
		return PushRecord{}, fmt.Errorf("%s is not authorized", appID)
	}
	a.authorized, a.exchanged = false, false
	if a.code != nil {
		a.code.used = true
	}
	if s.knobs.UnauthorizedToken == TokenDead {
		s.kill(KindAuthorizer, appID, 61003)
	}
	p := s.event("unauthorized", appID, s.knobs.EventAttempts, []Field{{Name: "AuthorizerAppid", Value: appID}})
	s.mu.Unlock()
	if c.noPush || p.url == "" {
		return PushRecord{}, nil
	}
	return s.deliver(ctx, p)
}

// PushFastRegister registers a mini program through the platform, which
// authorizes it, and pushes notify_third_fasteregister with its auth_code.
//
// https://developers.weixin.qq.com/doc/oplatform/openApi/OpenApiDoc/register-management/fast-registration-ent/registerMiniprogram.html
func (s *Server) PushFastRegister(ctx context.Context, appID string, options ...AuthorizeOption) (Authorization, error) {
	var c consent
	for _, option := range options {
		option(&c)
	}
	s.mu.Lock()
	out, err := s.consent(appID, true, c)
	if err != nil {
		s.mu.Unlock()
		return Authorization{}, err
	}
	name := s.authorizers[appID].nickName
	p := s.event("notify_third_fasteregister", appID, s.knobs.EventAttempts, []Field{
		{Name: "appid", Value: appID},
		{Name: "status", Value: "0", Number: true},
		{Name: "auth_code", Value: out.EventCode},
		{Name: "msg", Value: "OK"},
		{Name: "info", Children: []Field{
			{Name: "name", Value: name},
			{Name: "code", Value: "91440300MA5EXAMPLE"},
			{Name: "code_type", Value: "1", Number: true},
			{Name: "legal_persona_wechat", Value: "example"},
			{Name: "legal_persona_name", Value: "示例"},
			{Name: "component_phone", Value: "13800000000"},
		}},
	})
	s.mu.Unlock()
	if c.noPush || p.url == "" {
		return out, nil
	}
	_, err = s.deliver(ctx, p)
	out.Pushed = err == nil
	if err != nil {
		out.PushError = err.Error()
	}
	return out, nil
}
