package wechattest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// Login is a login page that was opened.
type Login struct {
	ID          string         `json:"id"`
	Form        string         `json:"form"` // pc, mobile, mobile_old
	Status      LoginStatus    `json:"status"`
	OpenedAt    time.Time      `json:"opened_at"`
	EntryHost   string         `json:"entry_host"` // by the Referer
	PreAuthCode string         `json:"pre_auth_code"`
	RedirectURI string         `json:"redirect_uri"`
	AuthType    int            `json:"auth_type"`
	BizAppID    string         `json:"biz_app_id"`
	CategoryIDs []int          `json:"category_ids"`
	Accounts    []LoginAccount `json:"accounts"`         // that may be picked
	AppID       string         `json:"app_id,omitempty"` // that authorized
}

func (s *Server) loginState(l *login) Login {
	out := Login{
		ID: l.id, Form: l.form, Status: l.status, OpenedAt: l.opened, EntryHost: l.entry, PreAuthCode: l.preAuthCode,
		RedirectURI: l.redirectURI, AuthType: l.authType, BizAppID: l.bizAppID, CategoryIDs: append([]int{}, l.categories...),
		Accounts: append([]LoginAccount{}, s.offered(l)...), AppID: l.appID,
	}
	if l.status == LoginPending && s.checkPreAuthCode(l) != nil {
		out.Status = LoginSpent
	}
	return out
}

// Logins returns the login pages that were opened, oldest first; the last
// 10000.
func (s *Server) Logins() []Login {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []Login{}
	for _, l := range s.loginOrder {
		out = append(out, s.loginState(l))
	}
	return out
}

