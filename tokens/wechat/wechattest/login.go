package wechattest

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Paths of the login pages: WeChat's own, whose hosts are mp.weixin.qq.com,
// open.weixin.qq.com and mp.weixin.qq.com.
//
// https://developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/api/Before_Develop/Authorization_Process_Technical_Description.html
const (
	pathLoginPC        = "/cgi-bin/componentloginpage"
	pathLoginMobile    = "/wxaopen/safe/bindcomponent"
	pathLoginMobileOld = "/safe/bindcomponent"
)

// loginForms names the form of the link by its path.
var loginForms = map[string]string{pathLoginPC: "pc", pathLoginMobile: "mobile", pathLoginMobileOld: "mobile_old"}

// LoginStatus is what became of a login page.
type LoginStatus string

// What becomes of a login page. A page is spent when its pre_auth_code was used
// elsewhere or expired.
const (
	LoginPending   LoginStatus = "pending"
	LoginConfirmed LoginStatus = "confirmed"
	LoginCancelled LoginStatus = "cancelled"
	LoginSpent     LoginStatus = "spent"
)

// login is one login page that was opened.
type login struct {
	id, form    string
	opened      time.Time
	entry       string // host of the page that led here
	preAuthCode string
	redirectURI string
	authType    int // 0 only with a bizAppID
	bizAppID    string
	categories  []int
	status      LoginStatus
	appID       string // that authorized
}

// maxLogins bounds the memory of login pages.
const maxLogins = 10_000

// Reasons for which a login page is refused or does not go on.
const (
	RefusedComponent   = "component_appid"
	RefusedReferer     = "referer"
	RefusedRedirect    = "redirect_uri"
	RefusedUnknownCode = "pre_auth_code_invalid"
	RefusedUsedCode    = "pre_auth_code_used"
	RefusedExpiredCode = "pre_auth_code_expired"
	RefusedAuthType    = "auth_type"
	RefusedBizAppID    = "biz_appid"
	RefusedCategories  = "category_id_list"
	RefusedPage        = "login"   // the page is not known, as after a reset
	RefusedAccount     = "account" // none was picked, or none that the link admits
	RefusedScopes      = "scopes"  // by the control API only: the account cannot grant them
	RefusedClosed      = "closed"
)

// Refusal is WeChat's error page, as an error.
type Refusal struct {
	Reason  string // RefusedReferer and the like
	Chinese string // what the page says
	English string
}

// Error tells the reason and the English text.
func (r *Refusal) Error() string { return r.Reason + ": " + r.English }

func refuse(reason, chinese, english string) *Refusal { return &Refusal{reason, chinese, english} }

// openLogin checks a login link as WeChat does and makes its page. The order of
// the checks is not documented; the code comes last, so that a link that can
// never work does not use it up.
func (s *Server) openLogin(form string, query url.Values, referer string) (*login, *Refusal) {
	l := &login{
		form: form, opened: time.Now(), status: LoginPending,
		preAuthCode: query.Get("pre_auth_code"), bizAppID: query.Get("biz_appid"), redirectURI: query.Get("redirect_uri"),
	}
	if appID := query.Get("component_appid"); appID != s.componentAppID {
		return nil, refuse(RefusedComponent, "第三方平台 component_appid 不正确。", fmt.Sprintf("component_appid %q is unknown", appID))
	}
	for _, check := range []func() *Refusal{
		func() *Refusal { return l.readAuthType(query) },
		func() *Refusal { return l.readCategories(query) },
		func() *Refusal { return s.checkDomains(l, referer) },
		func() *Refusal { return s.checkPreAuthCode(l) },
	} {
		if refused := check(); refused != nil {
			return nil, refused
		}
	}
	l.id = s.values.hex(16)
	if s.knobs.PreAuthCodeUse == UseOnVisit {
		pre := s.preAuthCodes[l.preAuthCode]
		pre.used, pre.by = true, l.id
	}
	if len(s.loginOrder) >= maxLogins {
		delete(s.logins, s.loginOrder[0].id)
		s.loginOrder = slices.Delete(s.loginOrder, 0, 1)
	}
	s.logins[l.id] = l
	s.loginOrder = append(s.loginOrder, l)
	return l, nil
}

