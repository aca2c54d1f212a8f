package wechattest

import (
	"fmt"
	"slices"
	"strings"
)

// pendingLogin finds a page that may still be confirmed or cancelled.
func (s *Server) pendingLogin(id string) (*login, *Refusal) {
	l := s.logins[id]
	if l == nil {
		return nil, refuse(RefusedPage, "页面已失效，请重新发起授权。", "the login page is not known")
	}
	return l, s.checkPreAuthCode(l)
}

// confirmed is what Confirm leads to.
type confirmed struct {
	AuthorizeReply
	d delivery
}

// confirmLogin is the click on Confirm: the account authorizes the platform, or
// does so again. scopes nil means all that are offered; none at all means no
// API permission.
func (s *Server) confirmLogin(id, appID string, scopes []int) (confirmed, *Refusal) {
	var out confirmed
	if s.done {
		return out, refuse(RefusedClosed, "模拟器已关闭。", "simulator is closed")
	}
	l, refused := s.pendingLogin(id)
	if refused != nil {
		return out, refused
	}
	account, known := s.administered(appID)
	if !known || !l.admits(account) {
		return out, refuse(RefusedAccount, "请选择可以授权的帐号。", fmt.Sprintf("account %q cannot authorize on this page", appID))
	}
	account = l.limit(account)
	if scopes == nil {
		scopes = account.Scopes
	} else if extra := slices.DeleteFunc(slices.Clone(scopes), func(id int) bool { return slices.Contains(account.Scopes, id) }); len(extra) > 0 {
		return out, refuse(RefusedScopes, "权限集不正确。", fmt.Sprintf("%s cannot grant permission sets %v", appID, extra))
	}
	c := consent{
		preAuthCode: l.preAuthCode, login: l.id, nickName: account.NickName, kind: account.Type,
		scopes: append([]int{}, scopes...), noAPI: len(scopes) == 0,
	}
	event := "authorized"
	if a := s.authorizers[appID]; a == nil {
		c.userName = account.UserName
	} else if a.authorized {
		event = s.reauthorizeEvent(a.scopes, scopes)
	}
	authorization, err := s.consent(appID, true, c)
	if err != nil { // the checks above are its own, so this is not reached
		return out, refuse(RefusedAccount, "授权失败。", err.Error())
	}
	l.status, l.appID = LoginConfirmed, appID
	out.d = s.planEvent(event, &authorization, c)
	out.Authorization, out.Event = authorization, event
	if authorization.RedirectQuery != "" {
		out.RedirectURL = addQuery(l.redirectURI, authorization.RedirectQuery)
	}
	return out, nil
}

// reauthorizeEvent is the event of an account that is authorized and consents
// again; "" for none.
//
// https://developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/api/Before_Develop/authorize_event.html
func (s *Server) reauthorizeEvent(before, now []int) string {
	switch {
	case s.knobs.ReauthorizeEvent != ReauthorizeAsChanged:
		return s.knobs.ReauthorizeEvent
	case sameScopes(before, now):
		return ""
	default:
		return "updateauthorized"
	}
}

// cancelLogin is the click on Cancel. It uses the code up, since the scan that
// came before it did; the platform learns nothing.
func (s *Server) cancelLogin(id string) *Refusal {
	l, refused := s.pendingLogin(id)
	if refused != nil {
		return refused
	}
	pre := s.preAuthCodes[l.preAuthCode]
	pre.used, pre.by = true, l.id
	l.status = LoginCancelled
	return nil
}

// addQuery puts parameters behind those that a URI has of its own, which stay
// as they are.
func addQuery(uri, query string) string {
	uri, fragment, found := strings.Cut(uri, "#")
	switch {
	case !strings.Contains(uri, "?"):
		uri += "?"
	case !strings.HasSuffix(uri, "?") && !strings.HasSuffix(uri, "&"):
		uri += "&"
	}
	uri += query
	if found {
		uri += "#" + fragment
	}
	return uri
}