// OpenLogin opens a login link as a browser would that came from referer. Of
// the link only path and query count. A link that WeChat refuses gives a
// *Refusal.
func (s *Server) OpenLogin(link, referer string) (Login, error) {
	u, err := url.Parse(link)
	if err != nil || loginForms[u.Path] == "" {
		return Login{}, fmt.Errorf("url is no login link: its path is none of %s, %s, %s", pathLoginPC, pathLoginMobile, pathLoginMobileOld)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l, refused := s.openLogin(loginForms[u.Path], u.Query(), referer)
	if refused != nil {
		return Login{}, refused
	}
	return s.loginState(l), nil
}

// ConfirmLogin is the click on Confirm by the administrator of an account, as
// Knobs.PushOrder says. No scopes mean all that the page offers for the
// account. A page that cannot go on gives a *Refusal.
func (s *Server) ConfirmLogin(ctx context.Context, id, appID string, scopes ...int) (AuthorizeReply, error) {
	s.mu.Lock()
	c, refused := s.confirmLogin(id, appID, scopes)
	s.mu.Unlock()
	if refused != nil {
		return AuthorizeReply{}, refused
	}
	s.carryOut(ctx, c.d, &c.Authorization)
	return c.AuthorizeReply, nil
}

// CancelLogin is the click on Cancel: the pre_auth_code is used up, and the
// platform learns nothing.
func (s *Server) CancelLogin(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if refused := s.cancelLogin(id); refused != nil {
		return refused
	}
	return nil
}

// LoginRequest is the body of the control API's logins, logins/confirm and
// logins/cancel: a page that is open, or a link to open first.
type LoginRequest struct {
	Login   string  `json:"login"` // id of an open page
	URL     string  `json:"url"`   // in its place: the login link
	Referer *string `json:"referer"`
	AppID   string  `json:"app_id"`
	Scopes  *[]int  `json:"scopes"`
}

// open opens the link, coming from the host of its redirect_uri unless the
// request says otherwise.
func (in LoginRequest) open(s *Server) (Login, error) {
	if in.URL == "" {
		return Login{}, errors.New("url is missing")
	}
	referer := ""
	if in.Referer != nil {
		referer = *in.Referer
	} else if u, err := url.Parse(in.URL); err == nil {
		referer = u.Query().Get("redirect_uri")
	}
	return s.OpenLogin(in.URL, referer)
}

func (in LoginRequest) id(s *Server) (string, error) {
	switch {
	case in.Login != "" && in.URL != "":
		return "", errors.New("login and url exclude each other")
	case in.Login != "":
		return in.Login, nil
	case in.URL == "":
		return "", errors.New("login or url is missing")
	}
	l, err := in.open(s)
	return l.ID, err
}

func (s *Server) controlConfirm(ctx context.Context, in LoginRequest) (any, error) {
	if in.AppID == "" {
		return nil, errors.New("app_id is missing")
	}
	id, err := in.id(s)
	if err != nil {
		return nil, err
	}
	var scopes []int
	if in.Scopes != nil {
		scopes = append([]int{}, *in.Scopes...)
	}
	return s.ConfirmLogin(ctx, id, in.AppID, scopes...)
}

// controlRelease releases one held event, or all.
func (s *Server) controlRelease(ctx context.Context, in struct {
	ID int `json:"id"`
}) (any, error) {
	ids := []int{in.ID}
	if in.ID == 0 {
		ids = nil
		for _, h := range s.HeldEvents() {
			ids = append(ids, h.ID)
		}
	}
	records := []PushRecord{}
	for _, id := range ids {
		record, err := s.ReleaseEvent(ctx, id)
		if errors.Is(err, ErrNoHeldEvent) {
			return nil, statusError{http.StatusNotFound, err}
		}
		if err != nil {
			return nil, err
		}
		records = append(records, record)
	}
	return map[string]any{"pushes": records}, nil
}

// listLogins lists pages, of one ?status= if asked.
func (s *Server) listLogins(r *http.Request) (any, error) {
	logins := s.Logins()
	if status := LoginStatus(r.URL.Query().Get("status")); status != "" {
		logins = slices.DeleteFunc(logins, func(l Login) bool { return l.Status != status })
	}
	if text := r.URL.Query().Get("limit"); text != "" {
		limit, err := strconv.Atoi(text)
		if err != nil || limit < 0 {
			return nil, errors.New("limit is no number")
		}
		logins = logins[max(len(logins)-limit, 0):]
	}
	return map[string]any{"logins": logins}, nil
}

func (s *Server) loginOperations() []operation {
	const link = `"url":"https://mp.weixin.qq.com/cgi-bin/componentloginpage?component_appid=…","referer":"https://wx.example.com/authorize"`
	accounts := func() (any, error) { return map[string]any{"accounts": s.LoginAccounts()}, nil }
	return []operation{
		read("logins", "login pages that were opened, oldest first: pending, confirmed, cancelled, spent", []string{"status", "limit"}, s.listLogins),
		write("POST", "logins", "opens a login link, as a browser that comes from referer (not given: from redirect_uri's host)", `{`+link+`}`,
			func(_ context.Context, in LoginRequest) (any, error) { return in.open(s) }),
		write("POST", "logins/confirm", "an account's administrator confirms on a login page; with url in place of login it is opened first",
			`{"login":"id",`+link+`,"app_id":"wx…","scopes":[1,2]}`, s.controlConfirm),
		write("POST", "logins/cancel", "the administrator cancels", `{"login":"id"}`,
			func(_ context.Context, in LoginRequest) (any, error) {
				id, err := in.id(s)
				if err == nil {
					err = s.CancelLogin(id)
				}
				return done, err
			}),
		read("login-accounts", "accounts that login pages offer", nil, func(*http.Request) (any, error) { return accounts() }),
		write("POST", "login-accounts", "adds or changes one; type as the auth_type that admits it alone: 1, 2, 4, 5, 8",
			`{"app_id":"wx…","type":2,"nick_name":"","user_name":"gh_…","scopes":[17,18]}`,
			func(_ context.Context, in LoginAccount) (any, error) {
				if err := s.SetLoginAccount(in); err != nil {
					return nil, err
				}
				return accounts()
			}),
		{Method: "DELETE", Path: "login-accounts", Does: "takes ?app_id= from the login pages", query: []string{"app_id"},
			do: func(r *http.Request, _ []byte) (any, error) {
				if appID := r.URL.Query().Get("app_id"); !s.RemoveLoginAccount(appID) {
					return nil, statusError{http.StatusNotFound, fmt.Errorf("no login account %q", appID)}
				}
				return accounts()
			}},
		read("held-events", "events that push_order event_held keeps back", nil,
			func(*http.Request) (any, error) { return map[string]any{"held_events": s.HeldEvents()}, nil }),
		write("POST", "held-events/release", "pushes the held event id, or all", `{"id":1}`, s.controlRelease),
	}
}