// readAuthType reads auth_type and biz_appid. The former must be there unless
// the latter is: older pages say that the two exclude each other.
func (l *login) readAuthType(query url.Values) *Refusal {
	text := query.Get("auth_type")
	if l.bizAppID != "" && !appIDForm.MatchString(l.bizAppID) {
		return refuse(RefusedBizAppID, "指定的授权帐号 biz_appid 不正确。", fmt.Sprintf("biz_appid %q is no appid", l.bizAppID))
	}
	if text == "" && l.bizAppID != "" {
		return nil
	}
	n, err := strconv.Atoi(text)
	if _, ok := authTypes[n]; err != nil || !ok {
		return refuse(RefusedAuthType, "授权帐号类型 auth_type 不正确。", fmt.Sprintf("auth_type %q is not one of 1, 2, 3, 4, 5, 6, 8", text))
	}
	l.authType = n
	return nil
}

func (l *login) readCategories(query url.Values) *Refusal {
	text := query.Get("category_id_list")
	if text == "" {
		return nil
	}
	for part := range strings.SplitSeq(text, "|") {
		id, err := strconv.Atoi(part)
		if err != nil || id <= 0 {
			return refuse(RefusedCategories, "权限集 category_id_list 不正确。", fmt.Sprintf("category_id_list %q: ids joined by | are wanted", text))
		}
		l.categories = append(l.categories, id)
	}
	return nil
}

// checkDomains applies WeChat's domain rule: the page with the link, known by
// its Referer, redirect_uri and the registered domain must agree. Without a
// registered domain in the knobs the two must agree with each other. Ports do
// not count.
func (s *Server) checkDomains(l *login, referer string) *Refusal {
	u, err := url.Parse(l.redirectURI)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		return refuse(RefusedRedirect, "授权后回调页 redirect_uri 不正确。", fmt.Sprintf("redirect_uri %q is no http or https URL", l.redirectURI))
	}
	if s.knobs.RedirectHTTPS && u.Scheme != "https" {
		return refuse(RefusedRedirect, "授权后回调页 redirect_uri 必须是 https 地址。", "redirect_uri must be https")
	}
	callback := strings.ToLower(u.Hostname())
	domain := strings.ToLower(s.knobs.LoginDomain)
	if domain == "" {
		domain = callback
	}
	if from, err := url.Parse(referer); err == nil {
		l.entry = strings.ToLower(from.Hostname())
	}
	entryFits := l.entry == domain || !s.knobs.LoginReferer
	if callback == domain && entryFits {
		return nil
	}
	reason := RefusedReferer
	if callback != domain {
		reason = RefusedRedirect
	}
	entry, english := l.entry, l.entry
	if entry == "" {
		entry, english = "空", "none"
	}
	return refuse(reason,
		fmt.Sprintf("请确认授权入口页所在域名，与授权后回调页所在域名相同，并且，此两者都必须与第三方平台的授权发起页域名相同。授权入口页所在域名：%s，授权后回调页所在域名：%s，授权发起页域名：%s",
			entry, callback, domain),
		fmt.Sprintf("the host of the page with the link (%s, by its Referer), of redirect_uri (%s) and the registered domain (%s) must be the same",
			english, callback, domain))
}

// checkPreAuthCode says whether the page may still go on.
//
// https://developers.weixin.qq.com/doc/oplatform/openApi/ticket-token/api_getpreauthcode
func (s *Server) checkPreAuthCode(l *login) *Refusal {
	pre := s.preAuthCodes[l.preAuthCode]
	switch {
	case pre == nil:
		return refuse(RefusedUnknownCode, "预授权码 pre_auth_code 无效，请重新发起授权。", "pre_auth_code is unknown")
	case pre.used && (l.id == "" || pre.by != l.id), l.status != LoginPending:
		return refuse(RefusedUsedCode, "预授权码 pre_auth_code 已被使用，请重新发起授权。", "pre_auth_code was used before")
	case !time.Now().Before(pre.expires):
		return refuse(RefusedExpiredCode, "预授权码 pre_auth_code 已过期，请重新发起授权。", "pre_auth_code is expired")
	}
	return nil
}
