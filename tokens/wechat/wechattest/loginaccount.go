package wechattest

import (
	"fmt"
	"slices"
)

// LoginAccount is an account whose administrator may log in on a login page.
type LoginAccount struct {
	AppID    string `json:"app_id"`
	Type     int    `json:"type"` // TypeOfficialAccount and the like; 0: TypeOfficialAccount
	NickName string `json:"nick_name"`
	UserName string `json:"user_name"` // its gh_ id; "": made from the appid
	Scopes   []int  `json:"scopes"`    // permission sets it can grant; null: those of its type
}

// DefaultLoginAccounts returns the accounts in use for zero Options.
func DefaultLoginAccounts() []LoginAccount {
	return []LoginAccount{
		{AppID: "wx1111111111111111", Type: TypeOfficialAccount, NickName: "模拟公众号甲"},
		{AppID: "wx2222222222222222", Type: TypeMiniProgram, NickName: "模拟小程序乙"},
		{AppID: "wx3333333333333333", Type: TypeOfficialAccount, NickName: "模拟公众号丙"},
		{AppID: "wx4444444444444444", Type: TypeMiniProgram, NickName: "模拟小程序丁"},
	}
}

func cloneAccounts(list []LoginAccount) []LoginAccount {
	out := make([]LoginAccount, 0, len(list))
	for _, a := range list {
		a.Scopes = slices.Clone(a.Scopes)
		out = append(out, a.complete())
	}
	return out
}

// complete fills in what zero fields stand for.
func (a LoginAccount) complete() LoginAccount {
	if a.Type == 0 {
		a.Type = TypeOfficialAccount
	}
	if a.NickName == "" {
		a.NickName = "账号 " + a.AppID
	}
	if a.UserName == "" {
		a.UserName = userNameFrom(a.AppID)
	}
	if a.Scopes == nil {
		a.Scopes = scopesOf(a.Type)
	}
	return a
}

func (a LoginAccount) check(componentAppID string) error {
	if !appIDForm.MatchString(a.AppID) || a.AppID == componentAppID {
		return fmt.Errorf("login account appid %q: must be wx and 16 hexadecimal digits, and not the component's", a.AppID)
	}
	if _, ok := authTypes[a.Type]; a.Type != 0 && (!ok || len(authTypes[a.Type]) != 1) {
		return fmt.Errorf("login account %s: type %d is not one of 1, 2, 4, 5, 8", a.AppID, a.Type)
	}
	for _, id := range a.Scopes {
		if id <= 0 {
			return fmt.Errorf("login account %s: permission set %d must be above 0", a.AppID, id)
		}
	}
	return nil
}

// SetLoginAccount adds an account to those that login pages offer, or changes
// it.
func (s *Server) SetLoginAccount(a LoginAccount) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := a.check(s.componentAppID); err != nil {
		return err
	}
	a = cloneAccounts([]LoginAccount{a})[0]
	if i := s.loginAccount(a.AppID); i >= 0 {
		s.loginAccounts[i] = a
		return nil
	}
	s.loginAccounts = append(s.loginAccounts, a)
	return nil
}

// RemoveLoginAccount takes an account from the login pages and reports whether
// it was there. Its authorization stays.
func (s *Server) RemoveLoginAccount(appID string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.loginAccount(appID)
	if i >= 0 {
		s.loginAccounts = slices.Delete(s.loginAccounts, i, i+1)
	}
	return i >= 0
}

// LoginAccounts returns the accounts that login pages offer.
func (s *Server) LoginAccounts() []LoginAccount {
	s.mu.Lock()
	defer s.mu.Unlock()
	return cloneAccounts(s.loginAccounts)
}

func (s *Server) loginAccount(appID string) int {
	return slices.IndexFunc(s.loginAccounts, func(a LoginAccount) bool { return a.AppID == appID })
}

// administered finds an account by its appid: one of the list, or one that
// authorized before, of which the type may not be known.
func (s *Server) administered(appID string) (LoginAccount, bool) {
	if i := s.loginAccount(appID); i >= 0 {
		return s.loginAccounts[i], true
	}
	if a := s.authorizers[appID]; a != nil {
		out := LoginAccount{AppID: appID, Type: a.kind, NickName: a.nickName, UserName: a.userName, Scopes: slices.Clone(defaultScopes)}
		if a.kind != 0 {
			out.Scopes = scopesOf(a.kind)
		}
		return out, true
	}
	return LoginAccount{}, false
}

// offered are the accounts that a login page shows.
func (s *Server) offered(l *login) []LoginAccount {
	if l.bizAppID != "" {
		if a, ok := s.administered(l.bizAppID); ok {
			return []LoginAccount{l.limit(a)}
		}
		return nil
	}
	var out []LoginAccount
	for _, a := range s.loginAccounts {
		if l.admits(a) {
			out = append(out, l.limit(a))
		}
	}
	return out
}

// admits reports whether the link lets an account authorize: biz_appid goes
// before auth_type, and an unknown type fits each.
func (l *login) admits(a LoginAccount) bool {
	if l.bizAppID != "" {
		return a.AppID == l.bizAppID
	}
	return a.Type == 0 || slices.Contains(authTypes[l.authType], a.Type)
}

// limit leaves only the permission sets that the link asks for, if it names any.
func (l *login) limit(a LoginAccount) LoginAccount {
	if len(l.categories) > 0 {
		a.Scopes = common(a.Scopes, l.categories)
	}
	return a
}
